"""Is RefSAM3D as accurate as nnU-Net, at equal steps and at equal time?

::

    python benchmarks/accuracy.py --data DIR --data DIR -o OUT --seeds 3 \
        --budget steps:400 --budget seconds:1800 --memory 1 --spacing 1 1 1 --spacing 4 4 4

trains RefSAM3D, nnU-Net's own trainer, and nnU-Net's U-Net with RefSAM3D's optimiser and schedule
with nnU-Net's own command, validates them on nnU-Net's own folds, of which --folds says how many,
and writes OUT/accuracy.json, OUT/accuracy.md and learning curves in OUT/images. All methods share
preprocessed data, patch, batch and seed. Runs go one after the other, the first fold and seed of
all first. Started again with the same OUT, finished runs are not repeated and a broken one goes on
from its last checkpoint. ``--take-over accuracy.json nnunet`` takes the trainings of a method from
another study of the same sets, such as benchmarks/results/accuracy.json, on as fast a machine.
"""

import argparse
import itertools
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import studies
import study_arguments
from accuracy_earlier import Earlier, Key, check_same_set, taken_over
from accuracy_page import write_markdown
from accuracy_plans import (
    CLOCKS,
    OURS,
    SIDES,
    TRAINERS,
    Budget,
    methods_for,
    parse_budget,
    plans_of_both,
    schedule_of,
    unet_architecture,
)
from accuracy_report import measured, speeds, summarise
from studies import CONFIGURATION, Json
from study_report import told_machine, told_set

from refsam3d_nnunet.crossval.dataset import read_json
from refsam3d_nnunet.crossval.folds import Fold, Method, Stage, stage_of
from refsam3d_nnunet.files import write_json

BASE_PLANS, UNET_PLANS = "RefSAM3DAccuracy", "UNetAccuracy"
PROBE = "probe"


class Run(NamedTuple):
    """One training.

    Args:
        dataset: ``DatasetXXX_Name``.
        method: Name of the method.
        budget: What it may spend.
        seed: Of fresh weights and patches.
        fold: Of nnU-Net's split.
    """

    dataset: str
    method: str
    budget: Budget
    seed: int
    fold: int

    @property
    def plans(self) -> str:
        """Name of the plans, which tells apart what nnU-Net would write to the same folder."""
        return plans_name(self.method, f"{self.budget.name}_seed{self.seed}")

    @property
    def key(self) -> Key:
        """As accuracy.json knows it."""
        return studies.label_of(self.dataset), self.method, self.budget.name, self.seed, self.fold

    @property
    def title(self) -> str:
        """How to call it; also the name of its log."""
        return f"{self.dataset}_{self.method}_{self.budget.name}_seed{self.seed}_fold{self.fold}"


def main() -> int:
    """Runs what is left of the study and returns the exit status."""
    args = _arguments()
    out = args.out.resolve()
    settings = _settings(args)
    earlier = taken_over(args.take_over, settings)
    out.mkdir(parents=True, exist_ok=True)
    studies.check_settings(out / "settings.json", settings)
    linked = [studies.linked(data, out / "nnUNet_raw") for data in args.data]
    names = {studies.label_of(name): name for name in linked}
    for (label, name), spacing in zip(names.items(), args.spacing, strict=True):
        _prepare(name, spacing, args, out)
        print(f"{label}: {name} is prepared", flush=True)
    write = partial(_write, args, out, settings, names, earlier)
    write()
    wanted = in_order(_methods(names, args, out), args.budget, args.seeds, args.folds)
    runs = (run for run in wanted if run.key not in earlier.runs)
    return studies.run_all(runs, partial(_train, args=args, out=out), write, out)


def plans_name(method: str, run: str) -> str:
    """Name of the plans of a run; baselines share theirs, since their trainers differ."""
    return f"{BASE_PLANS if method == OURS else UNET_PLANS}_{run}"


