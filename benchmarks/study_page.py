"""Markdown that studies of trainings share: means, paired differences, values of cases."""

import math
from typing import Any

from page_text import number, signed

from refsam3d_nnunet.comparison.paired import ALL
from refsam3d_nnunet.comparison.statistics import MIN_CASES

Json = dict[str, Any]


def mean_cell(row: Json) -> str:
    """Mean Dice, and that of each training if there are several."""
    runs = f" ({', '.join(map(number, row['by_run']))})" if len(row["by_run"]) > 1 else ""
    return f"**{number(row['dice'][ALL])}**{runs}"


PAIR_HEAD = ["difference", "mean", "95 % interval", "p", "better in"]


def pair_cells(pair: Json) -> list[str]:
    """Cells of a paired difference of mean Dice, below ``PAIR_HEAD``."""
    better = sum(value > 0 for value in pair["by_case"].values())
    return [
        f"{pair['method']} - {pair['baseline']}",
        f"**{signed(pair['difference'])}**",
        _interval(pair),
        "" if pair["p"] is None else f"{pair['p']:.3f}",
        f"{better} of {pair['n']}",
    ]


def _interval(pair: Json) -> str:
    """The interval, or the range of the cases where they are too few for one."""
    if pair["low"] is not None:
        return f"{signed(pair['low'])} to {signed(pair['high'])}"
    values = list(pair["by_case"].values())
    return f"cases {signed(min(values))} to {signed(max(values))}"


def footnote(pairs: list[Json]) -> str:
    """What intervals and p of paired differences mean."""
    text = (
        "Intervals: bootstrap over cases, or Student's t where that is wider; p: Wilcoxon's "
        "signed-rank test, not adjusted. Both tell of other cases, not of other trainings: the "
        "randomness of the trainings themselves is not in them."
    )
    if any(pair["low"] is None for pair in pairs if pair["class"] == ALL):
        text += f" With fewer than {MIN_CASES} cases no interval is given, but the cases' range."
    return text


def case_rows(run: Json, told: list[str], classes: list[str]) -> list[list[str]]:
    """A row for each case of a run: what is told of the run, the case, mean Dice, each class."""
    rows = []
    for case, dice in run["dice"].items():
        values = [math.nan if dice[name] is None else dice[name] for name in classes]
        known = [value for value in values if not math.isnan(value)]
        mean = sum(known) / len(known) if known else math.nan
        rows.append([*told, case, number(mean), *map(number, values)])
    return rows
