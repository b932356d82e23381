"""Plans, preprocesses and splits what is not yet."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from refsam3d_nnunet.crossval.dataset import N_SPLITS, SPLITS, Dataset, read_json
from refsam3d_nnunet.crossval.display import Display
from refsam3d_nnunet.crossval.folds import Method
from refsam3d_nnunet.demo.runner import run_command
from refsam3d_nnunet.files import write_json

PLANNERS = {
    "RefSAM3DPlans": "RefSAM3DPlanner",
    "RefSAM3DPlansM": "RefSAM3DPlannerM",
    "RefSAM3DPlansL": "RefSAM3DPlannerL",
    "RefSAM3DPlansXL": "RefSAM3DPlannerXL",
    "nnUNetPlans": "ExperimentPlanner",
    "nnUNetResEncUNetMPlans": "nnUNetPlannerResEncM",
    "nnUNetResEncUNetLPlans": "nnUNetPlannerResEncL",
    "nnUNetResEncUNetXLPlans": "nnUNetPlannerResEncXL",
}


def prepare(
    dataset: Dataset,
    methods: Sequence[Method],
    configuration: str,
    *,
    log: Path,
    display: Display,
    processes: int | None = None,
) -> None:
    """Plans and preprocesses what is missing, by nnU-Net's commands, and makes the splits.

    Args:
        dataset: What to prepare.
        methods: Whose plans are needed.
        configuration: Which must be in all plans.
        log: File for what the commands print.
        display: Is told about each command.
        processes: Of each command; nnU-Net's default if None.

    Raises:
        ValueError: If plans lack the configuration, cannot be made, or a command fails.
    """
    number = str(int(dataset.name[7:10]))
    some = [] if processes is None else ["-np", str(processes)]

    def nnunet(command: str, *arguments: str) -> None:
        _run([command, "-d", number, *arguments], log, display)

    if not (dataset.preprocessed / "dataset_fingerprint.json").is_file():
        nnunet("extract_fingerprint", "--verify_dataset_integrity", *some)
    for plans in dict.fromkeys(method.plans for method in methods):
        path = dataset.preprocessed / f"{plans}.json"
        if not path.is_file():
            nnunet("plan_experiment", "-pl", _planner(plans, path))
        folder = data_folder(path, configuration)
        _check_cascade(path, configuration, [m for m in methods if m.plans == plans], dataset)
        if not _is_preprocessed(dataset, folder):
            nnunet("preprocess", "-plans_name", plans, "-c", configuration, *some)
        following = _next_stage(path, configuration)
        # The validation of a cascade's first stage predicts for the cases of the second.
        if following and not _is_preprocessed(dataset, data_folder(path, following)):
            nnunet("preprocess", "-plans_name", plans, "-c", following, *some)
        _make_splits(dataset, folder)
    _tell_left_out(dataset, folder, display)  # all plans have the same cases


def data_folder(plans: Path, configuration: str) -> Path:
    """Folder of the preprocessed cases of a configuration.

    Raises:
        ValueError: If the plans do not have the configuration.
    """
    configurations = read_json(plans)["configurations"]
    owner = _owner_of_data(configurations, configuration)
    if owner is None:
        have = ", ".join(configurations)
        raise ValueError(f"-c {configuration!r} is not in {plans}; it has {have}")
    return plans.parent / configurations[owner]["data_identifier"]


def _owner_of_data(configurations: Mapping[str, Any], name: str | None) -> str | None:
    """The configuration that names the data of this one, itself or what it inherits from."""
    while name in configurations and "data_identifier" not in configurations[name]:
        name = configurations[name].get("inherits_from")
    return name if name in configurations else None


def _next_stage(plans: Path, configuration: str) -> str | None:
    """Configuration whose preprocessed data the next stage of a cascade is trained on, if any."""
    configurations = read_json(plans)["configurations"]
    return _owner_of_data(configurations, configurations.get(configuration, {}).get("next_stage"))


def _planner(plans: str, path: Path) -> str:
    if plans not in PLANNERS:
        raise ValueError(
            f"there are no plans {path}, and no planner is known to make them; run "
            "nnUNetv2_plan_experiment first"
        )
    return PLANNERS[plans]


def _check_cascade(
    plans: Path, configuration: str, methods: Sequence[Method], dataset: Dataset
) -> None:
    """Refuses a stage without the predictions of the one before, of which every case has one."""
    previous = read_json(plans)["configurations"][configuration].get("previous_stage")
    for method in methods if previous else ():
        before = dataset.results / f"{method.name}__{previous}"
        folder = before / "predicted_next_stage" / configuration
        missing = _cases_in_folds(dataset) - {path.stem for path in folder.glob("*")}
        if missing or not folder.is_dir():
            which = f"; {len(missing)} cases have none, {min(missing)} for one" if missing else ""
            raise ValueError(
                f"-c {configuration} needs the predictions of {previous} in {folder}{which}: run "
                f"all folds of `refsam3d crossval {dataset.name} -c {previous} --trainers "
                f"{method.trainer}:{method.plans}` first"
            )


def _cases_in_folds(dataset: Dataset) -> set[str]:
    """Cases of nnU-Net's splits; none before they are made."""
    path = dataset.preprocessed / SPLITS
    splits = read_json(path) if path.is_file() else []
    return {str(case) for split in splits for part in split for case in split[part]}


