"""How the cost of a training step grows with prompts, patch, tokens and channels.

::

    python benchmarks/scaling.py -o OUT --over prompts [--network vit_s-scratch] [--patch 64 64 64]

writes OUT/scaling-prompts.json and .md: seconds of a whole training step and what is kept between
forward and backward, for each value of one number while all others stay; and the exponent p of the
power law that fits best: the cost grows like that number to the power of p. All networks take turns
in every round; ratios are to the smallest value in the same round.
"""

import argparse
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from contenders import OURS, build
from contest import Contender, Problem, extent
from measuring import (
    command,
    footer,
    growth,
    interleaved,
    machine,
    peak_on_gpu,
    saved_bytes,
    summary,
    times,
    write_result,
)
from page_text import table

from refsam3d_nnunet.design import STEM_CHANNELS, window_size

MB = 2**20


class Axis(NamedTuple):
    """One number that grows.

    Args:
        head: What the values are.
        values: What is tried.
        vary: From the common problem and a value, the problem and the changed architecture.
        unit: What is counted; growth is fitted over it.
        size: From a value and the network's problem, how many there are.
    """

    head: str
    values: tuple[int, ...]
    vary: Callable[[Problem, int], tuple[Problem, dict[str, Any]]]
    unit: str
    size: Callable[[int, Problem], int]


def with_tokens(problem: Problem, token: int) -> tuple[Problem, dict[str, Any]]:
    """The same patch in cubic tokens of so many voxels along each axis."""
    halvings = token.bit_length() - 1
    d, h, w = (math.ceil(p / token) for p in problem.patch)
    return problem, {
        "token_size": [token] * 3,
        "window_size": window_size((d, h, w)),
        "stem_channels": STEM_CHANNELS[:halvings],
        "auxiliary_masks": min(2, halvings - 1),
    }


def with_stem(problem: Problem, channels: int) -> tuple[Problem, dict[str, Any]]:
    """Stem and decoder start with so many channels at full resolution and double them."""
    wider = [max(channels, own) for own in STEM_CHANNELS[1:3]]
    return problem, {"stem_channels": [channels, *wider]}


AXES = {
    "prompts": Axis(
        "prompts",
        (2, 8, 32, 104),
        lambda p, n: (replace(p, prompts=n), {}),
        "prompts",
        lambda n, _: n,
    ),
    "patch": Axis(
        "edge",
        (64, 96, 128, 160),
        lambda p, n: (replace(p, patch=(n, n, n)), {}),
        "voxels",
        lambda n, _: n**3,
    ),
    "tokens": Axis(
        "edge of a token",
        (32, 16, 8),
        with_tokens,
        "tokens",
        lambda n, problem: math.prod(math.ceil(p / n) for p in problem.patch),
    ),
    "channels": Axis(
        "modalities",
        (1, 2, 4, 8),
        lambda p, n: (replace(p, channels=n), {}),
        "input channels",
        lambda n, _: n,
    ),
    "stem": Axis("channels", (8, 16, 32), with_stem, "channels at full resolution", lambda n, _: n),
}


def main() -> None:
    """Runs the measurements that the command line asks for."""
    args = _arguments()
    device = torch.device(args.device)
    axis, problem = AXES[args.over], Problem(extent(args.patch), args.batch)
    values = args.values or axis.values
    rows, contenders = [], {}
    for value in values:
        varied, changes = axis.vary(problem, value)
        one = build(args.network, varied, device, **changes)
        rows.append({"value": value, "size": axis.size(value, problem), **_memory(one, device)})
        contenders[str(value)] = one
    taken = interleaved(
        {name: one.step for name, one in contenders.items()},
        repeats=args.repeats,
        device=device,
        clock=args.clock,
    )
    for row in rows:
        row["step"] = summary(taken[str(row["value"])], taken[str(values[0])])
        row["saved_ratio"] = row["saved_mb"] / rows[0]["saved_mb"]
    result = {
        "benchmark": "scaling",
        "over": args.over,
        "network": args.network,
        "patch": args.patch,
        "batch": args.batch,
        "repeats": args.repeats,
        "clock": args.clock,
        "rows": rows,
        "growth": _growth(rows),
        "machine": machine(device),
        "command": command(),
    }
    write_result(args.output, f"scaling-{args.over}-{args.network}", result, markdown(result))


def _memory(one: Contender, device: torch.device) -> dict[str, float]:
    one.step()  # warm-up
    found = {"saved_mb": saved_bytes(one.network, one.loss_value) / MB}
    if device.type == "cuda":
        found["peak_mb"] = peak_on_gpu(one.step, device) / MB
    return found


def _growth(rows: list[dict[str, Any]]) -> dict[str, float]:
    sizes = [row["size"] for row in rows]
    return {
        "seconds": growth(sizes, [row["step"]["seconds"] for row in rows]),
        "saved": growth(sizes, [row["saved_mb"] for row in rows]),
    }


def markdown(result: dict[str, Any]) -> str:
    """The result as a table."""
    axis, exponents = AXES[result["over"]], result["growth"]
    patch = " x ".join(map(str, result["patch"]))
    where = "" if result["over"] == "patch" else f"patch {patch}, "
    counted = axis.head != axis.unit  # else the size is the value
    head = [axis.head, *[axis.unit] * counted, "step", "ratio", "saved", "ratio"]
    rows = [
        [
            str(row["value"]),
            *[str(row["size"])] * counted,
            f"{row['step']['seconds']:.3f} s",
            times(row["step"]["ratio"]),
            f"{row['saved_mb']:.0f} MB",
            times(row["saved_ratio"]),
        ]
        for row in result["rows"]
    ]
    lines = [
        f"`{result['network']}`, {where}batch {result['batch']}; medians of {result['repeats']} "
        f"rounds by {result['clock']} clock. Over the number of {axis.unit}, time grows with the "
        f"power {exponents['seconds']:.2f}, memory with {exponents['saved']:.2f}.",
        "",
    ]
    return "\n".join([*lines, *table(head, rows), *footer(result)])


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add("-o", dest="output", type=Path, required=True, metavar="OUT")
    add("--over", choices=AXES, default="prompts", help="tokens: their extent, in voxels")
    add("--values", type=int, nargs="+", help="smallest first")
    add("--network", default="vit_s-scratch", choices=OURS, metavar="NAME")
    add("--patch", type=int, nargs=3, default=[64, 64, 64])
    add("--batch", type=int, default=2)
    add("--repeats", type=int, default=5)
    add("--clock", choices=("wall", "process"), default="wall", help="on a shared CPU: process")
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    return parser.parse_args()


if __name__ == "__main__":
    main()
