"""What a training step costs over the number of prompts.

::

    python benchmarks/prompt_cost.py -o OUT [--preset vit_s] [--patch 64 64 64] [--batch 2]

writes OUT/prompt_cost.json and OUT/prompt_cost.md: time of a whole step (forward, nnU-Net's Dice
and cross-entropy with the auxiliary masks, backward, clipping, AdamW), what autograd keeps between
forward and backward, and on a GPU the peak of memory; for 2, 8, 32 and 104 prompts. Repetitions
are interleaved and medians are taken, so that only the ratios within one run count.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from nnunetv2.training.loss.compound_losses import DC_and_CE_loss
from nnunetv2.training.loss.deep_supervision import DeepSupervisionWrapper
from nnunetv2.training.loss.dice import MemoryEfficientSoftDiceLoss

from refsam3d_nnunet.config import PRESETS
from refsam3d_nnunet.design import design_network
from refsam3d_nnunet.files import write_json
from refsam3d_nnunet.loss import PromptMaskLoss
from refsam3d_nnunet.network.refsam3d import RefSAM3D
from refsam3d_nnunet.network.tuning import apply_tuning
from refsam3d_nnunet.optim import adamw

PROMPTS = (2, 8, 32, 104)
WORDS, TEXT_DIM = 9, 384  # the phrases of openkbp_hn_ct with MiniLM


def main() -> None:
    """Runs the measurements that the command line asks for."""
    args = _arguments()
    device = torch.device(args.device)
    rows = []
    steps = [_step(args, prompts, device) for prompts in PROMPTS]
    for prompts, step in zip(PROMPTS, steps, strict=True):
        step()  # warm-up
        rows.append({"prompts": prompts, "saved_mb": _saved_bytes(step) / 2**20})
    seconds: list[list[float]] = [[] for _ in PROMPTS]
    for _ in range(args.repeats):
        for step, values in zip(steps, seconds, strict=True):
            values.append(_timed(step, device))
    for row, values in zip(rows, seconds, strict=True):
        row |= {"seconds": statistics.median(values), "spread": [min(values), max(values)]}
        for key in ("seconds", "saved_mb"):
            row[f"{key}_ratio"] = row[key] / rows[0][key]
    result = {
        "preset": args.preset,
        "tuning": args.tuning,
        "patch": args.patch,
        "batch": args.batch,
        "rows": rows,
        "repeats": args.repeats,
        "machine": _machine(device),
    }
    args.output.mkdir(parents=True, exist_ok=True)
    write_json(args.output / "prompt_cost.json", result)
    text = markdown(result)
    (args.output / "prompt_cost.md").write_text(text, encoding="utf-8")
    print(text)


def _step(args: argparse.Namespace, prompts: int, device: torch.device) -> Callable[[], None]:
    """A whole training step on random data, as the trainer takes it."""
    torch.manual_seed(0)
    config = design_network(args.patch, args.spacing, args.preset)
    network = RefSAM3D(
        1,
        prompts,
        text_dim=TEXT_DIM,
        text_words=WORDS,
        deep_supervision=True,
        **config.to_json(),
    )
    words = torch.randn(prompts, WORDS, TEXT_DIM)
    network.text.store(words, torch.ones(prompts, WORDS, dtype=torch.bool), words[:, 0])
    apply_tuning(network, args.tuning)
    network.to(device).train().masks_as_products = True
    dice = {"batch_dice": True, "smooth": 1e-5, "do_bg": False, "ddp": False}
    loss = PromptMaskLoss(DC_and_CE_loss(dice, {}, dice_class=MemoryEfficientSoftDiceLoss))
    weights = [0.5**level for level in range(config.auxiliary_masks + 1)]
    deep = DeepSupervisionWrapper(loss, [weight / sum(weights) for weight in weights])
    optimizer = adamw(network, lr=1e-5, weight_decay=0.02)
    image = torch.randn(args.batch, 1, *args.patch, device=device)
    with torch.no_grad():
        extents = [mask.features.shape[2:] for mask in network(image)]
    targets = [
        torch.randint(prompts, (args.batch, 1, *extent), device=device).float()
        for extent in extents
    ]

    def step() -> None:
        with torch.autocast(device.type, torch.float16, enabled=device.type == "cuda"):
            value = deep(network(image), targets)
        value.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 12)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def _saved_bytes(step: Callable[[], None]) -> int:
    """Bytes of the storages that autograd keeps, each once, parameters included."""
    kept = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        step()
    return sum(kept.values())


def _timed(step: Callable[[], None], device: torch.device) -> float:
    start = time.perf_counter()
    step()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def markdown(result: dict[str, Any]) -> str:
    """The result as a table."""
    patch = " x ".join(map(str, result["patch"]))
    lines = [
        f"{result['preset']}, tuning mode {result['tuning']}, patch {patch}, batch "
        f"{result['batch']}; medians of {result['repeats']} steps.",
        "",
        "| prompts | seconds a step | ratio | saved for backward, MB | ratio |",
        "|---|---|---|---|---|",
    ]
    for row in result["rows"]:
        lines.append(
            f"| {row['prompts']} | {row['seconds']:.3f} | {row['seconds_ratio']:.2f} | "
            f"{row['saved_mb']:.0f} | {row['saved_mb_ratio']:.2f} |"
        )
    machine = ", ".join(f"{key} {value}" for key, value in result["machine"].items())
    return "\n".join([*lines, "", machine, ""])


def _machine(device: torch.device) -> dict[str, Any]:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    versions = {key: version(key) for key in ("refsam3d_nnunet", "nnunetv2", "torch")}
    return {"device": name, "cores": os.cpu_count(), "threads": torch.get_num_threads(), **versions}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add("-o", dest="output", type=Path, required=True, metavar="OUT")
    add("--preset", default="vit_s", choices=PRESETS)
    add("--tuning", default="scratch", choices=("scratch", "full", "adapter"))
    add("--patch", type=int, nargs=3, default=[64, 64, 64])
    add("--spacing", type=float, nargs=3, default=[1.0, 1.0, 1.0])
    add("--batch", type=int, default=2)
    add("--repeats", type=int, default=7)
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    return parser.parse_args()


if __name__ == "__main__":
    main()
