"""Does pretraining help? Scratch against full and adapter tuning, at the same number of steps.

::

    python benchmarks/pretraining.py --data DIR --data DIR --checkpoint FILE -o OUT \
        --cases 5 all --epochs 20 --iterations 50 --memory 1 --spacing 4 4 4 --spacing 5 5 5

trains one model per data set, number of training cases, tuning mode and seed with nnU-Net's own
command, validates it on nnU-Net's own fold 0, and writes OUT/pretraining.json and
OUT/pretraining.md. All modes share preprocessed data, patch, batch, architecture, training cases,
schedule and seed. Runs go one after the other, those with few cases first. Started again with the
same OUT, finished runs are not repeated and a broken one goes on from its last checkpoint.
"""

import argparse
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import studies
import study_arguments
from pretraining_page import write_markdown
from pretraining_report import measured, summarise
from pretraining_sets import ALL, derived_plans, with_subset
from studies import CONFIGURATION, Json
from study_report import told_machine, told_set

from refsam3d_nnunet.config import TUNING_MODES
from refsam3d_nnunet.crossval.dataset import read_json
from refsam3d_nnunet.crossval.folds import Fold, Method, Stage, stage_of
from refsam3d_nnunet.files import sha256_of, write_json

TRAINER = "RefSAM3DTrainerSeeded"
BASE_PLANS = "RefSAM3DPretraining"


class Run(NamedTuple):
    """One training.

    Args:
        dataset: ``DatasetXXX_Name``.
        cases: How many training cases, or "all".
        mode: adapter, full or scratch.
        seed: Of fresh weights and patches.
    """

    dataset: str
    cases: str
    mode: str
    seed: int

    @property
    def plans(self) -> str:
        """Name of the plans, which tells apart what nnU-Net would write to the same folder."""
        return f"{BASE_PLANS}_{self.mode}_seed{self.seed}"

    @property
    def title(self) -> str:
        """How to call it; also the name of its log."""
        return f"{self.dataset}_{self.cases}_{self.mode}_seed{self.seed}"


def main() -> int:
    """Runs what is left of the study and returns the exit status."""
    args = _arguments()
    out = args.out.resolve()
    settings = _settings(args)
    out.mkdir(parents=True, exist_ok=True)
    studies.check_settings(out / "settings.json", settings)
    names = {data.name: studies.linked(data, out / "nnUNet_raw") for data in args.data}
    for (label, name), spacing in zip(names.items(), args.spacing, strict=True):
        _prepare(name, spacing, args, out)
        print(f"{label}: {name} is prepared", flush=True)
    write = partial(_write, args, out, settings, names)
    write()
    runs = in_order(list(names.values()), args.cases, args.modes, args.seeds)
    return studies.run_all(runs, partial(_train, args=args, out=out), write, out)


def in_order(
    datasets: Sequence[str], cases: Sequence[str], modes: Sequence[str], seeds: int
) -> Iterator[Run]:
    """Few cases first, and every mode once before any is repeated: a stop leaves whole rows."""
    for count in sorted(cases, key=lambda count: math.inf if count == ALL else int(count)):
        for seed in range(seeds):
            for dataset in datasets:
                for mode in modes:
                    yield Run(dataset, count, mode, seed)


def _settings(args: argparse.Namespace) -> Json:
    return {
        "checkpoint_sha256": sha256_of(args.checkpoint),
        "epochs": args.epochs,
        "iterations": args.iterations,
        "val_iterations": args.val_iterations,
        "memory": args.memory,
        "subset_seed": args.subset_seed,
        **study_arguments.spacing_settings(args),
    }


