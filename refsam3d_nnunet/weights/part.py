"""What has arrived of a file, kept beside its final name until it is whole."""

from __future__ import annotations

import json
import os
from pathlib import Path

from refsam3d_nnunet.files import write_json


class Part:
    """What has arrived of a file, beside its final name.

    Args:
        path: The final name.
        url: Where the file comes from; what another address sent is not continued.
    """

    def __init__(self, path: Path, url: str) -> None:
        self.file = path.with_name(f"{path.name}.part")
        self._notes = path.with_name(f"{path.name}.part.json")
        self._url = url

    def length(self) -> int:
        """Bytes that can be continued."""
        return self.file.stat().st_size if self.file.is_file() and self.validator() else 0

    def validator(self) -> str:
        """What tells this version of the file from others: a strong ETag or a date, or empty."""
        try:
            notes = json.loads(self._notes.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return ""
        return notes.get("validator", "") if notes.get("url") == self._url else ""

    def start(self, validator: str) -> None:
        """Forgets what has arrived, and notes which version comes now."""
        self.file.write_bytes(b"")
        write_json(self._notes, {"url": self._url, "validator": validator})

    def discard(self) -> None:
        """Deletes what has arrived."""
        self.file.unlink(missing_ok=True)
        self._notes.unlink(missing_ok=True)

    def rename_to(self, path: Path) -> None:
        """Gives the file its final name."""
        os.replace(self.file, path)
        self._notes.unlink(missing_ok=True)
