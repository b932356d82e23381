"""Options of `refsam3d predict` and `refsam3d prompts`."""

import argparse
from pathlib import Path

SIMILARITY = 0.6
STEP_SIZE = 0.5  # nnU-Net's default


def add_prompts_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `refsam3d prompts` to a parser."""
    _add_model(parser)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a list")


def add_predict_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `refsam3d predict` to a parser."""
    add = parser.add_argument
    add(
        "-i",
        dest="input",
        type=Path,
        required=True,
        metavar="IN",
        help="an image (NIfTI, NRRD or MHA), a folder of them, or a folder with one DICOM series; "
        "several channels are named CASE_0000, CASE_0001, ... as in nnU-Net",
    )
    add("-o", dest="output", type=Path, required=True, metavar="OUT", help="folder to write to")
    _add_model(parser)
    add_folds(parser, to="average")
    asked = parser.add_mutually_exclusive_group()
    asked.add_argument(
        "--prompt",
        dest="prompts",
        action="append",
        metavar="TEXT",
        help="what to segment, in words; may be repeated, the first becomes label 1 (default: all "
        "trained classes, with the label values of the training)",
    )
    asked.add_argument(
        "--jobs",
        type=Path,
        metavar="FILE",
        help='JSON file, image -> prompts, such as {"case_1": ["liver", "left kidney"]}',
    )
    add("--masks", action="store_true", help="write one mask per prompt or class too")
    add("--save-probabilities", action="store_true", help="write the probabilities as .npz too")
    add_speed(parser)
    add(
        "--similarity",
        type=float,
        default=SIMILARITY,
        metavar="X",
        help="warn of prompts less similar than this to every trained phrase "
        "(cosine, default: %(default)s)",
    )
    add(
        "--verbatim",
        action="store_true",
        help="say new phrases alone, and not with the nearest trained phrase",
    )
    add(
        "-device",
        "--device",
        choices=("auto", "cpu", "cuda", "mps"),
        default="auto",
        help="where to predict (default: cuda where there is one, else cpu)",
    )


def add_folds(parser: argparse.ArgumentParser, *, to: str) -> None:
    """Adds nnU-Net's two options that choose checkpoints.

    Args:
        parser: Where.
        to: What is done with the folds, for the help.
    """
    parser.add_argument(
        "-f",
        dest="folds",
        nargs="+",
        type=_fold,
        metavar="FOLD",
        help=f"folds to {to} (default: all that were trained)",
    )
    parser.add_argument(
        "-chk", dest="checkpoint", default="checkpoint_final.pth", metavar="FILE", help="weights"
    )


def add_speed(parser: argparse.ArgumentParser) -> None:
    """Adds nnU-Net's two options that trade accuracy for time."""
    parser.add_argument(
        "--disable-tta", action="store_true", help="predict without mirrored copies"
    )
    parser.add_argument(
        "-step_size",
        type=_step_size,
        default=STEP_SIZE,
        metavar="X",
        help="step of the sliding window, in patches: above 0, at most 1; larger is faster "
        "(default: %(default)s)",
    )


def is_step_size(value: float) -> bool:
    """Whether windows of one patch, so many patches apart, cover an image."""
    return 0 < value <= 1


def _step_size(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not is_step_size(value):
        raise argparse.ArgumentTypeError(f"must be above 0 and at most 1, got {text!r}")
    return value


def _fold(text: str) -> int | str:
    return text if text == "all" else int(text)


def _add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-m",
        dest="model",
        type=Path,
        required=True,
        metavar="MODELFOLDER",
        help="folder that nnU-Net trained into: RefSAM3DTrainer__PLANS__CONFIGURATION",
    )