def _prepare(
    name: str, spacing: Sequence[float] | None, args: argparse.Namespace, out: Path
) -> None:
    """Plans and preprocesses a set once, and writes the splits and the plans of all runs."""
    folder = out / "nnUNet_preprocessed" / name
    weights = {"REFSAM3D_CHECKPOINT": str(args.checkpoint.resolve()), "REFSAM3D_TUNING": "full"}
    plan = studies.plan_and_preprocess(
        name, out, BASE_PLANS, spacing=spacing, memory=args.memory, variables=weights
    )
    splits = studies.first_folds(folder, plan)
    for run in in_order([name], args.cases, args.modes, args.seeds):
        splits, _ = with_subset(splits, run.cases, args.subset_seed)
        write_json(folder / f"{run.plans}.json", derived_plans(plan, run.plans, run.mode))
    write_json(folder / "splits_final.json", splits)


def _fold(run: Run, args: argparse.Namespace, out: Path) -> Fold:
    folder = out / "nnUNet_preprocessed" / run.dataset
    splits, number = with_subset(
        read_json(folder / "splits_final.json"), run.cases, args.subset_seed
    )
    method = Method(TRAINER, run.plans)
    return studies.fold_of(out, run.dataset, method, number, splits[number]["val"])


def _train(run: Run, args: argparse.Namespace, out: Path) -> bool:
    """Does what is left of a run; False if it failed."""
    variables = studies.schedule(
        epochs=args.epochs,
        iterations=args.iterations,
        val_iterations=args.val_iterations,
        seed=run.seed,
    )
    return studies.train(
        _fold(run, args, out),
        out,
        title=run.title,
        dataset=run.dataset,
        device=args.device,
        variables=variables,
    )


def _write(args: argparse.Namespace, out: Path, settings: Json, names: Mapping[str, str]) -> None:
    """Writes what is known so far."""
    sets, runs, steps = {}, [], args.epochs * args.iterations
    for label, name in names.items():
        folder = out / "nnUNet_preprocessed" / name
        plan = read_json(folder / f"{BASE_PLANS}.json")
        splits = read_json(folder / "splits_final.json")
        train = {
            cases: splits[with_subset(splits, cases, args.subset_seed)[1]]["train"]
            for cases in args.cases
        }
        told = told_set(plan["configurations"][CONFIGURATION])
        sets[label] = told | {"validation": splits[0]["val"], "train": train}
        for run in in_order([name], args.cases, args.modes, args.seeds):
            fold = _fold(run, args, out)
            if stage_of(fold) is Stage.DONE:
                told = {"set": label, "cases": run.cases, "mode": run.mode, "seed": run.seed}
                runs.append(told | measured(fold, steps))
    result = summarise(
        {
            "command": _command(args),
            "machine": told_machine(args.device),
            "checkpoint": args.checkpoint.name,
            "settings": settings,
            "sets": sets,
            "runs": runs,
        }
    )
    write_json(out / "pretraining.json", result)
    write_markdown(result, out / "pretraining.md")
    if args.write:
        write_markdown(result, args.write)


def _command(args: argparse.Namespace) -> str:
    """The command to show, without the folders of this machine."""
    words = ["python benchmarks/pretraining.py", *study_arguments.data_words(args)]
    words += ["--checkpoint", args.checkpoint.name, "-o OUT --cases", *args.cases]
    words += ["--modes", *args.modes]
    names = ("epochs", "iterations", "val_iterations", "memory", "seeds", "device")
    return " ".join(words + study_arguments.option_words(args, names))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    study_arguments.add_data_arguments(parser)
    add = parser.add_argument
    add("--checkpoint", type=Path, required=True, help="pretrained weights")
    add("--cases", nargs="+", default=["5", ALL], help="numbers of training cases, or all")
    add("--modes", nargs="+", default=["scratch", "full", "adapter"], choices=TUNING_MODES)
    add("--epochs", type=int, required=True)
    add("--iterations", type=int, required=True, help="training steps of an epoch")
    add("--seeds", type=int, default=1, help="repetitions of every run")
    add("--subset-seed", type=int, default=0, help="which cases are the few")
    args = study_arguments.parsed(parser)
    wrong = [cases for cases in args.cases if cases != ALL and not cases.isdecimal()]
    if wrong:
        parser.error(f"--cases: {wrong[0]!r} is neither a number nor all")
    return args


if __name__ == "__main__":
    sys.exit(main())
