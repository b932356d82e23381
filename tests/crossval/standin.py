"""Leaves in a fold's folder what nnUNetv2_train would, in no time.

Takes the arguments of nnUNetv2_train. STANDIN names a JSON file, fold -> what goes wrong there:
{"0": {"at": 2, "how": "SIGKILL" | "hang" | "error", "times": 1}}.
"""

import argparse
import json
import os
import signal
import sys
import time
import zipfile
from datetime import datetime
from pathlib import Path

EPOCHS = int(os.environ.get("REFSAM3D_NUM_EPOCHS", "4"))


def main() -> None:
    args = _arguments()
    dataset = Path(os.environ["nnUNet_preprocessed"], args.dataset)
    model = Path(os.environ["nnUNet_results"], args.dataset) / "__".join(
        (args.tr, args.p, args.configuration)
    )
    folder = model / f"fold_{args.fold}"
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / f"training_log_{datetime.now():%Y_%m_%d_%H_%M_%S_%f}.txt"
    with (folder / "calls.txt").open("a") as calls:
        calls.write(" ".join(sys.argv[1:]) + "\n")
    if not args.val:
        write_debug(folder)
        train(folder, log, resumed=args.c, fold=args.fold)
    split = json.loads((dataset / "splits_final.json").read_text())[int(args.fold)]
    validate(folder, log, split, npz=args.npz)


def write_debug(folder: Path) -> None:
    steps = os.environ.get("REFSAM3D_ITERATIONS_PER_EPOCH", "250")
    debug = {"num_epochs": str(EPOCHS), "num_iterations_per_epoch": steps}
    (folder / "debug.json").write_text(json.dumps(debug))


def train(folder: Path, log: Path, *, resumed: bool, fold: str) -> None:
    latest = folder / "checkpoint_latest.pth"
    first = int(zipfile.ZipFile(latest).read("epoch")) if resumed else 0
    for epoch in range(first, EPOCHS):
        say(log, f"Epoch {epoch} ")
        trouble(folder, fold, epoch)
        say(log, f"train_loss {-0.1 * epoch} ")
        say(log, f"Pseudo dice [np.float32({0.2 * epoch}), np.float32(nan)] ")
        say(log, "Epoch time: 0.5 s ")
        checkpoint(latest, epoch + 1)
    checkpoint(folder / "checkpoint_final.pth", EPOCHS)
    latest.unlink()
    say(log, "Training done. ")


def validate(folder: Path, log: Path, split: dict, *, npz: bool) -> None:
    (folder / "validation").mkdir(exist_ok=True)
    rows = []
    for case in split["val"]:
        say(log, f"predicting {case} ")
        path = folder / "validation" / f"{case}.nii.gz"
        path.touch()
        if npz:
            checkpoint(folder / "validation" / f"{case}.npz", 0)  # any zip file will do
            (folder / "validation" / f"{case}.pkl").touch()
        rows.append({"prediction_file": str(path)})
    summary = {"metric_per_case": rows}
    (folder / "validation" / "summary.json").write_text(json.dumps(summary))
    say(log, "Validation complete ")
    say(log, "Mean Validation Dice:  0.75 ")


def trouble(folder: Path, fold: str, epoch: int) -> None:
    plan = json.loads(Path(os.environ["STANDIN"]).read_text()).get(fold)
    if plan is None or plan["at"] != epoch:
        return
    marks = len(list(folder.glob("trouble_*")))
    if marks >= plan.get("times", 1):
        return
    (folder / f"trouble_{marks}").touch()
    if plan["how"] == "error":
        raise RuntimeError("the loss is made of cheese")
    if plan["how"] == "hang":
        time.sleep(120)
    os.kill(os.getpid(), signal.SIGKILL)


def checkpoint(path: Path, epoch: int) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("epoch", str(epoch))


def say(log: Path, text: str) -> None:
    with log.open("a") as file:
        file.write(f"{datetime.now()}: {text}\n")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    for name in ("dataset", "configuration", "fold", "-tr", "-p", "-device", "-num_gpus"):
        parser.add_argument(name)
    for name in ("--c", "--val", "--npz"):
        parser.add_argument(name, action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()
