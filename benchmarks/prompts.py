"""What a trained model makes of language, in numbers.

::

    python benchmarks/prompts.py -m MODELFOLDER --images imagesTr --labels labelsTr -o OUT

writes OUT/prompts.json and OUT/prompts.md: Dice per class with the canonical, other trained and
held-out phrases; with left and right exchanged, each mask compared with the side that is named;
the overlap of the masks of distinct prompts; the
time of a training step over the number of prompts. Cases are those that the fold validated.
"""

import argparse
import itertools
import os
import platform
import statistics
import time
from collections import defaultdict
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from refsam3d_nnunet.files import write_json
from refsam3d_nnunet.network.refsam3d import RefSAM3D
from refsam3d_nnunet.network.tuning import apply_tuning
from refsam3d_nnunet.plans import TEXT_BANK, network_config
from refsam3d_nnunet.prediction.images import Case, find_cases, read_volume
from refsam3d_nnunet.prediction.predictor import RefSAM3DPredictor
from refsam3d_nnunet.prediction.run import load_predictor
from refsam3d_nnunet.text.names import BACKGROUND
from refsam3d_nnunet.text.phrases import ClassPhrases, meaning
from refsam3d_nnunet.weights.checkpoint import sha256_of

PROMPTS = (2, 8, 32, 104)
Dices = dict[str, dict[str, list[float]]]


def main() -> None:
    """Runs the measurements that the command line asks for."""
    args = _arguments()
    started = time.perf_counter()
    predictor = load_predictor(args.model, [args.fold], args.checkpoint, device=args.device)
    predictor.use_mirroring = False
    args.output.mkdir(parents=True, exist_ok=True)
    cases = _cases(args, len(predictor.configuration_manager.normalization_schemes))
    dice, overlap = _language(predictor, cases, args)
    result = {
        "model": str(args.model),
        "checkpoint_sha256": sha256_of(predictor.checkpoints[0]),
        "cases": [case.name for case in cases],
        "schedule": predictor.block["schedule"],
        "dice": {key: {c: _mean(v) for c, v in row.items()} for key, row in dice.items()},
        "largest_overlap": {pair: max(values) for pair, values in overlap.items()},
        "step": _step_costs(predictor, args.steps),
        "machine": _machine(predictor.device),
        "seconds": round(time.perf_counter() - started, 1),
    }
    write_json(args.output / "prompts.json", result)
    text = markdown(result)
    (args.output / "prompts.md").write_text(text, encoding="utf-8")
    print(text)


def wordings(classes: Sequence[ClassPhrases], most: int) -> list[tuple[str, list[str]]]:
    """Ways to say all classes at once: (kind, one phrase per class).

    A kind with several wordings comes several times. A class that has no phrase of a kind is
    said by its canonical one.
    """
    ways = [("canonical", [one.canonical for one in classes])]
    for kind, pools in (
        ("trained", [one.training[1:] for one in classes]),
        ("held out", [one.held_out for one in classes]),
    ):
        for i in range(min(most, max(map(len, pools)))):
            pairs = zip(classes, pools, strict=True)
            ways.append((kind, [p[i % len(p)] if p else c.canonical for c, p in pairs]))
    if twins := twins_of(classes):
        ways.append(
            ("exchanged", [classes[twins.get(i, i)].canonical for i in range(len(classes))])
        )
    return ways


def twins_of(classes: Sequence[ClassPhrases]) -> dict[int, int]:
    """Index of each left class -> that of its right twin, and the other way round."""
    by_meaning = {meaning(one.canonical): i for i, one in enumerate(classes)}
    other = {"left": "right", "right": "left"}
    return {
        i: by_meaning[other[side], base]
        for (side, base), i in by_meaning.items()
        if side and (other[side], base) in by_meaning
    }


def _language(
    predictor: RefSAM3DPredictor, cases: Sequence[Case], args: argparse.Namespace
) -> tuple[Dices, dict[str, list[float]]]:
    classes, labels = predictor.classes, predictor.dataset_json["labels"]
    twins, orientations = twins_of(classes), list(predictor.block.get("orientations", {}))
    dice: Dices = defaultdict(lambda: defaultdict(list))
    overlap: dict[str, list[float]] = defaultdict(list)
    for case in cases:
        volume = read_volume(case, orientations)
        truth = read_volume(_truth(case, args.labels), orientations).array[0]
        truths = [np.isin(truth, labels[one.label]) for one in classes]
        for kind, phrases in wordings(classes, args.wordings):
            predictor.use_phrases(phrases, bank=args.output / TEXT_BANK)
            _, chances = predictor.segment(volume.array, volume.properties(), probabilities=True)
            chosen, bare = masks_of(chances, regions=predictor.label_manager.has_regions)
            for i in range(len(classes)):
                said = twins.get(i, i) if kind == "exchanged" else i  # the class that is named
                if classes[said].label != BACKGROUND and truths[said].any():
                    score = dice_of(chosen[i], truths[said])
                    dice[kind][classes[said].canonical].append(score)
            if kind == "canonical":
                for i, j in itertools.combinations(range(len(classes)), 2):
                    if BACKGROUND not in (classes[i].label, classes[j].label):
                        pair = f"{classes[i].canonical} / {classes[j].canonical}"
                        overlap[pair].append(dice_of(bare[i], bare[j], empty=0.0))
    return dice, overlap


