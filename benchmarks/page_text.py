"""Text of Markdown pages: tables, numbers, parts between markers."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from refsam3d_nnunet.files import replacing


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


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a table."""
    ruled = [f"| {' | '.join(cells)} |" for cells in (head, *rows)]
    return [ruled[0], f"|{'---|' * len(head)}", *ruled[1:]]


def facts(told: Mapping[str, Any]) -> str:
    """Names and values in a row, as of a machine."""
    return ", ".join(f"{key} {value}" for key, value in told.items())


def counted(amount: int, name: str) -> str:
    """A number of things: 1 seed, 2 seeds."""
    return f"{amount} {name}{'s' * (amount != 1)}"


def number(value: float | None) -> str:
    """Three digits; a dash where there is no value."""
    return "-" if value is None or math.isnan(value) else f"{value:.3f}"


def signed(value: float | None) -> str:
    """Three digits and the sign; a dash where there is no value."""
    return "-" if value is None or math.isnan(value) else f"{value:+.3f}"


def product(numbers: list[float]) -> str:
    """Extents along the axes."""
    return " x ".join(f"{n:g}" for n in numbers)


def folded(title: str, lines: list[str]) -> list[str]:
    """Lines that a reader has to open."""
    return [f"<details><summary>{title}</summary>", "", *lines, "", "</details>"]
