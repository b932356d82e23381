"""`refsam3d container`: writes a submission folder, or tries one out."""

from __future__ import annotations

import argparse

from refsam3d_nnunet.container.check import check
from refsam3d_nnunet.container.folder import Choices, write_folder
from refsam3d_nnunet.container.model import read_model


def run(args: argparse.Namespace) -> tuple[str, int]:
    """Runs the command.

    Returns:
        What goes to standard output, and the exit status.

    Raises:
        ValueError: If model, images or folder are not what is wanted; nothing is written then.
        OSError: If a file is missing or cannot be written.
    """
    if args.check:
        return check(args.folder, args.check)
    model = read_model(args.model, args.folds, args.checkpoint)
    if args.inputs and len(args.inputs) != model.channels:
        raise ValueError(
            f"The model wants {model.channels} channel(s) of an image, and --input names "
            f"{len(args.inputs)} socket(s): {', '.join(args.inputs)}."
        )
    choices = Choices(
        inputs=tuple(args.inputs),
        output=args.output,
        step_size=args.step_size,
        mirroring=not args.disable_tta,
    )
    write_folder(args.folder, model, choices)
    return f"{args.folder}: {len(model.checkpoints)} fold(s); its README.md says what is next", 0
