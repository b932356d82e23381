"""What a training step and a forward cost, ours beside nnU-Net's networks.

::

    python benchmarks/speed.py -o OUT --patch 40 56 40 --batch 2 [--networks vit_s-scratch ...]

writes OUT/speed-PATCH-bBATCH.json and .md: seconds of a whole training step (forward, the trainer's
own loss with deep supervision, backward, clipping, optimiser) and of a forward in prediction, what
autograd keeps, the peak of memory, floating-point operations and parameters. All networks are given
the same patch and batch, and take turns in every round; ratios are to PlainConvUNet in the same
round. The literal form of 3DSAM-adapter is only counted.
"""

import argparse
import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch
from contenders import OURS, build
from contest import Contender, Problem, extent
from measuring import (
    allocated,
    command,
    flops,
    footer,
    interleaved,
    machine,
    peak_of_process,
    peak_on_gpu,
    saved_bytes,
    seconds,
    summary,
    times,
    write_result,
)
from page_text import table
from rivals import LITERAL, PRIMUS, RESENC, UNET, literal_forward

MB = 2**20
DEFAULT = ["vit_t-scratch", "vit_s-scratch", "vit_b-adapter"]


def main() -> None:
    """Runs the measurements that the command line asks for."""
    args = _arguments()
    device = torch.device(args.device)
    torch.backends.cudnn.benchmark = True  # as nnU-Net's trainer has it
    problem = Problem(extent(args.patch), args.batch, args.channels, args.prompts)
    rows: dict[str, dict[str, Any]] = {}
    contenders = {}
    literal = {LITERAL: _literal(problem)} if args.literal else {}
    for name in dict.fromkeys([UNET, *args.networks]):
        before = allocated(device)  # by the other networks, which stay
        try:
            contenders[name] = build(name, problem, device)
        except ImportError as reason:
            print(f"{name} left out: {reason}", file=sys.stderr)
            continue
        rows[name] = _counts(contenders[name])
        if args.compile:
            rows[name] |= _compiled(name, contenders[name], args.compile, device)
        if not args.no_peak:
            rows[name]["peak_mb"] = _peak(name, problem, contenders[name], device) / MB
            if device.type == "cuda":
                rows[name]["peak_mb"] -= before / MB
    _time(contenders, rows, args, device)
    rows |= literal
    _compare_counts(rows)
    result = {
        "benchmark": "speed",
        "patch": args.patch,
        "batch": args.batch,
        "channels": args.channels,
        "prompts": args.prompts,
        "repeats": args.repeats,
        "clock": args.clock,
        "compiled": args.compile or "no",
        "rows": rows,
        "machine": machine(device),
        "command": command(),
    }
    name = f"speed-{'x'.join(map(str, args.patch))}-b{args.batch}-{device.type}"
    write_result(args.output, name, result, markdown(result))


def _counts(one: Contender) -> dict[str, Any]:
    total, tuned = one.parameters()
    one.step()  # warm-up
    return {
        "parameters": total,
        "tuned": tuned,
        "gflop": flops(one.forward) / 1e9,
        "saved_mb": saved_bytes(one.network, one.loss_value) / MB,
    }


def _compiled(name: str, one: Contender, how: str, device: torch.device) -> dict[str, Any]:
    """Compiles the network whole or, of ours, block by block; seconds until it is warm."""
    if how == "blocks" and name in OURS:
        for block in one.network.image_encoder.blocks:
            block.compile()
    else:
        one.network.compile()
    return {"warm_up_seconds": seconds(one.step, device) + seconds(one.forward, device)}


def _peak(name: str, problem: Problem, one: Contender, device: torch.device) -> int:
    """Peak of a step: tensors on a GPU; on a CPU what a process of its own grows by."""
    if device.type == "cuda":
        return peak_on_gpu(one.step, device)
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as pool:
        return pool.submit(growth_of_process, name, problem).result()


