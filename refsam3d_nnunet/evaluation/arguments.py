"""Options of `refsam3d evaluate`."""

import argparse
from pathlib import Path

DEFAULT_TOLERANCE = 1.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `refsam3d evaluate` to a parser."""
    parser.add_argument("prediction", type=Path, help="folder of predicted label files")
    parser.add_argument("reference", type=Path, help="folder of the ground truth, e.g. labelsTr")
    parser.add_argument(
        "-o",
        "--out",
        type=Path,
        metavar="DIR",
        help="where metrics.csv and metrics.json go (default: the folder of predictions)",
    )
    parser.add_argument(
        "--dataset-json",
        type=Path,
        metavar="FILE",
        help="dataset.json with the labels (default: the one beside the predictions, or else "
        "beside the ground truth)",
    )
    parser.add_argument(
        "--splits",
        type=Path,
        metavar="FILE",
        help="splits_final.json: notes which fold each case was held out in, which `refsam3d "
        "compare` uses",
    )
    parser.add_argument(
        "--tolerance",
        type=float,
        default=DEFAULT_TOLERANCE,
        metavar="MM",
        help="how far apart two surfaces may lie and still count as one in NSD, in mm "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--tolerances",
        type=Path,
        metavar="FILE",
        help='JSON file with tolerances of single classes in mm, {"liver": 2.5}; --tolerance '
        "holds for the others",
    )
    parser.add_argument(
        "--allow-missing",
        action="store_true",
        help="measure the predictions that are there, without asking for all of the ground truth",
    )
    parser.add_argument(
        "--processes",
        type=int,
        metavar="N",
        help="cases measured at once (default: nnUNet_def_n_proc, at most the cores there are)",
    )
