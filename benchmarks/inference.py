"""What nnU-Net's predictor takes for whole volumes, ours and nnU-Net's.

::

    python benchmarks/inference.py -o OUT                                  # untrained models
    python benchmarks/inference.py -o OUT -i IMAGES -m PlainConvUNet=FOLDER ours=FOLDER

writes OUT/inference.json and .md: seconds and peak of memory of `nnUNetv2_predict -npp 0 -nps 0`, a
process of its own with everything from imports to the written segmentations. FOLDER is a model
folder as nnU-Net lays them out, RESULTS/DATASET/TRAINER__PLANS__CONFIGURATION. Models take turns in
every round; ratios are to the first one. Without models, untrained ones are made, and without
images, volumes of noise.
"""

import argparse
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

# Nothing here imports torch: a child's peak of memory would start at this process' size.
import numpy as np

HERE = Path(__file__).parent
# A small process between: a child is charged with the memory that its parent had at its start.
BETWEEN = """
import resource, subprocess, sys
done = subprocess.run(sys.argv[1:])
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(used.ru_utime + used.ru_stime, used.ru_maxrss)
raise SystemExit(done.returncode)
"""
PREDICT = "from nnunetv2.inference.predict_from_raw_data import predict_entry_point as p; p()"
UNTRAINED = "Dataset999_Untrained"


class Cost(NamedTuple):
    """What a process took.

    Args:
        wall: Seconds.
        process: Seconds of computing, all threads together.
        peak_mb: Most memory that it held.
    """

    wall: float
    process: float
    peak_mb: float


def main() -> None:
    """Runs the measurements that the command line asks for."""
    args = _arguments()
    args.output.mkdir(parents=True, exist_ok=True)
    models = dict(one.split("=", 1) for one in args.models) or _untrained(args)
    images = args.images or _noise(args)
    costs: dict[str, list[Cost]] = {name: [] for name in models}
    for turn in range(args.repeats):
        for name, folder in models.items():
            out = args.output / "predictions" / name.replace("/", "_")
            shutil.rmtree(out, ignore_errors=True)
            costs[name].append(_cost(_command(Path(folder), images, out, args), Path(folder)))
            print(f"round {turn + 1}, {name}: {costs[name][-1].wall:.0f} s", flush=True)
    _write(args, models, images, costs)


def _command(model: Path, images: Path, out: Path, args: argparse.Namespace) -> list[str]:
    trainer, plans, configuration = model.name.split("__")
    command = [sys.executable, "-c", PREDICT, "-i", images, "-o", out, "-d", model.parent.name]
    command += ["-tr", trainer, "-p", plans, "-c", configuration, "-f", args.fold]
    command += ["-npp", 0, "-nps", 0, "-device", args.device]
    command += ["-step_size", args.step_size, "-chk", args.checkpoint, "--disable_progress_bar"]
    return [str(part) for part in [*command, *["--disable_tta"] * args.disable_tta]]


def _cost(command: list[str], model: Path) -> Cost:
    """Runs a command to its end, with nnU-Net's folders set for that model.

    Raises:
        RuntimeError: If it fails; with what it printed.
    """
    results = str(model.resolve().parents[1])
    names = ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")
    places = {**os.environ, **dict.fromkeys(names, results)}
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", BETWEEN, *command],
        env=places,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    wall = time.perf_counter() - start
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}\n{done.stdout}")
    seconds, kilobytes = map(float, done.stdout.split()[-2:])
    return Cost(wall, seconds, kilobytes / 1024)


def _untrained(args: argparse.Namespace) -> dict[str, str]:
    models = {}
    for name in args.networks:
        trainer = "RefSAM3DTrainer" if "vit" in name else "nnUNetTrainer"
        folder = args.output / "models" / name.replace("/", "_") / UNTRAINED
        folder /= f"{trainer}__Untrained__3d_fullres"
        command = [sys.executable, HERE / "untrained.py", "-o", folder, "--network", name]
        command += ["--patch", *args.patch, "--prompts", args.prompts]
        subprocess.run([str(part) for part in command], check=True)
        models[name] = str(folder)
    return models


