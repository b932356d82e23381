"""Command lines of studies: the data sets, and the command to show."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from refsam3d_nnunet.config import TUNING_MODES
from refsam3d_nnunet.files import sha256_of


def add_data_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options by which every study is told its data sets and its folder."""
    add = parser.add_argument
    add("--data", type=Path, action="append", required=True, help="raw data set; may be repeated")
    add("--spacing", type=float, nargs=3, action="append", help="mm, once per data set")
    add("--memory", type=float, help="memory target of the plans, in GB")
    add("-o", dest="out", type=Path, required=True)
    add("--val-iterations", type=int, default=1, help="only watched, nothing depends on them")
    add("--device", default="cpu")
    add("--write", type=Path, help="page of the documentation to put the result into")


def add_weight_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options that name pretrained weights, which a study may do without."""
    parser.add_argument("--checkpoint", type=Path, help="pretrained weights of RefSAM3D")
    parser.add_argument("--tuning", choices=TUNING_MODES, help="the planner's choice if not given")


def planner_variables(args: argparse.Namespace) -> dict[str, str]:
    """Preset, weights and tuning mode that were asked for, as the planner reads them."""
    asked = {
        "REFSAM3D_PRESET": args.preset,
        "REFSAM3D_TUNING": args.tuning,
        "REFSAM3D_CHECKPOINT": str(args.checkpoint.resolve()) if args.checkpoint else None,
    }
    return {key: value for key, value in asked.items() if value}


def weight_settings(args: argparse.Namespace) -> dict[str, str | None]:
    """Weights and tuning mode, for the settings that a folder is begun with."""
    sha256 = sha256_of(args.checkpoint) if args.checkpoint else None
    return {"checkpoint_sha256": sha256, "tuning": args.tuning}


def weight_words(args: argparse.Namespace) -> list[str]:
    """The weights as an option, as in :func:`data_words`."""
    return [f"--checkpoint {args.checkpoint.name}"] if args.checkpoint else []


def parsed(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Parses the command line, and ends the program where spacings do not fit the data sets."""
    args = parser.parse_args()
    if args.spacing and len(args.spacing) != len(args.data):
        parser.error("give --spacing once per --data, or not at all")
    args.spacing = args.spacing or [None] * len(args.data)
    return args


def spacing_settings(args: argparse.Namespace) -> dict[str, list[float] | None]:
    """Each set's spacing, for the settings that a folder is begun with."""
    pairs = zip(args.data, args.spacing, strict=True)
    return {f"spacing {data.name}": spacing for data, spacing in pairs}


def data_words(args: argparse.Namespace) -> list[str]:
    """The data sets as options of a command to show, without the folders of this machine."""
    words = []
    for data, spacing in zip(args.data, args.spacing, strict=True):
        words += ["--data", data.name]
        words += ["--spacing", *(f"{size:g}" for size in spacing)] if spacing else []
    return words


def option_words(args: argparse.Namespace, names: Sequence[str]) -> list[str]:
    """Those of the named options that have a value, as in :func:`data_words`."""
    values = ((name, getattr(args, name)) for name in names)
    return [f"--{n.replace('_', '-')} {value}" for n, value in values if value is not None]
