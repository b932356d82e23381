"""Markdown that studies of trainings share: parts of pages, tables, paired differences."""

import math
from pathlib import Path
from typing import Any

from refsam3d_nnunet.comparison.paired import ALL
from refsam3d_nnunet.comparison.statistics import MIN_CASES
from refsam3d_nnunet.files import replacing

Json = dict[str, Any]


def write_part(path: Path, name: str, title: str, text: str) -> None:
    """Writes a page, or the part of a page that is between the two markers.

    Args:
        path: The page.
        name: Of the part, in its markers.
        title: Of a new page.
        text: Markdown of the part.

    Raises:
        ValueError: If there is a page without the markers.
    """
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    body = f"{begin}\n{text}{end}\n"
    page = f"# {title}\n\n{body}"
    if path.is_file():
        before, begun, rest = path.read_text(encoding="utf-8").partition(begin)
        _, ended, after = rest.partition(f"{end}\n")
        if not begun or not ended:
            raise ValueError(f"{path} lacks the lines {begin} and {end} to write between")
        page = before + body + after
    with replacing(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def table(head: list[str], rows: list[list[str]]) -> list[str]:
    """Lines of a table."""
    ruled = [f"| {' | '.join(cells)} |" for cells in (head, *rows)]
    return [ruled[0], f"|{'---|' * len(head)}", *ruled[1:]]


def facts(told: Json) -> str:
    """Names and values in a row, as of a machine."""
    return ", ".join(f"{key} {value}" for key, value in told.items())


def number(value: float | None) -> str:
    """Three digits; a dash where there is no value."""
    return "-" if value is None or math.isnan(value) else f"{value:.3f}"


def signed(value: float | None) -> str:
    """Three digits and the sign; a dash where there is no value."""
    return "-" if value is None or math.isnan(value) else f"{value:+.3f}"


def product(numbers: list[float]) -> str:
    """Extents along the axes."""
    return " x ".join(f"{n:g}" for n in numbers)


def mean_cell(row: Json) -> str:
    """Mean Dice, and that of each seed if there are several."""
    seeds = f" ({', '.join(map(number, row['by_seed']))})" if len(row["by_seed"]) > 1 else ""
    return f"**{number(row['dice'][ALL])}**{seeds}"


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


def folded(title: str, lines: list[str]) -> list[str]:
    """Lines that a reader has to open."""
    return [f"<details><summary>{title}</summary>", "", *lines, "", "</details>"]
