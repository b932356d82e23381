"""Hashes of the files in the store: computed once, and noted beside each file."""

from __future__ import annotations

import functools
from pathlib import Path

from refsam3d_nnunet.files import replacing, sha256_of


def record_hash(path: Path, sha256: str) -> None:
    """Notes a hash beside a file, as ``sha256sum`` does: ``sha256sum -c *.sha256`` checks it."""
    with replacing(_record(path)) as temporary:
        temporary.write_text(f"{sha256}  {path.name}\n", encoding="utf-8")


def recorded_hash(path: Path) -> str | None:
    """The hash that was noted when the file came here; None if there is none."""
    try:
        return _record(path).read_text(encoding="utf-8").split()[0]
    except (OSError, IndexError):
        return None


def remove(path: Path) -> None:
    """Deletes a file and the hash noted beside it."""
    path.unlink()
    _record(path).unlink(missing_ok=True)


def hash_once(path: Path) -> str:
    """Hashes a file; a second time in a process only if its size or date has changed.

    Raises:
        OSError: If it cannot be read.
    """
    status = path.stat()
    return _hash_of(path, status.st_size, status.st_mtime_ns)


@functools.cache
def _hash_of(path: Path, size: int, changed: int) -> str:
    return sha256_of(path)


def _record(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")
