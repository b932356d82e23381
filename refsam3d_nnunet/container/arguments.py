"""Options of `refsam3d container`."""

import argparse
import re
from pathlib import Path

from refsam3d_nnunet.prediction.arguments import add_folds, add_speed

OUTPUT = "segmentation"
_SLUG = re.compile(r"[a-z0-9][a-z0-9_-]*")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `refsam3d container` to a parser."""
    add = parser.add_argument
    add(
        "folder",
        type=Path,
        metavar="DIR",
        help="submission folder: to write, new or empty; with --check, one that was written",
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "-m",
        dest="model",
        type=Path,
        metavar="MODELFOLDER",
        help="write a folder for this model, which nnU-Net trained into: "
        "RefSAM3DTrainer__PLANS__CONFIGURATION",
    )
    what.add_argument(
        "--check",
        nargs="+",
        type=Path,
        metavar="IMAGE",
        help="run DIR's inference.py here, without Docker, on an image (a file per channel, in "
        "the model's order) or on a folder of images",
    )
    add_folds(parser, to="submit")
    add(
        "--input",
        dest="inputs",
        nargs="+",
        type=_slug,
        default=[],
        metavar="SLUG",
        help="the challenge's input sockets, one per channel in the model's order (default: the "
        "only one there is)",
    )
    add(
        "--output",
        type=_slug,
        default=OUTPUT,
        metavar="SLUG",
        help="the challenge's output socket (default: %(default)s)",
    )
    add_speed(parser)


def _slug(text: str) -> str:
    if not _SLUG.fullmatch(text):
        raise argparse.ArgumentTypeError(
            f"a socket's slug has small letters, digits, - and _, such as ct-image; got {text!r}"
        )
    return text
