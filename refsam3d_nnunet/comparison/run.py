"""`refsam3d compare`: from folders of metrics to tables of differences."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

from refsam3d_nnunet.comparison.compare import Comparison, compare
from refsam3d_nnunet.comparison.schedule import schedules_of
from refsam3d_nnunet.comparison.tables import markdown
from refsam3d_nnunet.evaluation.extra import crossval_extra
from refsam3d_nnunet.evaluation.table import read_evaluation, read_object
from refsam3d_nnunet.files import replacing, write_json

with crossval_extra():
    import pandas as pd

_log = logging.getLogger(__name__)


def run(args: argparse.Namespace) -> int:
    """Runs the command and returns its exit status.

    Raises:
        ValueError: If the methods cannot be compared; nothing is written then.
        OSError: If a file is missing or cannot be written.
    """
    folders = folders_of(args.methods)
    evaluations = {name: read_evaluation(folder) for name, folder in folders.items()}
    comparison = compare(
        evaluations,
        baseline=args.baseline,
        metric=args.metric,
        margin=args.margin,
        resamples=args.resamples,
        seed=args.seed,
        costs=read_object(args.costs) if args.costs else None,
        schedules=schedules_of(evaluations),
    )
    write_comparison(args.out, comparison)
    _log.info("%s", markdown(comparison.info))
    _log.info("Written to %s", args.out)
    return 0


def folders_of(methods: Sequence[str]) -> dict[str, Path]:
    """Takes `NAME=FOLDER` apart; a folder without a name has its own.

    Args:
        methods: As given on the command line.

    Raises:
        ValueError: If two have the same name, or a name or folder is empty.
    """
    folders: dict[str, Path] = {}
    for text in methods:
        name, equals, folder = text.partition("=")
        if not equals or Path(text).is_dir():
            name, folder = Path(text).resolve().name, text
        if not name or not folder:
            raise ValueError(f"Want NAME=FOLDER, got {text!r}.")
        if name in folders:
            raise ValueError(
                f"Two methods are called {name!r}: {folders[name]} and {folder}. Name them, "
                f"NAME=FOLDER."
            )
        folders[name] = Path(folder)
    return folders


def write_comparison(folder: Path, comparison: Comparison) -> None:
    """Writes comparison.json, .md and .csv, differences.csv and challenger.csv.

    Args:
        folder: Made if missing.
        comparison: What to write.

    Raises:
        OSError: If the folder or a file cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(f"Cannot write to {folder}: {error}.") from error
    # comparison.json last: where it is, the other files are of the same comparison.
    (folder / "comparison.json").unlink(missing_ok=True)
    for name, table in (
        ("comparison.csv", pd.DataFrame(comparison.info["pairs"])),
        ("differences.csv", comparison.differences),
        ("challenger.csv", _for_r(comparison.values)),
    ):
        with replacing(folder / name) as temporary:
            table.to_csv(temporary, index=False, lineterminator="\n")
    with replacing(folder / "comparison.md") as temporary:
        temporary.write_text(markdown(comparison.info), encoding="utf-8")
    write_json(folder / "comparison.json", comparison.info)


def _for_r(values: pd.DataFrame) -> pd.DataFrame:
    """R's numbers: it reads `Inf`, and takes `inf` for a text in older versions."""
    text = values["value"].map(repr).replace("inf", "Inf")
    return values.assign(value=text)
