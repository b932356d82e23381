"""Cross-validates RefSAM3D and nnU-Net with a short schedule, and kills trainings on the way.

::

    python benchmarks/crossval.py 4 -o OUT --epochs 20 --iterations 25 --kill 2

runs ``refsam3d crossval`` with RefSAM3DTrainer and nnU-Net's own trainer on all five folds,
sends SIGKILL to the jobs of as many trainings when these are half done, and writes
OUT/acceptance.json: the epochs that were trained twice, and the largest difference between our
Dice and that of nnUNetv2_accumulate_crossval_results. The exit status is 0 if everything was
resumed and the numbers agree.
"""

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from refsam3d_nnunet.crossval.dataset import find_dataset
from refsam3d_nnunet.crossval.job import read_attempts
from refsam3d_nnunet.files import write_json

TRAINERS = ("RefSAM3DTrainer", "nnUNetTrainerShort")
AGREE = 1e-6


def main() -> int:
    """Runs it and returns the exit status."""
    args = _arguments()
    out = args.out.resolve()
    environment = {
        **os.environ,
        "nnUNet_extTrainer": str(Path(__file__).parent / "trainers"),
        "REFSAM3D_NUM_EPOCHS": str(args.epochs),
        "REFSAM3D_ITERATIONS_PER_EPOCH": str(args.iterations),
        "REFSAM3D_VAL_ITERATIONS": str(args.val_iterations),
    }
    command = [sys.executable, "-m", "refsam3d_nnunet.cli", "crossval", args.dataset]
    command += ["-c", args.configuration, "-o", str(out), "-device", args.device]
    command += ["--trainers", *TRAINERS, "--folds", *args.folds, *args.others]
    started = time.monotonic()
    process = subprocess.Popen(command, env=environment)
    killed = _kill_some(process, out, args.kill, args.epochs)
    if process.wait():
        return process.returncode
    result = {
        "seconds": round(time.monotonic() - started),
        "epochs": args.epochs,
        "iterations": args.iterations,
        "killed": {str(folder): _epochs(folder) for folder in killed},
        "attempts": _attempts(out),
        "dice": _differences(out),
        "dataset": find_dataset(args.dataset).name,
    }
    write_json(out / "acceptance.json", result)
    print(json.dumps(result, indent=2))
    resumed = len(killed) == args.kill and all(
        told["twice"] <= 1 + _lost(args.epochs) for told in result["killed"].values()
    )
    return 0 if resumed and max(result["dice"].values()) <= AGREE else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("dataset")
    parser.add_argument("-o", dest="out", type=Path, required=True)
    parser.add_argument("-c", dest="configuration", default="3d_fullres")
    parser.add_argument("-device", default="cpu")
    parser.add_argument("--folds", nargs="+", default=["0-4"])
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--iterations", type=int, default=25)
    parser.add_argument("--val-iterations", type=int, default=5)
    parser.add_argument("--kill", type=int, default=2, help="trainings to kill")
    args, args.others = parser.parse_known_args()  # the rest is for refsam3d crossval
    return args


def _kill_some(process: subprocess.Popen, out: Path, count: int, epochs: int) -> list[Path]:
    """Kills the jobs of the first trainings that are half done, each once.

    Returns:
        nnU-Net's folders of the folds.
    """
    killed: list[Path] = []
    while process.poll() is None and len(killed) < count:
        time.sleep(1)
        for folder, job in _running(out):
            attempts = read_attempts(job)
            half = _epochs(folder)["begun"] > epochs // 2  # so the last checkpoint is written
            if half and len(attempts) == 1 and folder not in killed and len(killed) < count:
                os.kill(attempts[-1]["pid"], signal.SIGKILL)
                killed.append(folder)
                print(f"killed the job of {folder}", flush=True)
    return killed


def _running(out: Path) -> list[tuple[Path, Path]]:
    try:
        record = json.loads((out / "crossval.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return []
    return [
        (
            Path(method["model_folder"]) / f"fold_{number}",
            out / "jobs" / method["name"] / f"fold_{number}",
        )
        for method in record["methods"]
        for number, fold in method["folds"].items()
        if fold["state"] == "running"
    ]


def _lost(epochs: int) -> int:
    """Epochs between two checkpoints, which a kill may cost beside the one under way."""
    return max(1, epochs // 10) - 1


def _epochs(folder: Path) -> dict[str, int]:
    """How many epochs nnU-Net's logs begin, and how many of them for a second time."""
    logs = [log.read_text(encoding="utf-8") for log in folder.glob("training_log_*.txt")]
    begun = [int(n) for log in logs for n in re.findall(r": Epoch (\d+) *\n", log)]
    return {"begun": len(begun), "twice": len(begun) - len(set(begun))}


def _attempts(out: Path) -> dict[str, dict[str, int]]:
    record = json.loads((out / "crossval.json").read_text(encoding="utf-8"))
    return {
        method["name"]: {number: fold["attempts"] for number, fold in method["folds"].items()}
        for method in record["methods"]
    }


def _differences(out: Path) -> dict[str, float]:
    """Largest difference, over cases and classes, between our Dice and nnU-Net's."""
    from refsam3d_nnunet.evaluation.table import read_evaluation

    record = json.loads((out / "crossval.json").read_text(encoding="utf-8"))
    folds = "_".join(map(str, record["folds"]))
    found = {}
    for method in record["methods"]:
        merged = Path(method["model_folder"]) / f"crossval_results_folds_{folds}"
        summary = json.loads((merged / "summary.json").read_text(encoding="utf-8"))
        evaluation = read_evaluation(out / method["name"])
        dice = _by_case(evaluation.table)
        mean = summary["foreground_mean"]["Dice"]
        differences = [abs(evaluation.info["foreground_mean"]["dice"] - mean)]
        for row in summary["metric_per_case"]:
            case = Path(row["prediction_file"]).name.split(".")[0]
            for label, values in row["metrics"].items():
                name = "+".join(re.findall(r"\d+", label))
                differences.append(abs(values["Dice"] - dice[case, name]))
        # Where both masks are empty neither has a number, and their difference is NaN.
        found[method["name"]] = float(np.nanmax(differences))
    return found


def _by_case(table: Any) -> dict[tuple[str, str], float]:  # noqa: ANN401 - a pandas table
    rows = table[table["metric"] == "dice"]
    return {
        (case, str(label)): value
        for case, label, value in zip(rows["case"], rows["label"], rows["value"], strict=True)
    }


if __name__ == "__main__":
    sys.exit(main())
