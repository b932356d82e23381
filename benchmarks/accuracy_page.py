"""Markdown of what benchmarks/accuracy.py measured."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from accuracy_curves import draw, figure_of
from accuracy_plans import OURS, SIDES
from accuracy_report import MARGIN
from page_text import counted, facts, folded, number, product, signed, table, write_part
from study_page import PAIR_HEAD, case_rows, footnote, mean_cell, pair_cells

from refsam3d_nnunet.comparison.paired import ALL

RECIPES = {
    OURS: "RefSAM3DTrainer",
    "nnunet": "nnU-Net's own trainer: its U-Net, SGD with momentum and polynomial decay",
    "nnunet_adamw": "nnU-Net's U-Net with RefSAM3DTrainer's AdamW, warm-up, decay and constants",
    SIDES: "nnU-Net's U-Net with RefSAM3DTrainer's AdamW, warm-up, decay and constants, and its "
    "mirroring on sets whose labels name a side",
}

CLOCK_NOTES = {
    "wall": "Seconds are those that passed.",
    "process": "Seconds are the processor's, since other processes shared it: on one thread, what "
    "would have passed without them.",
}

Json = dict[str, Any]


def write_markdown(result: Json, path: Path) -> None:
    """Writes a page or the part of a page between the two markers, and the figures beside it.

    Raises:
        ValueError: If there is a page without the markers.
    """
    files = {label: figure_of(path, label) for label in result["sets"]}
    figures = {
        label: f"images/{file.name}" for label, file in files.items() if draw(result, label, file)
    }
    write_part(path, "accuracy", "Accuracy beside nnU-Net", markdown(result, figures))


def markdown(result: Json, figures: Mapping[str, str]) -> str:
    """The result as Markdown: how it was made, then each data set.

    Args:
        result: As summarised.
        figures: Data set -> its figure, for those that have one.
    """
    methods = [f"- `{name}`: {RECIPES[name]}." for name in result["methods"]]
    lines = [
        f"    {result['command']}",
        "",
        f"Machine: {facts(result['machine'])}.",
        "",
        *methods,
        "",
        *_taken_over(result["runs"]),
        *_how(result),
    ]
    for label in result["sets"]:
        lines += ["", *_set(result, label, figures.get(label))]
    return "\n".join(lines) + "\n"


def _taken_over(runs: list[Json]) -> list[str]:
    """Which trainings another study made, and on what."""
    lines = []
    others = [run for run in runs if "machine" in run]
    for machine in dict.fromkeys(facts(run["machine"]) for run in others):
        here = [run["method"] for run in others if facts(run["machine"]) == machine]
        counts = ", ".join(
            f"{counted(here.count(name), 'training')} of `{name}`" for name in dict.fromkeys(here)
        )
        lines += [f"Taken over from an earlier study: {counts}; {machine}.", ""]
    return lines


def _how(result: Json) -> list[str]:
    seeds = len({run["seed"] for run in result["runs"]})
    folds = max((len(told["folds"]) for told in result["sets"].values()), default=1)
    trainings = {training for row in result["means"] for training in map(tuple, row["trainings"])}
    some_have_fewer = any(len(row["trainings"]) < len(trainings) for row in result["means"])
    fewer = "of which some methods and sets have fewer"
    of_all = f", {fewer if some_have_fewer else 'the same for all methods'}"
    return [
        f"Budgets of a training: {', '.join(result['budgets'].values())}; {counted(seeds, 'seed')}"
        f"{f' and {folds} folds' * (folds > 1)}{of_all}. Of a budget in seconds, each method "
        "gets as many steps as it can take in that time by a probe in which all methods take "
        "steps in turn; its schedule is laid over exactly these steps, and the seconds it took in "
        f"the end are shown. {CLOCK_NOTES[result['settings']['clock']]} Validation "
        "patches are only watched, and do not count. Data, preprocessing, patch, batch, loss and "
        "sliding window are the same; RefSAM3DPlanner chooses the patch, nnU-Net's planner the "
        "U-Net for it. Augmentation is nnU-Net's, but where labels name a side RefSAM3D does not "
        "mirror across the patient's midline.",
        "",
        "Validation cases are those of nnU-Net's fold 0, and of further folds where a set says so; "
        "no training chooses anything by them. Dice is nnU-Net's, on whole volumes at their own "
        "spacing; the mean is over classes, then cases; in brackets that of each training, by "
        "fold, then seed. Differences are from each baseline, over cases, each case the mean over "
        "the folds and seeds that both have; what counts is the difference from the better one, "
        "which is marked by \\*. It is picked by its Dice on these very cases, which can only be "
        "to its advantage. Verdicts are for a "
        f"margin of {MARGIN:g}.",
    ]


def _set(result: Json, label: str, figure: str | None) -> list[str]:
    told = result["sets"][label]
    spacing, patch, token = (product(told[key]) for key in ("spacing", "patch", "token"))
    lines = [
        f"## {label}",
        "",
        f"Spacing {spacing} mm, patch {patch}, batch {told['batch']}; RefSAM3D is "
        f"`{told['preset']}` with tokens of {token}; {_cases(told['folds'])}. A step of the probe: "
        + ", ".join(f"{name} {told['probe'][name]:.2f} s" for name in result["methods"])
        + ".",
    ]
    rows = [row for row in result["means"] if row["set"] == label]
    if not rows:
        return [*lines, "", "No run is finished."]
    classes = [name for name in rows[0]["dice"] if name != ALL]
    named = result["budgets"]
    head = ["budget", "method", "mean Dice", *classes, "steps", "minutes", "CPU minutes", "tuned"]
    lines += ["", *table(head, [_mean_row(row, named, classes) for row in rows])]
    pairs = [pair for pair in result["pairs"] if pair["set"] == label]
    if pairs:
        head = ["budget", *PAIR_HEAD, "verdict", "trainings", *classes]
        lines += ["", "Paired differences of Dice:", ""]
        lines += [*table(head, _pair_rows(pairs, named, classes)), "", footnote(pairs)]
    if figure:
        text = "Pseudo Dice of the same few validation patches after every epoch"
        lines += ["", f"![{text}, {label}]({figure})", "", f"{text}."]
    return [*lines, "", *_details(result, label, classes)]


def _cases(folds: Json) -> str:
    """Numbers of training and validation cases of each fold, one fold or several."""
    cases = [
        f"{counted(fold['train'], 'training case')} and {counted(fold['val'], 'validation case')}"
        for fold in folds.values()
    ]
    if len(cases) == 1:
        return cases[0]
    return "; ".join(f"fold {n}: {text}" for n, text in zip(folds, cases, strict=True))


def _mean_row(row: Json, budgets: Json, classes: list[str]) -> list[str]:
    return [
        budgets[row["budget"]],
        row["method"],
        mean_cell(row),
        *(number(row["dice"][name]) for name in classes),
        str(row["steps"]),
        f"{row['seconds'] / 60:.1f}",
        f"{row['processor_seconds'] / 60:.1f}",
        f"{row['parameters_tuned'] / 1e6:.1f} M",
    ]


def _pair_rows(pairs: list[Json], budgets: Json, classes: list[str]) -> list[list[str]]:
    rows = []
    for pair in pairs:
        if pair["class"] != ALL:
            continue
        named = {
            other["class"]: other["difference"]
            for other in pairs
            if all(other[key] == pair[key] for key in ("budget", "baseline"))
        }
        cells = pair_cells(pair)
        cells[0] += " \\*" * pair["better"]
        told = [pair["verdict"], str(len(pair["trainings"]))]
        rows.append(
            [budgets[pair["budget"]], *cells, *told, *(signed(named[name]) for name in classes)]
        )
    return rows


def _details(result: Json, label: str, classes: list[str]) -> list[str]:
    head, rows = ["budget", "method", "fold", "seed", "case", "mean", *classes], []
    for run in result["runs"]:
        if run["set"] == label:
            training = [str(run["fold"]), str(run["seed"])]
            told = [result["budgets"][run["budget"]], run["method"], *training]
            rows += case_rows(run, told, classes)
    return folded("Every case and class", table(head, rows))
