"""Writes a submission folder, whole or not at all."""

from __future__ import annotations

import re
import shutil
import sys
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from refsam3d_nnunet.container.model import Model, copy_model
from refsam3d_nnunet.container.requirements import pinned
from refsam3d_nnunet.container.runtime import ENVIRONMENT
from refsam3d_nnunet.container.wheel import write_wheel

INFERENCE = "inference.py"
MODEL = "model"
_SCRIPTS = ("build.sh", "test_run.sh", "save.sh")
_PLACEHOLDER = re.compile(r"@([a-z]+)@")


@dataclass(frozen=True)
class Choices:
    """What inference.py is to do.

    Args:
        inputs: Input sockets, one per channel; none for the only one there is.
        output: Output socket.
        step_size: Step of the sliding window in patches.
        mirroring: Whether mirrored copies are predicted too.
    """

    inputs: tuple[str, ...]
    output: str
    step_size: float
    mirroring: bool


def write_folder(folder: Path, model: Model, choices: Choices) -> None:
    """Writes a submission folder.

    Args:
        folder: Must not exist, or be empty.
        model: What to submit.
        choices: What to do with it.

    Raises:
        ValueError: If the folder is in use, or wheel or checkpoints cannot be made.
        OSError: If a file is missing or cannot be written.
    """
    folder = folder.resolve()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder} is there and not empty; name a new folder.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = folder.with_name(f".tmp.{uuid.uuid4().hex}.{folder.name}")
    temporary.mkdir()
    try:
        write_wheel(temporary)
        _write_texts(temporary, folder.name, model, choices)
        copy_model(model, temporary / MODEL)
        _open_for_all(temporary)
        if folder.exists():
            folder.rmdir()
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _write_texts(folder: Path, name: str, model: Model, choices: Choices) -> None:
    lines = "\n".join(pinned()) + "\n"
    (folder / "requirements.txt").write_text(lines, encoding="utf-8")
    environment = " \\\n".join(f"    {name}={value}" for name, value in ENVIRONMENT.items())
    values = {
        "python": f"{sys.version_info.major}.{sys.version_info.minor}",
        "environment": environment.strip(),
        "image": _image_name(name),
        "model": f"{model.folder.resolve().parent.name}/{model.folder.resolve().name}",
    }
    for source in ("Dockerfile", "README.md", *_SCRIPTS):
        (folder / source).write_text(_filled(_packed(source), values), encoding="utf-8")
    (folder / ".dockerignore").write_text(_packed("dockerignore"), encoding="utf-8")
    folds = [path.parent.name.removeprefix("fold_") for path in model.checkpoints]
    constants = {
        "INPUTS": list(choices.inputs),
        "OUTPUT": choices.output,
        "FOLDS": [int(fold) if fold.isdecimal() else fold for fold in folds],
        "CHECKPOINT": model.checkpoints[0].name,
        "STEP_SIZE": choices.step_size,
        "MIRRORING": choices.mirroring,
    }
    script = _with_constants(_packed(INFERENCE), constants)
    (folder / INFERENCE).write_text(script, encoding="utf-8")


def _packed(name: str) -> str:
    """A file that comes with this package."""
    return (files("refsam3d_nnunet") / "container" / "files" / name).read_text(encoding="utf-8")


def _filled(text: str, values: Mapping[str, str]) -> str:
    return _PLACEHOLDER.sub(lambda match: values[match[1]], text)


def _with_constants(script: str, constants: Mapping[str, object]) -> str:
    """A script with other values of the constants at its top; their comments stay."""
    for name, value in constants.items():
        text = repr(value).replace("'", '"')
        script = re.sub(
            rf"^{name} = .+?(?=  #|$)",
            lambda _, line=f"{name} = {text}": line,
            script,
            count=1,
            flags=re.MULTILINE,
        )
    return script


def _image_name(folder: str) -> str:
    """A name that Docker takes, of the folder's."""
    return re.sub(r"[^a-z0-9]+", "-", folder.lower()).strip("-") or "refsam3d"


def _open_for_all(folder: Path) -> None:
    """The container's user is another one, whatever the umask here."""
    folder.chmod(0o755)
    for path in folder.rglob("*"):
        path.chmod(0o755 if path.is_dir() or path.name in _SCRIPTS else 0o644)
