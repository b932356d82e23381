"""Options of `refsam3d report`."""

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `refsam3d report` to a parser.

    Args:
        parser: Parser of the sub-command.
    """
    parser.add_argument(
        "folder",
        type=Path,
        metavar="FOLDER",
        help="folder that `refsam3d crossval` wrote; unfinished ones will do",
    )
    parser.add_argument(
        "-o",
        "--out",
        type=Path,
        metavar="FILE",
        help="the HTML file to write (default: FOLDER/report.html)",
    )
