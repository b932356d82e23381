"""Markdown of what benchmarks/pretraining.py measured."""

from pathlib import Path
from typing import Any

from page_text import counted, facts, folded, number, product, signed, table, write_part
from study_page import PAIR_HEAD, case_rows, footnote, mean_cell, pair_cells

from refsam3d_nnunet.comparison.paired import ALL

Json = dict[str, Any]


def write_markdown(result: Json, path: Path) -> None:
    """Writes a page, or the part of a page that is between the two markers.

    Raises:
        ValueError: If there is a page without the markers.
    """
    write_part(path, "pretraining", "Does pretraining help?", markdown(result))


def markdown(result: Json) -> str:
    """The result as Markdown: how it was made, then each data set."""
    settings, machine = result["settings"], result["machine"]
    steps = settings["epochs"] * settings["iterations"]
    seeds = len({run["seed"] for run in result["runs"]})
    versions = facts(machine)
    lines = [
        f"    {result['command']}",
        "",
        f"Machine: {versions}. Weights: `{result['checkpoint']}`, sha256 "
        f"`{settings['checkpoint_sha256']}`.",
        "",
        f"Budget of every run: {settings['epochs']} epochs of {settings['iterations']} steps, "
        f"{steps} steps. {counted(seeds, 'seed')}, the same for all modes, as are patches, "
        "their order, training cases, batch and architecture. Validation cases are those of "
        "nnU-Net's fold 0; schedule and settings were fixed before, and none was chosen on them. "
        "Dice is nnU-Net's, on whole volumes at their own spacing; the mean is over classes, then "
        "cases. Seconds per step include augmentation and a step's share of the validation "
        "patches.",
    ]
    for label in result["sets"]:
        lines += ["", *_set(result, label)]
    return "\n".join(lines) + "\n"


def _set(result: Json, label: str) -> list[str]:
    told = result["sets"][label]
    rows = [row for row in result["means"] if row["set"] == label]
    spacing, patch, token = (product(told[key]) for key in ("spacing", "patch", "token"))
    counts = ", ".join(
        f"{cases} ({len(names)})" if cases == "all" else cases
        for cases, names in told["train"].items()
    )
    lines = [
        f"## {label}",
        "",
        f"`{told['preset']}`, spacing {spacing} mm, patch {patch}, batch {told['batch']}, token "
        f"{token}; training cases: {counts}; {len(told['validation'])} validation cases.",
    ]
    if not rows:
        return [*lines, "", "No run is finished."]
    classes = [name for name in rows[0]["dice"] if name != ALL]
    head = ["training cases", "mode", "mean Dice", *classes, "s per step", "minutes", "tuned"]
    lines += ["", *table(head, [_mean_row(row, classes) for row in rows])]
    pairs = [pair for pair in result["pairs"] if pair["set"] == label]
    if pairs:
        head = ["training cases", *PAIR_HEAD, *classes]
        lines += ["", "Paired differences of Dice:", "", *table(head, _pair_rows(pairs, classes))]
        lines += ["", footnote(pairs)]
    return [*lines, "", *_details(result, label, classes)]


def _mean_row(row: Json, classes: list[str]) -> list[str]:
    values = [number(row["dice"][name]) for name in classes]
    cost = [f"{row['seconds_per_step']:.2f}", f"{row['seconds'] / 60:.1f}"]
    return [
        row["cases"],
        row["mode"],
        mean_cell(row),
        *values,
        *cost,
        f"{row['parameters_tuned'] / 1e6:.1f} M",
    ]


def _pair_rows(pairs: list[Json], classes: list[str]) -> list[list[str]]:
    rows = []
    for pair in pairs:
        if pair["class"] != ALL:
            continue
        named = {
            other["class"]: other["difference"]
            for other in pairs
            if all(other[key] == pair[key] for key in ("cases", "method", "baseline"))
        }
        rows.append([pair["cases"], *pair_cells(pair), *(signed(named[n]) for n in classes)])
    return rows


def _details(result: Json, label: str, classes: list[str]) -> list[str]:
    head, rows = ["training cases", "mode", "seed", "case", "mean", *classes], []
    for run in result["runs"]:
        if run["set"] == label:
            rows += case_rows(run, [run["cases"], run["mode"], str(run["seed"])], classes)
    chosen = [
        f"Training cases of {cases}: {', '.join(names)}."
        for cases, names in result["sets"][label]["train"].items()
        if cases != "all"
    ]
    return folded("Every case and class", [*table(head, rows), "", *chosen])
