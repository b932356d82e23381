"""Options of `refsam3d weights merge` and `refsam3d weights export`."""

import argparse
from pathlib import Path

FINAL = "checkpoint_final.pth"


def add_merge_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `refsam3d weights merge` to a parser."""
    add = parser.add_argument
    add(
        "model",
        type=Path,
        metavar="MODEL",
        help="a model folder (nnUNet_results/DATASET/TRAINER__PLANS__CONFIGURATION), whose slim "
        "checkpoints are replaced, or one checkpoint file",
    )
    add(
        "--checkpoints",
        nargs="+",
        metavar="FILE",
        help="of a folder, only the files with these names (default: all checkpoint_*.pth)",
    )
    add("-o", dest="output", type=Path, metavar="OUT", help="of a file, write the result here")


def add_export_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `refsam3d weights export` to a parser."""
    add = parser.add_argument
    add("model", type=Path, metavar="MODELFOLDER", help="a model folder below nnUNet_results")
    add("-o", dest="output", type=Path, required=True, metavar="FILE.zip", help="zip to write")
    add(
        "-f",
        dest="folds",
        nargs="+",
        metavar="FOLD",
        help="folds to pass on (default: all that were trained)",
    )
    add(
        "-chk",
        dest="checkpoints",
        nargs="+",
        default=[FINAL],
        metavar="FILE",
        help=f"checkpoints to pass on (default: {FINAL})",
    )


COMMANDS = {
    "merge": ("put the frozen image encoder back into slim checkpoints", add_merge_arguments),
    "export": (
        "write a self-contained zip for nnUNetv2_install_pretrained_model_from_zip",
        add_export_arguments,
    ),
}
