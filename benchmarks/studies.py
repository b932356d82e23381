"""What studies of trainings share: data sets, folders, nnU-Net's commands, and how to go on.

A study trains on the first folds of nnU-Net's split, one run after the other, below one folder OUT.
It is resumed by being started again.
"""

import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from refsam3d_nnunet.crossval.dataset import read_json
from refsam3d_nnunet.crossval.folds import BEST, Fold, Method, Stage, set_torn_aside, stage_of
from refsam3d_nnunet.crossval.job import OPTIONS
from refsam3d_nnunet.demo.runner import run_command
from refsam3d_nnunet.files import write_json

CONFIGURATION = "3d_fullres"
FIRST_NUMBER = 501
# The plan decides on these; from outside they would contradict it in one run or another.
DECIDED = [f"REFSAM3D_{n}" for n in ("CHECKPOINT", "DECODER_CHECKPOINT", "TUNING", "PRESET")]
FOLDERS = ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")

Json = dict[str, Any]


def linked(data: Path, raw: Path) -> str:
    """Links a data set into nnUNet_raw, under the number that it had before.

    Returns:
        Its name there.

    Raises:
        FileNotFoundError: If it is no data set of nnU-Net's raw form.
        ValueError: If another data set of that name is linked there.
    """
    source = data.expanduser().resolve()
    if not (source / "dataset.json").is_file():
        raise FileNotFoundError(
            f"{data} has no dataset.json; --data wants a folder of nnU-Net's raw form"
        )
    raw.mkdir(parents=True, exist_ok=True)
    known = sorted(path.name for path in raw.glob("Dataset*"))
    # An own folder may be called DatasetXXX_Name already.
    label = re.sub(r"^Dataset\d{3}_", "", data.name)
    for name in known:
        if label_of(name) == label:
            if (raw / name).resolve() != source:
                raise ValueError(f"{raw / name} links to another data set than {source}")
            return name
    name = f"Dataset{FIRST_NUMBER + len(known)}_{label}"
    (raw / name).symlink_to(source)
    return name


def label_of(dataset: str) -> str:
    """What a page calls ``DatasetXXX_Name``."""
    return dataset.partition("_")[2]


def check_settings(path: Path, settings: Json) -> None:
    """Refuses to go on with other settings than those of the runs that are done.

    Raises:
        ValueError: If they differ; the message says in what.
    """
    before = read_json(path) if path.is_file() else {}
    differing = [
        f"{key}: {before[key]} there, {value} here"
        for key, value in settings.items()
        if before.get(key, value) != value
    ]
    if differing:
        raise ValueError(
            f"{path.parent} was begun with other settings ({'; '.join(differing)}); give another -o"
        )
    write_json(path, {**before, **settings})


@contextmanager
def as_environment(out: Path) -> Iterator[None]:
    """Gives this process the study's folders, for calls of nnU-Net that read them."""
    before = dict(os.environ)
    # nnU-Net counts torch's threads by its workers, which must not be none.
    os.environ.update(folders(out) | {"nnUNet_n_proc_DA": "1"})
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def folders(out: Path) -> dict[str, str]:
    """nnU-Net's three folders, as variables."""
    return {name: str(out / name) for name in FOLDERS}


def environment(out: Path, more: Mapping[str, str]) -> dict[str, str]:
    """The caller's environment, threads included, with folders of our own."""
    kept = {name: value for name, value in os.environ.items() if name not in DECIDED}
    trainers = str(Path(__file__).resolve().parent / "trainers")
    # Patches are drawn in the training's own process, or their seed would not count.
    fixed = {"nnUNet_extTrainer": trainers, "nnUNet_n_proc_DA": "0"}
    return {**kept, "nnUNet_def_n_proc": "1", **folders(out), **fixed, **more}


def nnunet(out: Path, log: str, command: Sequence[str], more: Mapping[str, str]) -> None:
    """Runs one of nnU-Net's commands with the study's environment.

    Args:
        out: The study's folder.
        log: Name of the log in ``out/logs``, to which the output is appended.
        command: Name without its prefix, and arguments.
        more: Variables beside those of :func:`environment`.

    Raises:
        RuntimeError: If it fails.
    """
    run(out, log, ["-m", "refsam3d_nnunet", *command], more)


def run(out: Path, log: str, arguments: Sequence[str], more: Mapping[str, str]) -> None:
    """Runs Python with the study's environment, as :func:`nnunet` does.

    Raises:
        RuntimeError: If it fails.
    """
    path = out / "logs" / f"{log}.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    whole = [sys.executable, *map(str, arguments)]
    if status := run_command(whole, environment(out, more), path, lambda line: None):
        raise RuntimeError(f"{' '.join(whole[1:5])} ended with exit status {status}; see {path}")


