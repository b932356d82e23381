"""Files appear whole or not at all, and are known by their hash."""

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def remove_leftovers(path: Path) -> None:
    """Removes what a process that was killed while it was :func:`replacing` ``path`` has left."""
    for left in path.parent.glob(f".tmp.*.{path.name}"):
        left.unlink(missing_ok=True)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Gives a temporary name beside ``path``, and renames it to ``path`` if all went well.

    The ending stays, by which writers of images know the format.
    """
    temporary = path.with_name(f".tmp.{uuid.uuid4().hex}.{path.name}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, content: Any) -> None:  # noqa: ANN401 - whatever JSON holds
    """Writes JSON, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2), encoding="utf-8")


def link(source: Path, target: Path) -> None:
    """Links to a file or folder, or copies it where links are refused, as on Windows to most users.

    Folders above ``target`` are made.

    Raises:
        OSError: If it cannot be copied either.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        target.symlink_to(source)
    except OSError:
        if source.is_dir():
            shutil.copytree(source, target)
            return
        with replacing(target) as temporary:
            shutil.copyfile(source, temporary)


def sha256_of(*paths: str | Path) -> str:
    """Hashes files, one after the other; of a single file as ``sha256sum`` does.

    Raises:
        OSError: If one cannot be read.
    """
    digest = hashlib.sha256()
    for path in paths:
        with Path(path).open("rb") as stream:
            while chunk := stream.read(1 << 20):
                digest.update(chunk)
    return digest.hexdigest()
