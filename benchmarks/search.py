"""Which architecture and recipe learns fastest, on training cases alone.

::

    python benchmarks/search.py --data DIR --spacing 5 5 5 --preset vit_t --patch 40 40 48 \
        --steps 200 --variants shipped text=plain initial_lr=0.001 preset=vit_s -o OUT

trains each variant for a few steps with nnU-Net's own command on a part of the training cases of
fold 0, compares Dice and loss on patches of the others, and writes OUT/search.json and
OUT/search.md. The fold's validation cases are never looked at. A variant is ``shipped`` or
``NAME=VALUE``, joined by ``+``: any number of the architecture (lists as 16:32:64) or of the
schedule, the preset, or what benchmarks/trainers/refsam3d_variant.py knows. Started again with the
same OUT, finished runs are not repeated.
"""

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import studies
import study_arguments
from page_text import facts, number, product, signed, table, write_part
from redesign import redesigned
from studies import CONFIGURATION, Json
from study_report import told_machine

from refsam3d_nnunet.config import NetworkConfig
from refsam3d_nnunet.crossval.dataset import read_json
from refsam3d_nnunet.files import write_json
from refsam3d_nnunet.plans import DEFAULT_SCHEDULE

BASE_PLANS, TRAINER = "RefSAM3DSearch", "RefSAM3DTrainerVariant"
SHIPPED = "shipped"
EPOCHS = 4
# What the trainer of variants does, and the values that it knows; the rest is in the plan.
BY_TRAINER = {
    "text": ("plain", "random"),
    "phrases": ("one",),
    "depth": ("random",),
}


class Run(NamedTuple):
    """One training.

    Args:
        dataset: ``DatasetXXX_Name``.
        variant: What is changed.
        steps: Of the training.
        seed: Of fresh weights and patches.
    """

    dataset: str
    variant: str
    steps: int
    seed: int

    @property
    def plans(self) -> str:
        """Name of its plans, which names its folder."""
        return f"{BASE_PLANS}_{self.variant}_steps{self.steps}_seed{self.seed}"

    @property
    def title(self) -> str:
        """How to call it; also the name of its log."""
        return f"{self.dataset}_{self.variant}_steps{self.steps}_seed{self.seed}"


def main() -> int:
    """Runs what is left of the search and returns the exit status."""
    args = _arguments()
    out = args.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    kept = ("preset", "memory", "patch", "batch", "val_iterations", "device")
    settings = {name: getattr(args, name) for name in kept}
    settings |= study_arguments.weight_settings(args) | study_arguments.spacing_settings(args)
    studies.check_settings(out / "settings.json", settings)
    names = {data.name: studies.linked(data, out / "nnUNet_raw") for data in args.data}
    for name, spacing in zip(names.values(), args.spacing, strict=True):
        _prepare(name, spacing, args, out)
    runs = [
        Run(name, variant, args.steps, seed)
        for seed in range(args.seeds)
        for variant in args.variants
        for name in names.values()
    ]
    return studies.run_all(
        runs, partial(_train, args=args, out=out), partial(_write, runs, args, out), out
    )


def changed_plan(plan: Json, variant: str) -> Json:
    """A plan with the changes that a variant makes to it.

    Raises:
        ValueError: If the variant names something that there is not.
    """
    plan = json.loads(json.dumps(plan))
    configuration, schedule = plan["configurations"][CONFIGURATION], plan["refsam3d"]["schedule"]
    numbers = {field.name for field in dataclasses.fields(NetworkConfig)}
    for change in [] if variant == SHIPPED else variant.split("+"):
        name, _, value = change.partition("=")
        kwargs = configuration["architecture"]["arch_kwargs"]
        if value in BY_TRAINER.get(name, ()):
            continue
        if name == "preset":
            configuration |= redesigned(configuration, configuration["patch_size"], value)
        elif name in DEFAULT_SCHEDULE:
            schedule[name] = json.loads(value)
        elif name in numbers:
            numbered = [json.loads(one) for one in value.split(":")]
            kwargs[name] = numbered if isinstance(kwargs[name], list) else numbered[0]
        else:
            raise ValueError(f"--variants {variant}: there is no {change}")
    NetworkConfig.from_json(configuration["architecture"]["arch_kwargs"])
    return plan


def _prepare(
    name: str, spacing: Sequence[float] | None, args: argparse.Namespace, out: Path
) -> None:
    folder = out / "nnUNet_preprocessed" / name
    base = studies.plan_and_preprocess(
        name,
        out,
        BASE_PLANS,
        spacing=spacing,
        memory=args.memory,
        variables=study_arguments.planner_variables(args),
    )
    write_json(folder / "splits_final.json", studies.first_folds(folder, base))
    configuration = base["configurations"][CONFIGURATION]
    patch = args.patch or configuration["patch_size"]
    configuration |= {"batch_size": args.batch} | redesigned(configuration, patch, args.preset)
    for variant in args.variants:
        plan = changed_plan(base, variant)
        for seed in range(args.seeds):
            named = Run(name, variant, args.steps, seed).plans
            write_json(folder / f"{named}.json", {**plan, "plans_name": named})