def plan_and_preprocess(
    name: str,
    out: Path,
    plans: str,
    *,
    spacing: Sequence[float] | None,
    memory: float | None,
    variables: Mapping[str, str],
) -> Json:
    """Plans a data set with RefSAM3DPlanner and preprocesses it, once.

    Args:
        name: ``DatasetXXX_Name``.
        out: The study's folder.
        plans: Name of the plans.
        spacing: Of 3d_fullres in mm; None leaves it to the planner.
        memory: Memory target in GB; None leaves it to the planner.
        variables: ``REFSAM3D_*``, what the planner is to decide on.

    Returns:
        Content of the plans.
    """
    folder = out / "nnUNet_preprocessed" / name
    number, log = name[7:10], f"{name}_prepare"
    if not (folder / "dataset_fingerprint.json").is_file():
        nnunet(out, log, ["extract_fingerprint", "-d", number, "-np", "1"], {})
    if not (folder / f"{plans}.json").is_file():
        command = ["plan_experiment", "-d", number, "-pl", "RefSAM3DPlanner"]
        command += ["-overwrite_plans_name", plans]
        command += ["-gpu_memory_target", str(memory)] if memory else []
        command += ["-overwrite_target_spacing", *map(str, spacing)] if spacing else []
        nnunet(out, log, command, variables)
    done = folder / "preprocessed"
    if not done.is_file():
        command = ["preprocess", "-d", number, "-plans_name", plans, "-c", CONFIGURATION]
        nnunet(out, log, [*command, "-np", "1"], {})
        done.touch()
    return read_json(folder / f"{plans}.json")


def first_folds(folder: Path, plan: Json, count: int = 1) -> list[Json]:
    """The first of nnU-Net's five folds, or what an earlier call has made of them.

    Args:
        folder: The data set's folder of preprocessed data.
        plan: Content of the plans by which it was preprocessed.
        count: How many folds are wanted.
    """
    path = folder / "splits_final.json"
    known = read_json(path) if path.is_file() else []
    if len(known) >= count:
        return known
    from nnunetv2.utilities.crossval_split import generate_crossval_split

    data = folder / plan["configurations"][CONFIGURATION]["data_identifier"]
    cases = sorted(path.stem for path in data.glob("*.pkl"))
    folds = generate_crossval_split(cases, seed=12345, n_splits=5)[len(known) : count]
    return known + [
        {part: [str(case) for case in fold[part]] for part in ("train", "val")} for fold in folds
    ]


def fold_of(out: Path, dataset: str, method: Method, number: int, cases: Sequence[str]) -> Fold:
    """Where a run's results lie, and which validation cases it needs.

    Args:
        out: The study's folder.
        dataset: ``DatasetXXX_Name``.
        method: Trainer and plans.
        number: Of the fold.
        cases: Names of its validation cases.
    """
    model = out / "nnUNet_results" / dataset / f"{method.name}__{CONFIGURATION}"
    ending = read_json(out / "nnUNet_raw" / dataset / "dataset.json")["file_ending"]
    return Fold(method, number, model, tuple(cases), ending)


def train(
    fold: Fold, out: Path, *, title: str, dataset: str, device: str, variables: Mapping[str, str]
) -> bool:
    """Does what is left of a run: trains it, goes on with it, or validates it.

    Args:
        fold: The run's fold.
        out: The study's folder.
        title: Of the run; also the name of its log.
        dataset: ``DatasetXXX_Name``.
        device: cpu, cuda or mps.
        variables: The run's schedule and seed.

    Returns:
        Whether it is finished.
    """
    set_torn_aside(fold)
    stage = stage_of(fold)
    if stage is not Stage.DONE:
        command = ["train", dataset, CONFIGURATION, str(fold.number), "-tr", fold.method.trainer]
        command += ["-p", fold.method.plans, "-device", device, *OPTIONS[stage]]
        attempt(out, title, command, variables, what=stage.value)
    if stage_of(fold) is not Stage.DONE:
        return False
    # Nothing is chosen on the validation cases, so the best epoch on their patches has no use.
    (fold.folder / BEST).unlink(missing_ok=True)
    return True


def attempt(
    out: Path, title: str, command: Sequence[str], variables: Mapping[str, str], *, what: str
) -> None:
    """Says what is run and runs it; a failure is told, and seen by what the run has left.

    Args:
        out: The study's folder.
        title: Of the run; also the name of its log.
        command: See :func:`nnunet`.
        variables: The run's schedule and seed.
        what: Is done, such as train.
    """
    print(f"{title}: {what}", flush=True)
    try:
        nnunet(out, title, command, variables)
    except RuntimeError as error:
        print(f"{title}: {error}", flush=True)


def schedule(*, epochs: int, iterations: int, val_iterations: int, seed: int) -> dict[str, str]:
    """Variables that give a training of any method its schedule and its seed."""
    return {
        "REFSAM3D_NUM_EPOCHS": str(epochs),
        "REFSAM3D_ITERATIONS_PER_EPOCH": str(iterations),
        "REFSAM3D_VAL_ITERATIONS": str(val_iterations),
        "BENCHMARK_SEED": str(seed),
    }


def run_all(
    runs: Iterable[Any], do: Callable[[Any], bool], after: Callable[[], None], out: Path
) -> int:
    """Does all runs, writes what is known after each, and says which failed.

    Args:
        runs: With a title each.
        do: Returns whether a run is finished.
        after: Writes the results.
        out: The study's folder.

    Returns:
        The program's exit status.
    """
    failed = []
    for one in runs:
        failed += [] if do(one) else [one.title]
        after()
    for title in failed:
        print(f"FAILED: {title}; see {out}/logs, and start again")
    return int(bool(failed))
