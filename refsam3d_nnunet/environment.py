"""The environment variables, read in one place and checked at once."""

import math
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, fields
from difflib import get_close_matches
from pathlib import Path

from refsam3d_nnunet.config import TUNING_MODES, preset_named

PREFIX = "REFSAM3D_"
# Read elsewhere: folder of weights, those of the container, of crossval's jobs and of the tests.
_OTHERS = tuple(f"{PREFIX}{word}" for word in ("WEIGHTS", "CONTAINER_", "CROSSVAL_", "INSTALL_"))


@dataclass(frozen=True)
class Settings:
    """What a user asks for beside nnU-Net's own options; None where nothing was asked.

    Args:
        preset: ``REFSAM3D_PRESET``, size of the image encoder.
        checkpoint: ``REFSAM3D_CHECKPOINT``, file or name of the image encoder's weights.
        decoder_checkpoint: ``REFSAM3D_DECODER_CHECKPOINT``, file or name of weights of which
            SAM's mask decoder is taken.
        family: No variable: sam or vit, as found in the checkpoint.
        tuning: ``REFSAM3D_TUNING``, adapter, full or scratch.
        text_encoder: ``REFSAM3D_TEXT_ENCODER``, minilm, clip, a folder or a hub id.
        prompts_file: ``REFSAM3D_PROMPTS_FILE``, JSON file with phrases for the labels.
        prompts: ``REFSAM3D_PROMPTS``, the trained classes to predict, such as "liver;spleen".
        num_epochs: ``REFSAM3D_NUM_EPOCHS``.
        iterations_per_epoch: ``REFSAM3D_ITERATIONS_PER_EPOCH``.
        val_iterations: ``REFSAM3D_VAL_ITERATIONS``.
        initial_lr: ``REFSAM3D_INITIAL_LR``, learning rate after warm-up.
        slim_checkpoints: ``REFSAM3D_SLIM_CHECKPOINTS``, 1 or 0: leave the frozen encoder out.
        backbone: ``REFSAM3D_BACKBONE``, the frozen encoder of slim checkpoints, or its folder.
    """

    preset: str | None = None
    checkpoint: str | None = None
    decoder_checkpoint: str | None = None
    family: str | None = None
    tuning: str | None = None
    text_encoder: str | None = None
    prompts_file: Path | None = None
    prompts: str | None = None
    num_epochs: int | None = None
    iterations_per_epoch: int | None = None
    val_iterations: int | None = None
    initial_lr: float | None = None
    slim_checkpoints: bool | None = None
    backbone: Path | None = None

    def __post_init__(self) -> None:
        if self.preset is not None:
            preset_named(self.preset)
        if self.tuning is not None and self.tuning not in TUNING_MODES:
            raise ValueError(
                f"REFSAM3D_TUNING is {self.tuning!r}; there are {', '.join(TUNING_MODES)}."
            )

    def schedule(self) -> dict[str, float]:
        """The numbers of the schedule that were asked for."""
        asked = {
            "num_epochs": self.num_epochs,
            "iterations_per_epoch": self.iterations_per_epoch,
            "val_iterations": self.val_iterations,
            "initial_lr": self.initial_lr,
        }
        return {name: value for name, value in asked.items() if value is not None}


def weights_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Folder of pretrained weights: ``REFSAM3D_WEIGHTS``, else one in the user's cache.

    The cache is ``XDG_CACHE_HOME`` where that is an absolute path, else ``~/.cache``.
    """
    named = environ.get("REFSAM3D_WEIGHTS", "").strip()
    if named:
        return Path(named).expanduser().absolute()
    cache = Path(environ.get("XDG_CACHE_HOME", ""))
    return (cache if cache.is_absolute() else Path.home() / ".cache") / "refsam3d" / "weights"


def read_settings(environ: Mapping[str, str] = os.environ) -> Settings:
    """Reads the ``REFSAM3D_*`` variables; one of these that is empty counts as not set.

    Raises:
        ValueError: If a value is not one of those wanted, or there is no variable of that name;
            the message names the variable.
    """
    _refuse_unknown(environ)
    read = _Variables(environ)
    return Settings(
        preset=read.text("REFSAM3D_PRESET"),
        checkpoint=read.text("REFSAM3D_CHECKPOINT"),
        decoder_checkpoint=read.text("REFSAM3D_DECODER_CHECKPOINT"),
        tuning=read.text("REFSAM3D_TUNING"),
        text_encoder=read.text("REFSAM3D_TEXT_ENCODER"),
        prompts_file=read.path("REFSAM3D_PROMPTS_FILE"),
        prompts=read.text("REFSAM3D_PROMPTS"),
        num_epochs=read.count("REFSAM3D_NUM_EPOCHS"),
        iterations_per_epoch=read.count("REFSAM3D_ITERATIONS_PER_EPOCH"),
        val_iterations=read.count("REFSAM3D_VAL_ITERATIONS"),
        initial_lr=read.positive("REFSAM3D_INITIAL_LR"),
        slim_checkpoints=read.yes_or_no("REFSAM3D_SLIM_CHECKPOINTS"),
        backbone=read.path("REFSAM3D_BACKBONE"),
    )


def _refuse_unknown(environ: Mapping[str, str]) -> None:
    known = [f"{PREFIX}{one.name.upper()}" for one in fields(Settings) if one.name != "family"]
    for name in environ:
        ours = name.startswith(PREFIX) and not name.startswith(_OTHERS)
        if ours and name not in known:
            near = get_close_matches(name, known, n=1, cutoff=0.0)
            raise ValueError(
                f"There is no variable {name}, so it would be ignored; did you mean {near[0]}? "
                f"There are {', '.join(known)}. Unset it."
            )


class _Variables:
    """Values of variables in the form that is wanted, None where a variable is not set."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.environ = environ

    def text(self, name: str) -> str | None:
        return self.environ.get(name, "").strip() or None

    def path(self, name: str) -> Path | None:
        value = self.text(name)
        return Path(value).expanduser() if value else None

    def count(self, name: str) -> int | None:
        value = self.text(name)
        if value is None:
            return None
        if not value.isdecimal() or int(value) < 1:
            raise ValueError(f"{name} must be a positive whole number, got {value!r}.")
        return int(value)

    def positive(self, name: str) -> float | None:
        value = self.text(name)
        if value is None:
            return None
        with suppress(ValueError):
            if 0 < float(value) < math.inf:
                return float(value)
        raise ValueError(f"{name} must be a positive number, got {value!r}.")

    def yes_or_no(self, name: str) -> bool | None:
        value = self.text(name)
        if value not in (None, "0", "1"):
            raise ValueError(f"{name} must be 1 (yes) or 0 (no), got {value!r}.")
        return None if value is None else value == "1"