def _noise(args: argparse.Namespace) -> Path:
    import nibabel as nib

    folder = args.output / "images"
    folder.mkdir(exist_ok=True)
    generator = np.random.default_rng(0)
    for i in range(args.volumes):
        volume = generator.standard_normal(args.shape, dtype=np.float32)
        image = nib.Nifti1Image(volume, np.diag([args.image_spacing] * 3 + [1.0]))
        nib.save(image, folder / f"noise{i}_0000.nii.gz")
    return folder


def _write(
    args: argparse.Namespace, models: dict[str, str], images: Path, costs: dict[str, list[Cost]]
) -> None:
    import torch
    from measuring import command, machine, summary, write_result

    base = next(iter(models))
    rows = {}
    for name, taken in costs.items():
        clock = [[getattr(one, args.clock) for one in each] for each in (taken, costs[base])]
        peaks = [max(one.peak_mb for one in costs[key]) for key in (name, base)]
        rows[name] = summary(*clock) | {"peak_mb": peaks[0], "peak_ratio": peaks[0] / peaks[1]}
        rows[name]["costs"] = [one._asdict() for one in taken]
    result = {
        "benchmark": "inference",
        "rows": rows,
        "volumes": len(list(images.glob("*_0000.*"))),
        "shape": None if args.images else args.shape,
        "mirroring": not args.disable_tta,
        "step_size": args.step_size,
        "repeats": args.repeats,
        "clock": args.clock,
        "trained": bool(args.models),
        "machine": machine(torch.device(args.device)),
        "command": command(),
    }
    write_result(args.output, "inference", result, markdown(result))


def markdown(result: dict[str, Any]) -> str:
    """The result as a table."""
    from measuring import footer, times
    from page_text import table

    size = (
        " x ".join(map(str, result["shape"])) + " voxels" if result["shape"] else "their own size"
    )
    lines = [
        f"{result['volumes']} volumes of {size}, "
        f"{'trained' if result['trained'] else 'untrained'} models, mirroring "
        f"{'on' if result['mirroring'] else 'off'}, step {result['step_size']}; medians of "
        f"{result['repeats']} rounds by {result['clock']} clock, imports included.",
        "",
    ]
    rows = []
    for name, row in result["rows"].items():
        low, high = row["ratio_spread"]
        ratio = f"{times(row['ratio'])} [{low:.2f}, {high:.2f}]"
        peak = f"{row['peak_mb']:.0f} MB, {times(row['peak_ratio'])}"
        rows.append([name, f"{row['seconds']:.1f} s", ratio, peak])
    head = ["model", "all volumes", "ratio", "peak of the process"]
    return "\n".join([*lines, *table(head, rows), *footer(result)])


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add("-o", dest="output", type=Path, required=True, metavar="OUT")
    add("-i", dest="images", type=Path, metavar="IMAGES", help="nnU-Net's names, *_0000.nii.gz")
    add("-m", dest="models", nargs="+", default=[], metavar="NAME=FOLDER", help="nnU-Net's first")
    add("--fold", default="0")
    add("--checkpoint", default="checkpoint_final.pth")
    add("--networks", nargs="+", default=["PlainConvUNet", "vit_s-scratch"], metavar="NAME")
    add("--patch", type=int, nargs=3, default=[64, 64, 64])
    add("--prompts", type=int, default=3)
    add("--volumes", type=int, default=1)
    add("--shape", type=int, nargs=3, default=[128, 128, 96])
    add("--image-spacing", type=float, default=0.8, help="mm; the models' is 1")
    add("--disable_tta", action="store_true")
    add("--step_size", type=float, default=0.5)
    add("--repeats", type=int, default=3)
    add("--clock", choices=("wall", "process"), default="wall", help="on a shared CPU: process")
    add("--device", default="cpu")
    return parser.parse_args()


if __name__ == "__main__":
    main()