def masks_of(chances: np.ndarray, *, regions: bool) -> tuple[np.ndarray, np.ndarray]:
    """Masks (k z y x) as predicted, and as each prompt alone would have it against background."""
    if regions:
        return chances > 0.5, chances > 0.5
    chosen = chances.argmax(0) == np.arange(len(chances))[:, None, None, None]
    return chosen, chances > chances[:1]


def dice_of(one: np.ndarray, other: np.ndarray, *, empty: float = 1.0) -> float:
    """Dice of two masks; ``empty`` if both are."""
    total = int(one.sum() + other.sum())
    return 2 * int((one & other).sum()) / total if total else empty


def _step_costs(predictor: RefSAM3DPredictor, steps: int) -> list[dict[str, Any]]:
    """Milliseconds (median) and peak memory of a training step of the planned network."""
    manager, block, device = predictor.configuration_manager, predictor.block, predictor.device
    channels = len(manager.normalization_schemes)
    costs = []
    for prompts in PROMPTS:
        network = RefSAM3D(
            channels,
            prompts,
            text_dim=block["text"]["dim"],
            text_words=block["text"]["words"],
            deep_supervision=True,
            **network_config(manager.configuration).to_json(),
        )
        words = torch.randn_like(network.text.seg_layers.words)
        network.text.store(words, torch.ones(words.shape[:2], dtype=torch.bool), words[:, 0])
        apply_tuning(network, block["tuning"])
        network.to(device).train()
        x = torch.randn(manager.batch_size, channels, *manager.patch_size, device=device)
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        times = [_timed_step(network, x) for _ in range(steps + 1)][1:]
        cost: dict[str, Any] = {"prompts": prompts, "milliseconds": statistics.median(times)}
        if device.type == "cuda":
            cost["peak_gb"] = torch.cuda.max_memory_allocated(device) / 1e9
        costs.append({**cost, "ratio": cost["milliseconds"] / (costs or [cost])[0]["milliseconds"]})
    return costs


def _timed_step(network: RefSAM3D, x: torch.Tensor) -> float:
    cuda = x.device.type == "cuda"
    start = time.perf_counter()
    with torch.autocast(x.device.type, torch.float16, enabled=cuda):
        loss = sum(mask.float().square().mean() for mask in network(x))
    loss.backward()
    if cuda:
        torch.cuda.synchronize()
    network.zero_grad(set_to_none=True)
    return 1000 * (time.perf_counter() - start)


def markdown(result: dict[str, Any]) -> str:
    """The result as tables."""
    kinds = list(result["dice"])
    lines = [f"Dice on {len(result['cases'])} cases, model `{Path(result['model']).name}`.", ""]
    lines += [f"| class | {' | '.join(kinds)} |", f"|---|{'---|' * len(kinds)}"]
    for name in result["dice"]["canonical"]:
        values = " | ".join(f"{result['dice'][kind][name]:.3f}" for kind in kinds)
        lines.append(f"| {name} | {values} |")
    lines += ["", "| prompts | ms per training step | ratio |", "|---|---|---|"]
    for row in result["step"]:
        lines.append(f"| {row['prompts']} | {row['milliseconds']:.1f} | {row['ratio']:.2f} |")
    worst = sorted(result["largest_overlap"].items(), key=lambda item: -item[1])[:10]
    lines += ["", "| pair of prompts | largest overlap (Dice) |", "|---|---|"]
    lines += [f"| {pair} | {value:.3f} |" for pair, value in worst]
    lines += ["", ", ".join(f"{key} {value}" for key, value in result["machine"].items())]
    return "\n".join(lines) + f"\n\n{result['seconds']} s in all.\n"


def _mean(values: Sequence[float]) -> float:
    return round(statistics.fmean(values), 4)


def _cases(args: argparse.Namespace, channels: int) -> list[Case]:
    validated = {
        case.name for case in find_cases(args.model / f"fold_{args.fold}" / "validation", 1)
    }
    cases = [case for case in find_cases(args.images, channels) if case.name in validated]
    if not cases:
        raise ValueError(f"{args.images} holds none of the cases {sorted(validated)}.")
    return cases[: args.cases]


def _truth(case: Case, labels: Path) -> Case:
    return Case(case.name, (labels / f"{case.name}{case.ending}",), case.ending)


def _machine(device: torch.device) -> dict[str, Any]:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor()
    versions = {key: version(key) for key in ("refsam3d_nnunet", "nnunetv2", "torch")}
    return {"device": f"{device} {name}".strip(), "cores": os.cpu_count(), **versions}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add("-m", dest="model", type=Path, required=True, metavar="MODELFOLDER")
    add("--images", type=Path, required=True, help="imagesTr of the data set")
    add("--labels", type=Path, required=True, help="labelsTr of the data set")
    add("-o", dest="output", type=Path, required=True, metavar="OUT")
    add("-f", dest="fold", default="0", help="fold whose validation cases are used")
    add("-chk", dest="checkpoint", default="checkpoint_final.pth")
    add("-device", default="auto", choices=("auto", "cpu", "cuda"))
    add("--cases", type=int, help="at most so many cases")
    add("--wordings", type=int, default=4, help="trained and held-out wordings (default: 4 each)")
    add("--steps", type=int, default=10, help="timed training steps per number of prompts")
    return parser.parse_args()


if __name__ == "__main__":
    main()
