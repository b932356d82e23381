"""A comparison as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from refsam3d_nnunet.comparison.paired import ALL

_COST_TITLES = {
    "hours": "Hours",
    "memory_gb": "Memory (GB)",
    "parameters": "Parameters (M)",
    "checkpoint_mb": "Checkpoint (MB)",
}


def markdown(info: dict[str, Any]) -> str:
    """The content of comparison.md.

    Args:
        info: Content of comparison.json.
    """
    metric, unit = info["metric"], f" in {info['unit']}" * bool(info["unit"])
    title = {"dice": "Dice", "volume_error": "absolute volume error"}.get(metric, metric.upper())
    folds = f"folds {', '.join(info['folds'])}" if info["folds"] else "folds unknown"
    parts = [
        f"# {title}{unit}: {' / '.join(info['methods'])}",
        f"{info['cases']} cases, {folds}; {info['better']} is better. "
        f"Baseline: {info['baseline']}.",
        "\n".join(f"- **{text}**" for text in info["warning"]),
        "## Means\n\n" + _means(info),
        f"## Differences from {info['baseline']}\n\n" + _pairs(info),
        _costs(info),
        _notes(info),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _means(info: dict[str, Any]) -> str:
    rows = [
        [name, *(_with_infinite(info["means"][method][name]) for method in info["methods"])]
        for name in [*info["classes"], ALL]
    ]
    return table(["class", *info["methods"]], rows)


def _with_infinite(mean: dict[str, Any]) -> str:
    missed = f" ({mean['infinite']} infinite left out)" if mean["infinite"] else ""
    return interval(mean["mean"], mean["low"], mean["high"]) + missed


def _pairs(info: dict[str, Any]) -> str:
    rows = [
        [
            pair["method"],
            pair["class"],
            str(pair["n"]),
            interval(pair["difference"], pair["low"], pair["high"], signed=True),
            _p(pair["p"]),
            _p(pair["p_holm"]),
            pair["verdict"],
        ]
        for pair in info["pairs"]
    ]
    titles = ["method", "class", "n", "difference [95 %]", "p", "p (Holm)", "verdict"]
    return table(titles, rows)


def _costs(info: dict[str, Any]) -> str:
    known = [key for key in _COST_TITLES if any(c[key] is not None for c in info["costs"].values())]
    if not known:
        return ""
    rows = [
        [method, *(_cost(key, info["costs"][method][key]) for key in known)]
        for method in info["methods"]
    ]
    return "## Costs\n\n" + table(["method", *(_COST_TITLES[key] for key in known)], rows)


def _notes(info: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in info["versions"].items())
    strata = "stratified by fold" if info["folds"] else "not stratified"
    unit = f" {info['unit']}" if info["unit"] else ""
    return (
        f"Intervals: 95 %, BCa bootstrap of the mean over cases, {strata}, {info['resamples']} "
        f"resamples, seed {info['seed']}, or Student's t where that reaches farther. p: Wilcoxon's "
        f"signed-rank test, two-sided; Holm's correction over the classes of all methods, and over "
        f"the methods for '{ALL}', the mean over the classes of a case. Verdicts: superior if the "
        f"interval shows a gain and p (Holm) is below 0.05; non-inferior if it shows no loss above "
        f"{info['margin']:g}{unit}; inferior if it shows a loss above that; inconclusive "
        f"otherwise. They are about these trained models on new cases, not about training "
        f"again.\n\n{versions}"
    )


def interval(
    mean: float | None, low: float | None, high: float | None, *, signed: bool = False
) -> str:
    """`0.8470 [0.8309, 0.8592]`, with a dash for what is undefined.

    Args:
        mean: Middle.
        low: Low end.
        high: High end.
        signed: Whether a plus is written.
    """
    form = "+.4f" if signed else ".4f"
    ends = "[-]" if low is None or high is None else f"[{low:{form}}, {high:{form}}]"
    return "-" if mean is None else f"{mean:{form}} {ends}"


def table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table.

    Args:
        titles: Of the columns.
        rows: Cells, as many as there are titles.
    """
    lines = [titles, ["---"] * len(titles), *rows]
    return "\n".join(
        "| " + " | ".join(c.replace("|", "\\|") for c in line) + " |" for line in lines
    )


def _p(value: float | None) -> str:
    if value is None:
        return "-"
    return "< 0.0001" if value < 1e-4 else f"{value:.4f}"


def _cost(key: str, value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value / 1e6:.2f}" if key == "parameters" else f"{value:.4g}"