def _is_preprocessed(dataset: Dataset, folder: Path) -> bool:
    """Whether every training case is in the folder, and its ground truth where nnU-Net wants it."""
    truth = dataset.preprocessed / "gt_segmentations"
    if not folder.is_dir() or not truth.is_dir():
        return False
    if not dataset.raw.is_dir():  # only the preprocessed data were brought here
        return any(folder.iterdir())
    from nnunetv2.utilities.utils import get_identifiers_from_splitted_dataset_folder

    raw = read_json(dataset.raw / "dataset.json")
    cases = raw.get("dataset") or get_identifiers_from_splitted_dataset_folder(
        str(dataset.raw / "imagesTr"), raw["file_ending"]
    )
    there = {path.name for path in folder.iterdir()}
    return all(
        f"{case}.pkl" in there and (truth / f"{case}{raw['file_ending']}").is_file()
        for case in cases
    )


def _make_splits(dataset: Dataset, folder: Path) -> None:
    """Makes nnU-Net's splits before its trainings do, which would all write the file at once."""
    path = dataset.preprocessed / SPLITS
    if path.is_file():
        return
    from nnunetv2.training.dataloading.nnunet_dataset import infer_dataset_class
    from nnunetv2.utilities.crossval_split import generate_crossval_split

    cases = sorted(infer_dataset_class(str(folder)).get_identifiers(str(folder)))
    if len(cases) < N_SPLITS:
        raise ValueError(
            f"{dataset.name} has {len(cases)} training cases; {N_SPLITS} folds need as many"
        )
    splits = generate_crossval_split(cases, seed=12345, n_splits=N_SPLITS)
    plain = [{part: [str(case) for case in split[part]] for part in split} for split in splits]
    write_json(path, plain)


def _tell_left_out(dataset: Dataset, folder: Path, display: Display) -> None:
    """Says which cases are in no fold, such as those added after the splits were made."""
    left_out = sorted({path.stem for path in folder.glob("*.pkl")} - _cases_in_folds(dataset))
    if left_out:
        display.line(
            f"WARNING: {len(left_out)} training cases are in no fold of "
            f"{dataset.preprocessed / SPLITS}, {left_out[0]} for one: they are neither trained on "
            f"nor measured"
        )


def _run(arguments: Sequence[str], log: Path, display: Display) -> None:
    display.line(f"$ nnUNetv2_{' '.join(arguments)}")
    log.parent.mkdir(parents=True, exist_ok=True)
    last = [""]

    def on_line(line: str) -> None:
        last[:] = [line.strip()] if line.strip() else last

    command = [sys.executable, "-m", "refsam3d_nnunet", *arguments]
    status = run_command(command, os.environ, log, on_line)
    if status:
        raise ValueError(
            f"nnUNetv2_{arguments[0]} failed with exit status {status}: {last[0]} (log: {log})"
        )
