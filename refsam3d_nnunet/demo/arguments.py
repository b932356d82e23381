"""Options of `refsam3d demo`."""

import argparse
from pathlib import Path

DEFAULT_EPOCHS = 8
DEFAULT_ITERATIONS = 40
DEFAULT_CASES = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the demo's options to a parser.

    Args:
        parser: Parser of the sub-command.
    """
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("refsam3d_demo"),
        metavar="DIR",
        help="where to write: a folder that is new, empty or of an earlier demo "
        "(default: ./%(default)s)",
    )
    parser.add_argument(
        "--data",
        type=Path,
        metavar="DIR",
        help="data set in nnU-Net's raw form to use instead of the phantom; only read, a tenth of "
        "its training cases is held out",
    )
    parser.add_argument(
        "--epochs",
        type=_positive,
        default=DEFAULT_EPOCHS,
        metavar="N",
        help="epochs of training (default: %(default)s)",
    )
    parser.add_argument(
        "--iterations",
        type=_positive,
        default=DEFAULT_ITERATIONS,
        metavar="N",
        help="batches in an epoch (default: %(default)s)",
    )
    parser.add_argument(
        "--cases",
        type=_positive,
        default=DEFAULT_CASES,
        metavar="N",
        help="phantoms to train on, at least 5 (default: %(default)s); no meaning with --data",
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=0,
        metavar="N",
        help="seed of the phantoms and of the choice of held-out cases (default: %(default)s)",
    )
    parser.add_argument(
        "--device",
        choices=("auto", "cpu", "cuda", "mps"),
        default="auto",
        help="where to train and predict (default: cuda where there is one, else cpu)",
    )
    parser.add_argument(
        "--gpu-memory-target",
        type=float,
        metavar="GB",
        help="memory that the planner may fill (default: 2 on a cpu, which keeps the patches "
        "small; the planner's own on other devices)",
    )
    parser.add_argument(
        "--keep", action="store_true", help="keep the preprocessed images, to train again by hand"
    )


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be 1 or more, got {value}")
    return value
