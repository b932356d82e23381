"""Markdown of what benchmarks/presets.py found."""

from collections.abc import Mapping, Sequence
from typing import Any

from page_text import product, table

Json = dict[str, Any]


def markdown(rows: Mapping[str, list[Json]], growth: Sequence[Json], command: str) -> str:
    """The tables, with the command that made them.

    Args:
        rows: Of each data set, a row for each planner.
        growth: Operations of ours and of the U-Net, for each patch.
        command: Line that made them.
    """
    return "\n".join(
        [
            f"    {command}",
            "",
            "Configuration 3d_fullres, extents as depth x height x width, all classes with the "
            "background as prompts. GB is the estimated memory of a step. TFLOP are the "
            "operations of a forward of the whole batch. Spacings and shapes are rounded.",
            "",
            "### Without pretrained weights",
            "",
            *_table(rows, "ours", beside=True),
            "",
            "### SAM's ViT-B, tuning mode `adapter`",
            "",
            *_table(rows, "sam_b", beside=False),
            "",
            "### Operations over the patch",
            "",
            "A forward of one sample, one channel, three classes; `vit_s` with tokens of "
            "8 x 8 x 8, and PlainConvUNet as nnU-Net would plan it.",
            "",
            *_growth_table(growth),
            "",
        ]
    )


def _table(rows: Mapping[str, list[Json]], key: str, *, beside: bool) -> list[str]:
    head = ["data set", "planner", "patch", "batch", "token", "grid", "preset", "GB", "TFLOP"]
    if beside:
        head += ["nnU-Net's planner: patch, batch", "TFLOP"]
    cells = []
    for name, planned in rows.items():
        for i, row in enumerate(planned):
            told = "" if i else f"{name}: {product(row['spacing'])} mm, {product(row['shape'])}"
            one, other = row[key], row["theirs"]
            line = [told, f"`{row['planner']}`", product(one["patch"]), str(one["batch"])]
            line += [product(one["token"]), product(one["grid"]), f"`{one['preset']}`"]
            line += [f"{one['gb']:.1f}", f"{one['tflop']:.2g}"]
            if beside:
                size = f"{product(other['patch'])}, {other['batch']}"
                line += [f"`{other['planner']}`: {size}", f"{other['tflop']:.2g}"]
            cells.append(line)
    return table(head, cells)


def _growth_table(growth: Sequence[Json]) -> list[str]:
    head = ["patch", "tokens", "`vit_s`, TFLOP", "PlainConvUNet, TFLOP", "ratio"]
    cells = [
        [product(one["patch"]), str(one["tokens"]), f"{one['ours']:.2f}", f"{one['unet']:.2f}"]
        + [f"{one['ours'] / one['unet']:.2f}"]
        for one in growth
    ]
    return table(head, cells)
