"""Puts a user's data set into the demo's folder, with some cases held out, and only reads it."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK

from refsam3d_nnunet.demo.workspace import DATASET_ID, Workspace
from refsam3d_nnunet.files import link, replacing

# nnU-Net's cross-validation splits the training cases into five parts.
MIN_TRAIN = 5
MAX_LISTED = 5


@dataclass(frozen=True)
class Case:
    """One labelled case of a raw data set.

    Attributes:
        name: Identifier without channel number and file ending.
        images: A file for each channel.
        label: File of the label map.
    """

    name: str
    images: tuple[Path, ...]
    label: Path


def dataset_name(data: Path) -> str:
    """Name for a staged copy of ``data`` that nnU-Net accepts, ``DatasetXXX_Name``.

    Args:
        data: The user's folder.
    """
    stem = re.sub(r"^(Dataset|Task)\d+_", "", data.expanduser().resolve().name)
    stem = re.sub(r"[^A-Za-z0-9]+", "_", stem).strip("_") or "Data"
    return f"Dataset{DATASET_ID:03d}_{stem}"


def read_description(data: Path) -> dict:
    """Reads the ``dataset.json`` of a raw data set.

    Args:
        data: Folder in nnU-Net's raw form.

    Returns:
        The file's content.

    Raises:
        FileNotFoundError: If there is no such folder or no ``dataset.json`` in it.
        ValueError: If the file is not JSON, or not nnU-Net v2's description of a data set.
    """
    path = data.expanduser() / "dataset.json"
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} not found; --data wants a folder in nnU-Net's raw form with dataset.json, "
            "imagesTr and labelsTr"
        )
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not valid JSON: {error}") from error
    missing = {"channel_names", "labels", "file_ending"} - set(description)
    if missing or "background" not in description["labels"]:
        what = (
            f"lacks {', '.join(sorted(missing))}" if missing else "maps no name 'background' to 0"
        )
        raise ValueError(
            f"{path} {what}; nnU-Net v2 wants channel_names, labels (name to number) and "
            "file_ending (nnUNetv2_convert_MSD_dataset converts older data sets)"
        )
    return description


def read_cases(data: Path, description: dict) -> list[Case]:
    """Finds the labelled cases of a raw data set, in either of nnU-Net's two forms.

    Args:
        data: Folder in nnU-Net's raw form.
        description: Content of its ``dataset.json``.

    Returns:
        Cases sorted by name.

    Raises:
        FileNotFoundError: If files of a case are missing.
        ValueError: If there are too few cases to train and test on.
    """
    folder = data.expanduser().resolve()
    cases = _listed_cases(folder, description) or _numbered_cases(folder, description)
    missing = [str(f) for case in cases for f in (*case.images, case.label) if not f.is_file()]
    if missing:
        more = f" and {len(missing) - MAX_LISTED} more" if len(missing) > MAX_LISTED else ""
        raise FileNotFoundError(f"{data} lacks {', '.join(missing[:MAX_LISTED])}{more}")
    if len(cases) <= MIN_TRAIN:
        raise ValueError(
            f"{data} has {len(cases)} labelled cases; the demo needs at least {MIN_TRAIN + 1}, "
            f"{MIN_TRAIN} to train on (nnU-Net's five folds) and one to hold out"
        )
    return cases


def _listed_cases(folder: Path, description: dict) -> list[Case]:
    """Cases that the key ``dataset`` names file by file."""

    def locate(name: str) -> Path:
        return folder / os.path.expandvars(name)

    listed = description.get("dataset", {})
    return [
        Case(name, tuple(map(locate, listed[name]["images"])), locate(listed[name]["label"]))
        for name in sorted(listed)
    ]


def _numbered_cases(folder: Path, description: dict) -> list[Case]:
    """Cases in files ``imagesTr/NAME_0000.nii.gz``, one for each channel."""
    ending, n_channels = description["file_ending"], len(description["channel_names"])
    pattern = re.compile(r"(.+)_\d{4}" + re.escape(ending))
    images = folder / "imagesTr"
    found = [pattern.fullmatch(f.name) for f in images.iterdir()] if images.is_dir() else []
    return [
        Case(
            name,
            tuple(images / f"{name}_{channel:04d}{ending}" for channel in range(n_channels)),
            folder / "labelsTr" / f"{name}{ending}",
        )
        for name in sorted({match[1] for match in found if match})
    ]


def split_cases(cases: list[Case], seed: int = 0) -> tuple[list[Case], list[Case]]:
    """Holds out a tenth of the cases, 4 to 20, if enough stay to train on.

    Args:
        cases: At least six cases.
        seed: The same seed gives the same choice.

    Returns:
        Cases to train on and held-out cases, each sorted by name.
    """
    n_test = min(max(round(len(cases) / 10), 4), 20, len(cases) - MIN_TRAIN)
    order = np.random.default_rng(seed).permutation(len(cases))
    held_out = set(order[:n_test].tolist())
    train = [case for i, case in enumerate(cases) if i not in held_out]
    return train, [case for i, case in enumerate(cases) if i in held_out]


def stage_data(
    workspace: Workspace, description: dict, train: list[Case], test: list[Case]
) -> None:
    """Links the cases into the workspace as a raw data set with held-out cases.

    Args:
        workspace: Where to put them.
        description: Content of the original ``dataset.json``.
        train: Cases to train on.
        test: Held-out cases.

    Raises:
        ValueError: If the images are not volumes that SimpleITK reads.
    """
    _check_volume(train[0].images[0])
    ending = description["file_ending"]
    for part, cases in (("Tr", train), ("Ts", test)):
        for case in cases:
            for channel, image in enumerate(case.images):
                link(image, workspace.data / f"images{part}" / f"{case.name}_{channel:04d}{ending}")
            link(case.label, workspace.data / f"labels{part}" / f"{case.name}{ending}")
    staged = {key: value for key, value in description.items() if key != "dataset"}
    staged["numTraining"] = len(train)
    with replacing(workspace.data / "dataset.json") as temporary:
        temporary.write_text(json.dumps(staged, indent=2) + "\n", encoding="utf-8")


def _check_volume(path: Path) -> None:
    reader = SimpleITK.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise ValueError(f"{path} cannot be read by SimpleITK: {error}") from error
    if reader.GetDimension() != 3 or min(reader.GetSize()) < 2:
        raise ValueError(f"{path} has size {reader.GetSize()}; the demo wants volumes")
