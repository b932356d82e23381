"""What a trained model makes of language, in numbers.

::

    python benchmarks/prompts.py -m MODELFOLDER --images imagesTr --labels labelsTr -o OUT

writes OUT/prompts.json and OUT/prompts.md, for the validation cases of a fold: Dice of each class
said by its canonical phrase, by other trained phrases and by held-out ones, the latter as
`refsam3d predict` says them, with the nearest trained phrase, and alone; with the sides exchanged,
and with every phrase moved to the next class's place, each mask compared with the
structure that was named; and how far masks of distinct prompts overlap, each against the
background alone.
"""

import argparse
import itertools
import json
import os
import statistics
import time
from collections import defaultdict
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from measuring import footer, write_result
from nnunetv2.paths import nnUNet_preprocessed
from page_text import number, table

from refsam3d_nnunet.crossval.folds import FINAL
from refsam3d_nnunet.files import sha256_of
from refsam3d_nnunet.plans import TEXT_BANK
from refsam3d_nnunet.prediction.images import Case, find_cases, read_volume
from refsam3d_nnunet.prediction.predictor import RefSAM3DPredictor
from refsam3d_nnunet.prediction.run import load_predictor
from refsam3d_nnunet.text.phrases import ClassPhrases, background_of, meaning

ALONE = "held out, alone"
Scores = dict[str, dict[str, list[float]]]


class Wording(NamedTuple):
    """One way to say all classes at once.

    Args:
        kind: canonical, trained, held out, held out alone, sides exchanged or moved on.
        phrases: What is said in the place of each class.
        named: Index of the class that each of these phrases names.
    """

    kind: str
    phrases: list[str]
    named: list[int]


def main() -> None:
    """Runs the measurements that the command line asks for."""
    args = _arguments()
    started = time.perf_counter()
    predictor = load_predictor(args.model, [args.fold], args.checkpoint, device=args.device)
    predictor.use_mirroring = False
    args.output.mkdir(parents=True, exist_ok=True)
    cases = _cases(args, len(predictor.configuration_manager.normalization_schemes))
    scores, overlaps = {}, defaultdict(list)
    for case in cases:
        scores[case.name] = _case(predictor, case, args, overlaps)
        print(f"{case.name}  {time.perf_counter() - started:.0f} s", flush=True)
    result = {
        "benchmark": "prompts",
        "dataset": args.model.resolve().parent.name.partition("_")[2],
        "command": _command(args),
        "checkpoint_sha256": sha256_of(predictor.checkpoints[0]),
        "text_encoder": predictor.block["text"],
        "schedule": predictor.block["schedule"],
        "wordings": args.wordings,
        "dice": scores,
        "overlap": overlaps,
        "machine": {
            "device": str(predictor.device),
            "cores": os.cpu_count(),
            **{key: version(key) for key in ("refsam3d_nnunet", "nnunetv2", "torch")},
        },
        "seconds": round(time.perf_counter() - started),
    }
    write_result(args.output, "prompts", result, markdown(result))


def _command(args: argparse.Namespace) -> str:
    """The command to show, without the folders of this machine."""
    words = [
        "python benchmarks/prompts.py -m MODELFOLDER --images imagesTr --labels labelsTr -o OUT"
    ]
    words += [f"-f {args.fold} --wordings {args.wordings} -device {args.device}"]
    words += [f"-chk {args.checkpoint}"] if args.checkpoint != FINAL else []
    words += [f"--cases {args.cases}"] if args.cases else []
    return " ".join(words)


def wordings(classes: Sequence[ClassPhrases], most: int) -> list[Wording]:
    """What is tried: at most so many trained and held-out phrases of each class.

    A class that has no phrase of a kind is said by its canonical one.
    """
    own = list(range(len(classes)))
    canonical = [one.canonical for one in classes]
    ways = [Wording("canonical", canonical, own)]
    for kind, pools in (
        ("trained", [one.training[1:] for one in classes]),
        ("held out", [one.held_out for one in classes]),
        (ALONE, [one.held_out for one in classes]),
    ):
        for i in range(min(most, max(map(len, pools)))):
            pairs = zip(pools, canonical, strict=True)
            ways.append(Wording(kind, [p[i % len(p)] if p else c for p, c in pairs], own))
    moves = {"sides exchanged": twins_of(classes), "moved on": _next_of(classes)}
    for kind, move in moves.items():
        named = [move.get(i, i) for i in own]
        if named != own:
            ways.append(Wording(kind, [canonical[i] for i in named], named))
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


def _next_of(classes: Sequence[ClassPhrases]) -> dict[int, int]:
    foreground = [i for i in range(len(classes)) if i != background_of(classes)]
    return dict(zip(foreground, foreground[1:] + foreground[:1], strict=True))


