"""Options of `refsam3d compare`."""

import argparse
from pathlib import Path

DEFAULT_METRIC = "dice"
DEFAULT_MARGIN = 0.01
DEFAULT_RESAMPLES = 10_000
DEFAULT_SEED = 0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `refsam3d compare` to a parser."""
    parser.add_argument(
        "methods",
        nargs="+",
        metavar="NAME=FOLDER",
        help="folders that `refsam3d evaluate` wrote, two or more; NAME= may be left out",
    )
    parser.add_argument(
        "-o", "--out", type=Path, required=True, metavar="DIR", help="where to write"
    )
    parser.add_argument(
        "--baseline",
        metavar="NAME",
        help="method that the others are compared with (default: the first)",
    )
    parser.add_argument(
        "--metric",
        default=DEFAULT_METRIC,
        help="dice, nsd, hd95, assd or volume_error (default: %(default)s)",
    )
    parser.add_argument(
        "--margin",
        type=float,
        metavar="X",
        help="loss that would still count as non-inferior, in units of the metric (default: "
        f"{DEFAULT_MARGIN}; metrics in mm have no default)",
    )
    parser.add_argument(
        "--resamples",
        type=int,
        default=DEFAULT_RESAMPLES,
        metavar="N",
        help="of the bootstrap (default: %(default)s)",
    )
    parser.add_argument(
        "--seed", type=int, default=DEFAULT_SEED, metavar="N", help="default: %(default)s"
    )
    parser.add_argument(
        "--costs",
        type=Path,
        metavar="FILE",
        help='JSON file, {"NAME": {"hours": 1.5, "memory_gb": 8, "parameters": 30000000, '
        '"checkpoint_mb": 120}}, for the columns of costs',
    )
