"""crossval.json: what was asked for, and the state of every fold."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from refsam3d_nnunet.crossval.folds import Fold
from refsam3d_nnunet.crossval.job import read_attempts
from refsam3d_nnunet.files import write_json

RECORD = "crossval.json"
FORMAT = 1


class Record:
    """The content of crossval.json, written again at each change.

    Args:
        out: Folder of the cross-validation.
        asked: What was asked for.
        folds: All folds of all methods.

    Raises:
        ValueError: If the folder belongs to another data set or configuration.
    """

    def __init__(self, out: Path, asked: Mapping[str, Any], folds: Sequence[Fold]) -> None:
        self._path = out / RECORD
        self._out = out
        old = self._read()
        for key in ("dataset", "configuration"):
            if old and old.get(key) != asked[key]:
                raise ValueError(
                    f"{out} holds a cross-validation of {old.get('dataset')} "
                    f"{old.get('configuration')}, not of {asked['dataset']} "
                    f"{asked['configuration']}; choose another folder with -o"
                )
        known = {method["name"]: method["folds"] for method in old.get("methods", [])}
        self._methods: dict[str, dict[str, Any]] = {}
        for fold in folds:
            name, number = fold.method.name, str(fold.number)
            entry = self._methods.setdefault(
                name,
                {
                    "trainer": fold.method.trainer,
                    "plans": fold.method.plans,
                    "name": name,
                    "model_folder": str(fold.model),
                    "folds": {},
                },
            )
            before = known.get(name, {}).get(number, {})
            entry["folds"][number] = {
                "state": "waiting",
                "seconds": 0.0,
                "attempts": 0,
                "log": before.get("log"),
                "error": None,
                "job": before.get("job"),
            }
        self._asked = dict(asked)
        for fold in folds:
            self._count(fold)
        self._write()

    def folder(self, fold: Fold) -> Path:
        """Where the logs and notes of a fold's jobs go."""
        return self._out / "jobs" / fold.method.name / f"fold_{fold.number}"

    def job(self, fold: Fold) -> dict[str, str] | None:
        """``id`` and ``executor`` of the last job that was started for a fold."""
        return self._entry(fold)["job"]

    def state(self, fold: Fold) -> str:
        """State of a fold: waiting, running, done or failed."""
        return self._entry(fold)["state"]

    def log(self, fold: Fold) -> str | None:
        """The last log of a fold."""
        return self._entry(fold)["log"]

    def started(self, fold: Fold, job: Mapping[str, str], log: Path) -> None:
        """Notes that a job was started for a fold."""
        self._change(fold, state="running", job=dict(job), log=str(log), error=None)

    def ended(self, fold: Fold, state: str, error: str | None = None) -> None:
        """Notes that no job runs for a fold any more."""
        self._change(fold, state=state, error=error)

    def note(self, **more: Any) -> None:  # noqa: ANN401 - whatever JSON holds
        """Notes what else is worth keeping."""
        self._asked.update(more)
        self._write()

    def _entry(self, fold: Fold) -> dict[str, Any]:
        return self._methods[fold.method.name]["folds"][str(fold.number)]

    def _change(self, fold: Fold, **values: Any) -> None:  # noqa: ANN401
        self._entry(fold).update(values)
        self._count(fold)
        self._write()

    def _count(self, fold: Fold) -> None:
        attempts = read_attempts(self.folder(fold))
        seconds = sum(attempt["seconds"] for attempt in attempts)
        self._entry(fold).update(attempts=len(attempts), seconds=round(seconds, 1))

    def _read(self) -> dict[str, Any]:
        try:
            return json.loads(self._path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except ValueError as error:
            raise ValueError(f"{self._path} is damaged: {error}; move it away") from error

    def _write(self) -> None:
        content = {"format": FORMAT, **self._asked, "methods": list(self._methods.values())}
        write_json(self._path, content)