def in_order(
    methods: Mapping[str, Sequence[str]], budgets: Sequence[Budget], seeds: int, folds: int
) -> Iterator[Run]:
    """Every method, set and budget once before any is repeated: a stop leaves whole rows.

    Args:
        methods: Data set -> its methods.
        budgets: Those of every run.
        seeds: Repetitions.
        folds: Folds, all seeds of fold 0 first.
    """
    for fold, seed in itertools.product(range(folds), range(seeds)):
        for budget in budgets:
            for dataset, names in methods.items():
                for method in names:
                    yield Run(dataset, method, budget, seed, fold)


def _methods(names: Mapping[str, str], args: argparse.Namespace, out: Path) -> dict[str, list[str]]:
    return {
        name: methods_for(args.methods, read_json(out / "nnUNet_raw" / name / "dataset.json"))
        for name in names.values()
    }


def _settings(args: argparse.Namespace) -> Json:
    return {
        **study_arguments.weight_settings(args),
        "preset": args.preset,
        "memory": args.memory,
        "val_iterations": args.val_iterations,
        "device": args.device,
        "clock": args.clock,
        **study_arguments.spacing_settings(args),
    }


def _prepare(
    name: str, spacing: Sequence[float] | None, args: argparse.Namespace, out: Path
) -> None:
    """Plans and preprocesses a set once, writes the plans of all runs, and measures speeds."""
    folder = out / "nnUNet_preprocessed" / name
    base = studies.plan_and_preprocess(
        name,
        out,
        BASE_PLANS,
        spacing=spacing,
        memory=args.memory,
        variables=study_arguments.planner_variables(args),
    )
    write_json(folder / "splits_final.json", studies.first_folds(folder, base, args.folds))
    configuration = base["configurations"][CONFIGURATION]
    with studies.as_environment(out):
        unet, patch = unet_architecture(name, configuration["spacing"], configuration["patch_size"])
    ours, theirs = plans_of_both(base, unet, patch)
    runs = [f"{budget.name}_seed{seed}" for budget in args.budget for seed in range(args.seeds)]
    for run in [PROBE, *runs]:
        for method, plan in ((OURS, ours), ("nnunet", theirs)):
            named = plans_name(method, run)
            write_json(folder / f"{named}.json", {**plan, "plans_name": named})
    _probe(name, args, out)


def _probe(name: str, args: argparse.Namespace, out: Path) -> Json:
    """Seconds of a step of every method, measured once for each set."""
    path = out / PROBE / f"{name}.json"
    if not path.is_file():
        path.parent.mkdir(exist_ok=True)
        script = Path(__file__).resolve().with_name("accuracy_probe.py")
        methods = [
            f"{method}:{trainer}:{plans_name(method, PROBE)}"
            for method, trainer in TRAINERS.items()
            if method != SIDES
        ]
        options = ["-o", path, "--rounds", args.probe_steps, "--device", args.device]
        schedule = studies.schedule(epochs=1, iterations=1, val_iterations=1, seed=0)
        results = {"nnUNet_results": str(out / PROBE / "results")}
        command = [script, name, *methods, *options]
        studies.run(out, f"{name}_{PROBE}", command, schedule | results)
    return read_json(path)


def _steps(run: Run, args: argparse.Namespace, out: Path) -> tuple[int, int]:
    """Epochs of a run and steps of an epoch."""
    speed = speeds(_probe(run.dataset, args, out), args.clock)
    return schedule_of(run.budget.steps(speed)[run.method])


def _fold(run: Run, out: Path) -> Fold:
    splits = read_json(out / "nnUNet_preprocessed" / run.dataset / "splits_final.json")
    method = Method(TRAINERS[run.method], run.plans)
    return studies.fold_of(out, run.dataset, method, run.fold, splits[run.fold]["val"])


def _train(run: Run, args: argparse.Namespace, out: Path) -> bool:
    """Does what is left of a run; False if it failed."""
    epochs, iterations = _steps(run, args, out)
    variables = studies.schedule(
        epochs=epochs, iterations=iterations, val_iterations=args.val_iterations, seed=run.seed
    )
    return studies.train(
        _fold(run, out),
        out,
        title=run.title,
        dataset=run.dataset,
        device=args.device,
        variables=variables,
    )