def _case(
    predictor: RefSAM3DPredictor,
    case: Case,
    args: argparse.Namespace,
    overlaps: dict[str, list[float]],
) -> Scores:
    """Dice of one case, kind -> named class -> one value per wording; adds to the overlaps."""
    classes, labels = predictor.classes, predictor.dataset_json["labels"]
    orientations = list(predictor.block.get("orientations", {}))
    volume = read_volume(case, orientations)
    truth = read_volume(_truth(case, args.labels), orientations).array[0]
    truths = [np.isin(truth, labels[one.label]) for one in classes]
    scores: Scores = defaultdict(lambda: defaultdict(list))
    for kind, phrases, named in wordings(classes, args.wordings):
        bank, alone = args.output / TEXT_BANK, kind == ALONE
        predictor.use_phrases(phrases, bank=bank, verbatim=alone)
        _, chances = predictor.segment(volume.array, volume.properties(), probabilities=True)
        chosen, bare = masks_of(chances, background_of(classes))
        shown = [i for i in range(len(classes)) if i != background_of(classes)]
        for i in shown:
            if truths[named[i]].any():
                name = classes[named[i]].canonical
                scores[kind][name].append(dice_of(chosen[i], truths[named[i]]))
        if kind == "canonical":
            for i, j in itertools.combinations(shown, 2):
                pair = f"{classes[i].canonical} / {classes[j].canonical}"
                overlaps[pair].append(dice_of(bare[i], bare[j], empty=0.0))
    return scores


def masks_of(chances: np.ndarray, background: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Masks (k z y x) as predicted, and as each prompt alone would have it against background."""
    if background is None:
        return chances > 0.5, chances > 0.5
    chosen = chances.argmax(0) == np.arange(len(chances))[:, None, None, None]
    return chosen, chances > chances[background]


def dice_of(one: np.ndarray, other: np.ndarray, *, empty: float = 1.0) -> float:
    """Dice of two masks; ``empty`` if both are."""
    total = int(one.sum() + other.sum())
    return 2 * int((one & other).sum()) / total if total else empty


def markdown(result: dict[str, Any]) -> str:
    """The result as tables: means over cases, of wordings first."""
    cases = result["dice"]
    kinds = list(dict.fromkeys(kind for case in cases.values() for kind in case))
    names = list(dict.fromkeys(n for case in cases.values() for n in case["canonical"]))
    means = {
        name: [
            statistics.fmean(
                statistics.fmean(case[kind][name]) for case in cases.values() if name in case[kind]
            )
            for kind in kinds
        ]
        for name in names
    }
    means["mean"] = [statistics.fmean(column) for column in zip(*means.values(), strict=True)]
    worst = sorted(result["overlap"].items(), key=lambda item: -statistics.fmean(item[1]))[:5]
    steps = result["schedule"]["num_epochs"] * result["schedule"]["iterations_per_epoch"]
    lines = [
        f"### {result['dataset']}",
        "",
        f"Mean Dice of {len(cases)} cases; {steps} steps of training, text encoder "
        f"{result['text_encoder']['encoder']}; {result['seconds']} s in all.",
        "",
        *table(
            ["structure named", *kinds],
            [[name, *map(number, values)] for name, values in means.items()],
        ),
        "",
        *table(
            ["pair of prompts", "overlap of their masks, mean Dice", "largest"],
            [[pair, number(statistics.fmean(dice)), number(max(dice))] for pair, dice in worst],
        ),
    ]
    return "\n".join([*lines, *footer(result)])


def _cases(args: argparse.Namespace, channels: int) -> list[Case]:
    splits = Path(nnUNet_preprocessed, args.model.resolve().parent.name, "splits_final.json")
    validated = json.loads(splits.read_text(encoding="utf-8"))[int(args.fold)]["val"]
    cases = [case for case in find_cases(args.images, channels) if case.name in validated]
    if not cases:
        raise ValueError(f"{args.images} holds none of the cases {validated}.")
    return cases[: args.cases]


def _truth(case: Case, labels: Path) -> Case:
    return Case(case.name, (labels / f"{case.name}{case.ending}",), case.ending)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add("-m", dest="model", type=Path, required=True, metavar="MODELFOLDER")
    add("--images", type=Path, required=True, help="imagesTr of the data set")
    add("--labels", type=Path, required=True, help="labelsTr of the data set")
    add("-o", dest="output", type=Path, required=True, metavar="OUT")
    add("-f", dest="fold", default="0", help="fold whose validation cases are used")
    add("-chk", dest="checkpoint", default=FINAL)
    add("-device", "--device", default="auto", choices=("auto", "cpu", "cuda"))
    add("--cases", type=int, help="at most so many cases")
    add("--wordings", type=int, default=4, help="trained and held-out wordings (default: 4 each)")
    return parser.parse_args()


if __name__ == "__main__":
    main()
