"""Writes the page of the benchmarks of speed from their results.

::

    python benchmarks/speed_page.py RESULTS -o documentation/benchmarks-speed.md

reads every JSON file that speed.py, scaling.py and inference.py left below RESULTS. No number of
the page is typed by hand: to change one, run its command again, and then this one.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import inference
import scaling
import speed

from refsam3d_nnunet.files import replacing

INTRODUCTION = """# Benchmarks of speed

This page is written by `benchmarks/speed_page.py` from the results of the commands below; each
section ends with its command and machine. Run the same on your machine, a GPU with `--device cuda`.

All networks of a table were given the same patch and batch, and took turns in every round, so that
other work on the machine changes ratios little. A step is a whole training step with the network's
own loss and optimiser: forward, deep supervision, backward, clipping, update. A forward is one of
prediction. *Saved* is what lives between forward and backward, *peak* the peak of memory of a step,
on a CPU of a process of its own. By the process clock, seconds are those of computing. ResEncM, L
and XL are one network on one patch: the presets differ by the memory they plan for. The literal
form of 3DSAM-adapter, its image encoder on four times up-sampled input, is only counted.

What is aimed at, on the same patch and batch: `vit_s` at most half of PlainConvUNet's step and
forward and 0.6 of what it saves; `vit_b` in adapter mode, at 128 x 128 x 128, at most its
floating-point operations and 0.8 of what it saves, and on an H100 with `--patch 128 128 128
--batch 2 --compile blocks` at most 0.6 of its step and of its peak.
"""
SECTIONS = {
    "speed": ("Steps and forwards", speed.markdown),
    "scaling": ("Growth", scaling.markdown),
    "inference": ("Whole volumes", inference.markdown),
}


def main() -> None:
    """Writes the page that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("results", type=Path, metavar="RESULTS")
    parser.add_argument("-o", dest="output", type=Path, required=True, metavar="PAGE")
    args = parser.parse_args()
    files = sorted(args.results.rglob("*.json"))
    results = [json.loads(file.read_text(encoding="utf-8")) for file in files]
    with replacing(args.output) as temporary:
        temporary.write_text(page(results), encoding="utf-8")


def page(results: list[Any]) -> str:
    """The whole page; what is no result of these benchmarks is left out.

    Args:
        results: Contents of JSON files.
    """
    parts = [INTRODUCTION]
    for kind, (title, markdown) in SECTIONS.items():
        found = [one for one in results if isinstance(one, dict) and one.get("benchmark") == kind]
        if found:
            parts += [f"## {title}\n", *map(markdown, sorted(found, key=_order))]
    return "\n".join(parts)


def _order(result: dict[str, Any]) -> tuple[str, list[int], str]:
    return result.get("over", ""), result.get("patch", []), result["command"]


if __name__ == "__main__":
    main()