def _write(
    args: argparse.Namespace,
    out: Path,
    settings: Json,
    names: Mapping[str, str],
    earlier: Earlier,
) -> None:
    """Writes what is known so far."""
    sets, runs, machine = {}, [], told_machine(args.device)
    for label, name in names.items():
        folder = out / "nnUNet_preprocessed" / name
        plan = read_json(folder / f"{plans_name(OURS, PROBE)}.json")
        splits = read_json(folder / "splits_final.json")
        probe = _probe(name, args, out)
        machine["threads"] = probe["threads"]  # OMP_NUM_THREADS or nnU-Net chose them
        methods = {name: _methods(names, args, out)[name]}
        here = []
        for run in in_order(methods, args.budget, args.seeds, args.folds):
            if run.key in earlier.runs:
                here.append(earlier.runs[run.key])
            elif stage_of(fold := _fold(run, out)) is Stage.DONE:
                of_run = {"set": label, "method": run.method, "budget": run.budget.name}
                here.append(of_run | {"seed": run.seed, "fold": run.fold} | measured(fold))
        # Of a set that was trained on fewer folds only these are told.
        folds = sorted({run["fold"] for run in here} or {0})
        sets[label] = told_set(plan["configurations"][CONFIGURATION]) | {
            "probe": speeds(probe, args.clock),
            "folds": {str(n): {part: len(splits[n][part]) for part in splits[n]} for n in folds},
        }
        if label in earlier.sets:
            check_same_set(label, sets[label], earlier.sets[label])
        runs += here
    result = summarise(
        {
            "command": _command(args),
            "machine": machine,
            "settings": settings,
            "methods": args.methods,
            "budgets": {budget.name: budget.text for budget in args.budget},
            "sets": sets,
            "runs": runs,
        }
    )
    write_json(out / "accuracy.json", result)
    for page in (out / "accuracy.md", args.write):
        if page:
            write_markdown(result, page)


def _command(args: argparse.Namespace) -> str:
    """The command to show, without the folders of this machine."""
    words = ["python benchmarks/accuracy.py", *study_arguments.data_words(args), "-o OUT"]
    words += ["--methods", *args.methods]
    words += [f"--budget {budget.text}" for budget in args.budget]
    for file, *methods in args.take_over:
        words += ["--take-over", Path(file).name, *methods]
    words += study_arguments.weight_words(args)
    names = (
        "seeds",
        "folds",
        "preset",
        "tuning",
        "memory",
        "val_iterations",
        "probe_steps",
        "device",
        "clock",
    )
    return " ".join(words + study_arguments.option_words(args, names))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    study_arguments.add_data_arguments(parser)
    add = parser.add_argument
    usual = [name for name in TRAINERS if name != SIDES]
    add("--methods", nargs="+", default=usual, choices=TRAINERS)
    add("--budget", type=parse_budget, action="append", required=True, help="may be repeated")
    add("--seeds", type=int, default=3, help="repetitions of every run")
    add("--folds", type=int, default=1, choices=range(1, 6), help="of nnU-Net's five")
    add("--preset", help="size of the image encoder; the planner's choice if not given")
    study_arguments.add_weight_arguments(parser)
    what = "an earlier accuracy.json, and methods not to train anew; may be repeated"
    add("--take-over", nargs="+", action="append", default=[], metavar="WORD", help=what)
    add("--probe-steps", type=int, default=10, help="steps by which speeds are measured")
    add("--clock", choices=CLOCKS, default="wall", help="process: for a CPU that others use too")
    parser.set_defaults(val_iterations=5)
    args = study_arguments.parsed(parser)
    if args.clock != "wall" and args.device != "cpu":
        parser.error("--clock process sees no other device than the CPU")
    if any(len(words) < 2 for words in args.take_over):
        parser.error("--take-over wants a file and the methods to take from it")
    return args


if __name__ == "__main__":
    sys.exit(main())