def growth_of_process(name: str, problem: Problem) -> int:
    """Bytes by which this process' peak grows in building a network and two training steps."""
    before = peak_of_process()
    one = build(name, problem, torch.device("cpu"))
    one.step()
    one.step()  # the optimiser's states are there now
    return peak_of_process() - before


def _time(
    contenders: dict[str, Contender],
    rows: dict[str, Any],
    args: argparse.Namespace,
    device: torch.device,
) -> None:
    for key in ("step", "forward"):
        runs = {name: getattr(one, key) for name, one in contenders.items()}
        taken = interleaved(runs, repeats=args.repeats, device=device, clock=args.clock)
        for name, values in taken.items():
            rows[name][key] = summary(values, taken[UNET])


def _compare_counts(rows: dict[str, dict[str, Any]]) -> None:
    for row in rows.values():
        for key in ("gflop", "saved_mb", "peak_mb"):
            if key in row:
                row[f"{key}_ratio"] = row[key] / rows[UNET][key]


def _literal(problem: Problem) -> dict[str, Any]:
    forward, parameters = literal_forward(problem)
    return {"parameters": parameters, "gflop": flops(forward) / 1e9}


def markdown(result: dict[str, Any]) -> str:
    """The result as a table."""
    patch = " x ".join(map(str, result["patch"]))
    lines = [
        f"Patch {patch}, batch {result['batch']}, {result['prompts']} classes, compiled: "
        f"{result['compiled']}. Medians of {result['repeats']} rounds by {result['clock']} clock; "
        f"ratios to {UNET} within a round, smallest and largest in brackets.",
        "",
    ]
    head = ["network", "parameters, tuned", "forward GFLOP", "forward", "step", "saved", "peak"]
    if any("warm_up_seconds" in row for row in result["rows"].values()):
        head.append("warm-up")
    rows = [_line(name, row)[: len(head)] for name, row in result["rows"].items()]
    return "\n".join([*lines, *table(head, rows), *footer(result)])


def _line(name: str, row: dict[str, Any]) -> list[str]:
    tuned = f", {row['tuned'] / 1e6:.1f} M" if "tuned" in row else ""
    cells = [
        name,
        f"{row['parameters'] / 1e6:.1f} M{tuned}",
        f"{row['gflop']:.0f}, {times(row['gflop_ratio'])}",
    ]
    if "step" not in row:
        return [*cells, "", "", "", "", ""]
    for key in ("forward", "step"):
        one = row[key]
        low, high = one["ratio_spread"]
        cells.append(f"{_time_text(one['seconds'])}, {times(one['ratio'])} [{low:.2f}, {high:.2f}]")
    for key in ("saved_mb", "peak_mb"):
        cells.append(f"{row[key]:.0f} MB, {times(row[f'{key}_ratio'])}" if key in row else "")
    return [*cells, f"{row['warm_up_seconds']:.0f} s" if "warm_up_seconds" in row else ""]


def _time_text(value: float) -> str:
    return f"{value:.2f} s" if value >= 0.5 else f"{1000 * value:.1f} ms"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add("-o", dest="output", type=Path, required=True, metavar="OUT")
    add("--patch", type=int, nargs=3, default=[40, 56, 40])
    add("--batch", type=int, default=2)
    add("--channels", type=int, default=1)
    add("--prompts", type=int, default=3)
    add("--networks", nargs="+", default=DEFAULT, choices=[*OURS, RESENC, *PRIMUS], metavar="NAME")
    add("--literal", action="store_true", help="count 3DSAM-adapter's published form too")
    add("--compile", choices=("whole", "blocks"), help="compile first, and say how long it takes")
    add("--repeats", type=int, default=5)
    add("--no-peak", action="store_true", help="leave out the peak of memory")
    add("--clock", choices=("wall", "process"), default="wall", help="on a shared CPU: process")
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    return parser.parse_args()


if __name__ == "__main__":
    main()