def _record(run: Run, out: Path) -> Json:
    model = out / "nnUNet_results" / run.dataset / f"{TRAINER}__{run.plans}__{CONFIGURATION}"
    path = model / "fold_0" / "benchmark_run.json"  # of trainers/seeded.py
    return read_json(path) if path.is_file() else {"epochs": []}


def _train(run: Run, args: argparse.Namespace, out: Path) -> bool:
    """Trains a variant; False if that failed."""
    if len(_record(run, out)["epochs"]) < EPOCHS:
        variables = studies.schedule(
            epochs=EPOCHS,
            iterations=run.steps // EPOCHS,
            val_iterations=args.val_iterations,
            seed=run.seed,
        )
        command = ["train", run.dataset, CONFIGURATION, "0", "-tr", TRAINER, "-p", run.plans]
        command += ["-device", args.device, "--disable_checkpointing"]
        variables["BENCHMARK_VARIANT"] = run.variant
        studies.attempt(out, run.title, command, variables, what="train")
    return len(_record(run, out)["epochs"]) == EPOCHS


def _write(runs: Sequence[Run], args: argparse.Namespace, out: Path) -> None:
    """Writes what is known so far."""
    results = []
    for run in runs:
        record = _record(run, out)
        if len(record["epochs"]) == EPOCHS:
            results.append(run._asdict() | record)
    machine = told_machine(args.device)
    if results:
        machine["threads"] = told_threads(results)
    result = {"command": _command(args), "machine": machine, "runs": results}
    write_json(out / "search.json", result)
    for page in (out / "search.md", args.write):
        if page:
            write_part(page, args.part, "Search of architectures", markdown(result))


def told_threads(results: Sequence[Json]) -> int | str:
    """Threads of all trainings, which OMP_NUM_THREADS or nnU-Net's command has chosen."""
    threads = sorted({run["threads"] for run in results})
    return threads[0] if len(threads) == 1 else " or ".join(map(str, threads))


def markdown(result: Json) -> str:
    """The result as tables, one for each data set."""
    lines = [f"    {result['command']}", ""]
    lines += [f"Machine: {facts(result['machine'])}."]
    for dataset in dict.fromkeys(run["dataset"] for run in result["runs"]):
        runs = [run for run in result["runs"] if run["dataset"] == dataset]
        patch, batch = product(runs[0]["patch"]), runs[0]["batch"]
        steps = [sum(one["steps"] for one in runs[0]["epochs"][: i + 1]) for i in range(EPOCHS)]
        lines += ["", f"### {dataset[11:]}", "", f"Patch {patch}, batch {batch}.", ""]
        head = ["variant", "seed", *(f"Dice at {n}" for n in steps), f"loss at {steps[-1]}"]
        rows = [_row(run) for run in runs]
        lines += table([*head, "s per step", "parameters"], rows)
    return "\n".join(lines) + "\n"


def _row(run: Json) -> list[str]:
    epochs = run["epochs"]
    seconds = sum(one["processor_seconds"] for one in epochs)
    per_step = seconds / sum(one["steps"] for one in epochs)
    dice = [number(one["dice"]) for one in epochs]
    told = [run["variant"], str(run["seed"]), *dice, signed(epochs[-1]["loss"])]
    return [*told, f"{per_step:.2f}", f"{run['parameters'] / 1e6:.1f} M"]


def _command(args: argparse.Namespace) -> str:
    """The command to show, without the folders of this machine."""
    words = ["python benchmarks/search.py", *study_arguments.data_words(args)]
    words += ["--patch", *map(str, args.patch)] if args.patch else []
    words += ["--variants", *args.variants, "-o OUT"]
    words += study_arguments.weight_words(args)
    names = ("tuning", "preset", "memory", "batch", "steps", "val_iterations", "seeds", "device")
    return " ".join(words + study_arguments.option_words(args, names))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    study_arguments.add_data_arguments(parser)
    add = parser.add_argument
    add("--variants", nargs="+", default=[SHIPPED], metavar="NAME=VALUE")
    add("--preset", default="vit_t", help="size of the image encoder, also of --checkpoint's")
    study_arguments.add_weight_arguments(parser)
    add("--patch", type=int, nargs=3, help="the planner's if not given")
    add("--batch", type=int, default=2)
    add("--steps", type=int, default=200)
    add("--seeds", type=int, default=1, help="repetitions of every run")
    add("--part", default="search", metavar="NAME", help="of the page, between its markers")
    parser.set_defaults(val_iterations=16)
    args = study_arguments.parsed(parser)
    if args.steps < EPOCHS or args.steps % EPOCHS:
        parser.error(f"--steps must be a multiple of {EPOCHS}, got {args.steps}")
    return args


if __name__ == "__main__":
    sys.exit(main())
