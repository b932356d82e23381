"""What is cross-validated, and how far each fold has come by what nnU-Net left in its folder."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

DEFAULT_PLANS = {"RefSAM3DTrainer": "RefSAM3DPlans"}
FINAL, LATEST, BEST = "checkpoint_final.pth", "checkpoint_latest.pth", "checkpoint_best.pth"
CHECKPOINTS = (FINAL, LATEST, BEST)  # in the order in which nnU-Net continues from them
_NAME = re.compile(r"(?!.*__)\w[\w.-]*")


class Stage(Enum):
    """What is left to do for a fold."""

    TRAIN = "train"
    CONTINUE = "continue"
    VALIDATE = "validate"
    DONE = "done"


@dataclass(frozen=True)
class Method:
    """A trainer with its plans.

    Attributes:
        trainer: Class name of the trainer.
        plans: Name of the plans.
    """

    trainer: str
    plans: str

    @property
    def name(self) -> str:
        """Name in folders and tables."""
        return f"{self.trainer}__{self.plans}"


@dataclass(frozen=True)
class Fold:
    """One fold of one method.

    Attributes:
        method: What is trained.
        number: Which fold.
        model: nnU-Net's folder of the model, which holds the folder of the fold.
        cases: Names of the validation cases.
        ending: Ending of their files, such as ``.nii.gz``.
        npz: Whether their probabilities are wanted too.
    """

    method: Method
    number: int
    model: Path
    cases: tuple[str, ...]
    ending: str
    npz: bool = False

    @property
    def folder(self) -> Path:
        """nnU-Net's folder of the fold."""
        return self.model / f"fold_{self.number}"

    @property
    def summary(self) -> Path:
        """What nnU-Net's validation has measured."""
        return self.folder / "validation" / "summary.json"

    @property
    def lock(self) -> Path:
        """File that is locked by whoever trains the fold."""
        return self.model / f".refsam3d_fold_{self.number}.lock"

    @property
    def title(self) -> str:
        """How to call it in front of a user."""
        return f"{self.method.name} fold {self.number}"


def parse_method(text: str) -> Method:
    """Reads ``TRAINER`` or ``TRAINER:PLANS``.

    Raises:
        ValueError: If it is neither, or a name could not be part of nnU-Net's folder names.
    """
    trainer, colon, plans = text.partition(":")
    plans = plans if colon else DEFAULT_PLANS.get(trainer, "nnUNetPlans")
    if not _NAME.fullmatch(trainer) or not _NAME.fullmatch(plans):
        raise ValueError(
            f"--trainers {text!r} is not TRAINER or TRAINER:PLANS, such as "
            "nnUNetTrainer:nnUNetResEncUNetMPlans"
        )
    return Method(trainer, plans)


def parse_folds(texts: Sequence[str]) -> list[int]:
    """Reads fold numbers and ranges such as ``0-4``, ``0 2`` or ``0,2``.

    Raises:
        ValueError: If one is no fold.
    """
    folds: set[int] = set()
    for text in ",".join(texts).split(","):
        match = re.fullmatch(r"(\d+)(?:-(\d+))?", text.strip())
        if not match or int(match[2] or match[1]) < int(match[1]):
            raise ValueError(f"--folds {' '.join(texts)}: {text!r} is no fold; give 0-4 or 0 2 3")
        folds.update(range(int(match[1]), int(match[2] or match[1]) + 1))
    return sorted(folds)


def stage_of(fold: Fold) -> Stage:
    """Tells what is left to do for a fold.

    A training is over when its last checkpoint is there and whole, a validation when its summary
    and its predictions, with probabilities if these are wanted, cover all validation cases.
    """
    if _is_whole(fold.folder / FINAL):
        return Stage.DONE if _is_validated(fold) else Stage.VALIDATE
    begun = any(_is_whole(fold.folder / name) for name in (LATEST, BEST))
    return Stage.CONTINUE if begun else Stage.TRAIN


def check_split(fold: Fold) -> None:
    """Refuses a fold that was trained with another split.

    Its model may have been trained on cases that are to be held out now.

    Raises:
        ValueError: If it was validated on cases that are not the fold's.
    """
    if not _is_whole(fold.folder / FINAL):
        return
    other = sorted(_measured(fold) - {case + fold.ending for case in fold.cases})
    if other:
        raise ValueError(
            f"{fold.title} was validated on {other[0]} and {len(other) - 1} more that are not in "
            f"this fold of splits_final.json: it was trained with another split, maybe on cases "
            f"that are held out now. Bring the old file back, or move {fold.folder} away."
        )


def set_torn_aside(fold: Fold) -> list[Path]:
    """Renames checkpoints that a killed training did not finish writing.

    nnU-Net would continue from them, and fail.

    Returns:
        The new names.
    """
    torn = []
    for name in CHECKPOINTS:
        path = fold.folder / name
        if path.is_file() and not _is_whole(path):
            torn.append(path.rename(path.with_name(f"{name}.torn")))
    return torn


def _is_whole(path: Path) -> bool:
    """Whether a .pth or .npz was written to its end, where the table of a zip file stands."""
    return path.is_file() and zipfile.is_zipfile(path)


def _is_validated(fold: Fold) -> bool:
    folder = fold.folder / "validation"
    wanted = {case + fold.ending for case in fold.cases}
    if not wanted <= _measured(fold) or not all((folder / name).is_file() for name in wanted):
        return False
    return not fold.npz or all(_has_probabilities(folder, case) for case in fold.cases)


def _measured(fold: Fold) -> set[str]:
    """Files of the cases that nnU-Net's validation has measured."""
    try:
        rows = json.loads(fold.summary.read_text(encoding="utf-8"))["metric_per_case"]
        return {Path(row["prediction_file"]).name for row in rows}
    except (OSError, ValueError, LookupError, TypeError):
        return set()


def _has_probabilities(folder: Path, case: str) -> bool:
    """Whether nnU-Net can ensemble a case: it wants the case's properties too, as .pkl."""
    return _is_whole(folder / f"{case}.npz") and (folder / f"{case}.pkl").is_file()
