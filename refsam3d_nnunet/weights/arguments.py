"""Options of `refsam3d weights`."""

import argparse
from pathlib import Path

from refsam3d_nnunet.slim.arguments import COMMANDS as SLIM


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the sub-commands of `refsam3d weights` to a parser."""
    subparsers = parser.add_subparsers(
        title="commands", required=True, metavar="COMMAND", dest="weights_command"
    )
    for name, (about, add) in COMMANDS.items():
        add(subparsers.add_parser(name, help=about, description=f"{about.capitalize()}."))


def _add_list(parser: argparse.ArgumentParser) -> None:
    """It has no options."""


def _add_get(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="as `refsam3d weights list` shows it")
    parser.add_argument(
        "--from-file",
        type=Path,
        metavar="FILE",
        help="take this copy of the published file instead of the network's",
    )


def _add_add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, metavar="FILE", help="a checkpoint of your own")
    parser.add_argument("--name", help="what to call it (default: the file's name)")
    parser.add_argument(
        "--replace", action="store_true", help="replace another file that has this name"
    )


def _add_verify(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("names", nargs="*", metavar="NAME", help="(default: all that are here)")


def _add_where(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", metavar="NAME", help="(default: the folder of all)")


COMMANDS = {
    "list": ("show the known weights and which of them are here", _add_list),
    "get": ("fetch weights by their name", _add_get),
    "add": ("copy a checkpoint of your own to the others", _add_add),
    "verify": ("hash what is here and tell what is damaged", _add_verify),
    "where": ("print the path of weights, or of the folder with all of them", _add_where),
    **SLIM,
}
