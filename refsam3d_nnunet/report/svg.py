"""Turns figures of matplotlib into SVG that lives inside a page: its colours, fonts, tooltips.

Charts are drawn by matplotlib, which the package needs anyway: as vectors they stay sharp when
zoomed and printed, and the page needs no library of charts. What a page has and matplotlib lacks
is added here: colours that follow the light or dark theme, and a tooltip on every dot.
"""

from __future__ import annotations

import io
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.figure import Figure

TEXT = "#010203"
RULE = "#010204"
METHODS = tuple(f"#0102{i:02x}" for i in range(16, 24))
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "p")
# Colours that stand for those of the page's style sheet.
_THEME = {TEXT: "currentColor", RULE: "var(--rule)"} | {
    color: f"var(--method-{i})" for i, color in enumerate(METHODS)
}
_SVG = "http://www.w3.org/2000/svg"
_XLINK = "http://www.w3.org/1999/xlink"
_STYLE = {
    "svg.fonttype": "none",  # text that can be searched, in the font of the page
    "text.parse_math": False,  # names of cases and classes may have dollars
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "axes.edgecolor": TEXT,
    "legend.frameon": False,
}
_TEXT_KEYS = ("text.color", "axes.labelcolor", "xtick.color", "ytick.color")


@contextmanager
def drawing() -> Iterator[None]:
    """Surrounds the making of a figure and its :func:`to_svg`, with the settings of both."""
    with rc_context(_STYLE | dict.fromkeys(_TEXT_KEYS, TEXT)):
        yield


def to_svg(figure: Figure, label: str, tips: Mapping[str, Sequence[str]] | None = None) -> Markup:
    """Writes a figure as an SVG element for HTML.

    Args:
        figure: The figure, drawn within :func:`drawing`.
        label: What a screen reader says instead of it.
        tips: For the gid of a collection of dots, a tooltip for each dot.

    Raises:
        ValueError: If a collection has another number of dots than tooltips.
    """
    buffer = io.BytesIO()
    with rc_context({"svg.hashsalt": label}):  # ids of clips and markers, unique in the page
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    root = ET.fromstring(buffer.getvalue())
    for gid, texts in (tips or {}).items():
        _add_tips(root, gid, texts)
    _strip(root)
    _size(root)
    root.attrib.update({"role": "img", "aria-label": label})
    return Markup(_themed(_serialised(root)))  # ElementTree has escaped it


def _add_tips(root: ET.Element, gid: str, texts: Sequence[str]) -> None:
    group = root.find(f".//*[@id='{gid}']")
    dots = [] if group is None else list(group.iter(f"{{{_SVG}}}use"))
    if len(dots) != len(texts):
        raise ValueError(f"{gid} has {len(dots)} dots and {len(texts)} tooltips")
    for dot, text in zip(dots, texts, strict=True):
        ET.SubElement(dot, f"{{{_SVG}}}title").text = text


def _strip(root: ET.Element) -> None:
    """Removes what a page has only once: metadata, style, and ids that nothing points to."""
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in (f"{{{_SVG}}}metadata", f"{{{_SVG}}}style"):
                parent.remove(child)
    pointed = re.findall(r"#([\w-]+)", " ".join(v for e in root.iter() for v in e.attrib.values()))
    for element in root.iter():
        if element.get("id") not in pointed:
            element.attrib.pop("id", None)


def _size(root: ET.Element) -> None:
    """As wide as there is place, but hardly wider than drawn: text stays of the page's size."""
    width = float(root.attrib.pop("width").removesuffix("pt")) * 1.5
    root.attrib.pop("height")
    root.set("style", f"width:100%;max-width:{width:.0f}px")


def _serialised(root: ET.Element) -> str:
    for element in root.iter():
        element.tag = element.tag.removeprefix(f"{{{_SVG}}}")
        if link := element.attrib.pop(f"{{{_XLINK}}}href", None):
            element.set("href", link)
    root.attrib.pop("version", None)
    return ET.tostring(root, encoding="unicode")


def _themed(text: str) -> str:
    text = re.sub(r"'DejaVu Sans'[^;\"]*sans-serif", "var(--font)", text)
    return re.sub(r"#0102[0-9a-f]{2}", lambda match: _THEME.get(match[0], match[0]), text)
