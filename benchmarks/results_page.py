"""Writes the page of the benchmarks from their results.

::

    python benchmarks/results_page.py RESULTS -o documentation/benchmarks.md

reads every JSON file that speed.py, scaling.py, inference.py and prompts.py left below RESULTS, for
the page of this repository benchmarks/results. No number of the page is typed by hand: to change
one, run its command again, put its JSON there, and run this one.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import inference
import prompts
import scaling
import speed

from refsam3d_nnunet.files import replacing

INTRODUCTION = """# Benchmarks

This page is written by `benchmarks/results_page.py` from `benchmarks/results`, what the commands
below have measured; each result ends with its command and machine. Run the same on your machine, a
GPU with `--device cuda`.
Other pages, written by scripts too: [accuracy beside nnU-Net](accuracy.md),
[what was tried](search.md), [pretraining](pretraining.md). The [demo](getting-started.md) tells its
own Dice and time.

The first table of 40 x 56 x 40 was measured on an idle machine, all else while other work ran on
one core or both. The table with Primus, that of `vit_b` at 128 x 128 x 128 and *Whole volumes* are
of commit 030a476, when the mask decoder of `vit_t` had one convolution at each resolution, and CPUs
computed none of them together. How fast convolutions are beside matrix products differs between
machines, and from day to day on one that others share: compare ratios within a table, and not with
those of an earlier commit.
"""
SPEED = """
All networks of a table were given the same patch and batch, and took turns in every round, so that
other work on the machine changes ratios little. A step is a whole training step with the network's
own loss and optimiser: forward, deep supervision, backward, clipping, update. A forward is one of
prediction. *Saved* is what lives between forward and backward, *peak* the peak of memory of a step,
on a CPU of a process of its own; it was left out here (`--no-peak`). By the process clock, seconds
are those of computing. ResEncM, L and XL are one network on one patch: the presets differ by the
memory they plan for. On a CPU two convolutions of RefSAM3D's mask decoder are computed as one
([why](explanation.md)), with fewer operations and less saved than on a GPU. The literal form of
3DSAM-adapter, its image encoder on four times up-sampled input, is only counted.

What is aimed at, on the same patch and batch: `vit_s` at most half of PlainConvUNet's step and
forward and 0.6 of what it saves; `vit_b` in adapter mode, at 128 x 128 x 128, at most its
floating-point operations and 0.8 of what it saves, and on an H100 with `--patch 128 128 128
--batch 2 --compile blocks` at most 0.6 of its step and of its peak.
"""
GROWTH = """
Aimed at: from 2 to 104 prompts a step takes at most 1.3 times as long.
"""
VOLUMES = """
`nnUNetv2_predict` as a whole, from imports to written segmentations. Aimed at: at most 0.7 of what
nnU-Net's network takes. The networks are untrained, which a prediction's cost does not depend on.
"""
LANGUAGE = """
What the words of a prompt do, on validation cases of fold 0, without mirroring. The models are
those of [accuracy](accuracy.md) as it was at commit 6f3a754, fifteen minutes of one core, seed 0,
with one convolution at each resolution of the mask decoder: the level of Dice says little.

*trained*: other phrases of the training; *held out*: templates and synonyms that training never
saw, as `refsam3d predict` says them, with the nearest trained phrase; *alone*: the same without it
(`--verbatim`); *sides exchanged*: left and right exchanged in the prompts, each mask compared with
the side that was named; *moved on*: every class said by the phrase of the next, each mask compared
with the structure of that phrase. Both equal *canonical* but for rounding whatever was learned,
since exchanged prompts exchange masks ([why](explanation.md)): they test the program. What words do
to a model shows in *held out* and *alone*.

In a prediction, masks of two classes never overlap. The second table of a set is of masks against
the background alone, with the other prompts not asked.
"""
SECTIONS = {
    "speed": ("Steps and forwards", SPEED, speed.markdown),
    "scaling": ("Growth", GROWTH, scaling.markdown),
    "inference": ("Whole volumes", VOLUMES, inference.markdown),
    "prompts": ("Language", LANGUAGE, prompts.markdown),
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
    for kind, (title, introduction, markdown) in SECTIONS.items():
        found = [one for one in results if isinstance(one, dict) and one.get("benchmark") == kind]
        if found:
            parts += [f"## {title}\n", f"{introduction.strip()}\n"]
            parts += map(markdown, sorted(found, key=_order))
    return "\n".join(parts)


def _order(result: dict[str, Any]) -> tuple[str, list[int], str]:
    return result.get("over", ""), result.get("patch", []), result["command"]


if __name__ == "__main__":
    main()
