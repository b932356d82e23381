"""The folder that `refsam3d evaluate` writes: metrics.csv and metrics.json."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from refsam3d_nnunet.evaluation.extra import crossval_extra
from refsam3d_nnunet.files import replacing, write_json

with crossval_extra():
    import pandas as pd

FORMAT = 1
TABLE = "metrics.csv"
INFO = "metrics.json"
COLUMNS = ("case", "fold", "label", "name", "metric", "value")
METRICS = (
    "dice",
    "nsd",
    "hd95",
    "assd",
    "volume_error",
    "volume_prediction",
    "volume_reference",
)


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Metrics of one method.

    Args:
        table: One row per case, class and metric, with the columns ``COLUMNS``: text, but for
            ``value``, float64. ``fold`` is empty where it is unknown; ``value`` is NaN where a
            metric is undefined and may be infinite.
        info: Content of metrics.json: definitions, units, tolerances, versions, means.
    """

    table: pd.DataFrame
    info: dict[str, Any]

    @property
    def cases(self) -> list[str]:
        """Cases in the order of the table."""
        return list(dict.fromkeys(self.table["case"]))

    @property
    def classes(self) -> list[str]:
        """Names of the classes in the order of dataset.json."""
        return list(dict.fromkeys(self.table["name"]))

    @property
    def folds(self) -> dict[str, str]:
        """Case -> fold, or an empty text where it is unknown."""
        return dict(zip(self.table["case"], self.table["fold"], strict=True))

    def values(self, metric: str) -> pd.DataFrame:
        """One metric as a grid.

        Args:
            metric: One of ``METRICS``.

        Returns:
            float64, cases x classes, in the order of :attr:`cases` and :attr:`classes`.

        Raises:
            ValueError: If the evaluation does not have the metric.
        """
        rows = self.table[self.table["metric"] == metric]
        if rows.empty:
            known = ", ".join(dict.fromkeys(self.table["metric"]))
            raise ValueError(f"There is no metric {metric!r}; there are {known}.")
        grid = rows.pivot(index="case", columns="name", values="value")
        return grid.reindex(index=self.cases, columns=self.classes)


def read_evaluation(folder: Path) -> Evaluation:
    """Reads what `refsam3d evaluate` wrote.

    Args:
        folder: Folder with metrics.csv and metrics.json.

    Raises:
        FileNotFoundError: If the folder, or one of the two files, is missing.
        ValueError: If a file is damaged, or of another format version.
    """
    for name in (TABLE, INFO):
        if not (folder / name).is_file():
            raise FileNotFoundError(
                f"{folder} has no {name}: it is not a folder that `refsam3d evaluate` finished."
            )
    return Evaluation(_read_table(folder / TABLE), _read_info(folder / INFO))


def write_evaluation(folder: Path, table: pd.DataFrame, info: Mapping[str, Any]) -> None:
    """Writes metrics.csv and metrics.json; what an earlier run left there is replaced.

    Args:
        folder: Made if missing.
        table: As in :class:`Evaluation`.
        info: As in :class:`Evaluation`; numbers that JSON does not have become null.

    Raises:
        ValueError: If the table's columns are not ``COLUMNS``.
        OSError: If the folder or a file cannot be written.
    """
    if list(table.columns) != list(COLUMNS):
        raise ValueError(f"The table has the columns {list(table.columns)}, want {COLUMNS}")
    folder.mkdir(parents=True, exist_ok=True)
    # Without metrics.json a folder counts as unfinished: a new table never meets old means.
    (folder / INFO).unlink(missing_ok=True)
    with replacing(folder / TABLE) as temporary:
        table.to_csv(temporary, index=False, lineterminator="\n")
    write_json(folder / INFO, without_nan(dict(info)))


def without_nan(content: Any) -> Any:  # noqa: ANN401 - whatever JSON holds
    """Replaces NaN and infinities by None, since JSON knows neither.

    Args:
        content: Nested dicts, lists and plain values.
    """
    if isinstance(content, Mapping):
        return {key: without_nan(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [without_nan(value) for value in content]
    if isinstance(content, float):
        return float(content) if math.isfinite(content) else None
    return content


def read_object(path: Path) -> dict[str, Any]:
    """Reads a JSON file that holds an object.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If it holds something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is no readable JSON ({error}).") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} must hold a JSON object, got {str(content)[:60]!r}.")
    return content


def _read_table(path: Path) -> pd.DataFrame:
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8")
        if list(table.columns) != list(COLUMNS):
            raise ValueError(f"its columns are {list(table.columns)}, want {list(COLUMNS)}")
        if not isinstance(table.index, pd.RangeIndex):  # what pandas makes of longer rows
            raise ValueError(f"it has rows of more than {len(COLUMNS)} values")
        if table.empty:
            raise ValueError("it has no rows")
        twice = table.duplicated(["case", "name", "metric"])
        if twice.any():
            row = table[twice].iloc[0]
            raise ValueError(f"{row['metric']} of {row['name']} in {row['case']} is there twice")
        table["value"] = table["value"].replace("", "nan").astype(float)
    except ValueError as error:  # pandas' own errors and those of the encoding are ValueErrors
        raise ValueError(f"{path} is no table of metrics: {error}.") from error
    return table


def _read_info(path: Path) -> dict[str, Any]:
    info = read_object(path)
    if info.get("format") != FORMAT:
        raise ValueError(
            f"{path} is of format {info.get('format')}, and this version of refsam3d_nnunet reads "
            f"format {FORMAT}: run `refsam3d evaluate` again."
        )
    return info
