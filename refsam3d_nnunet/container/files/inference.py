"""Segments what a challenge gives to this container. Edit it as you like.

grand-challenge.org: one case, /input/images/SOCKET/NAME.mha -> /output/images/SOCKET/NAME.mha
Others: a folder of images, /workspace/inputs -> /workspace/outputs, under the same names
"""

import logging
import os
import sys
from pathlib import Path

from refsam3d_nnunet.prediction.images import ENDINGS, Case, find_cases
from refsam3d_nnunet.prediction.results import write_image
from refsam3d_nnunet.prediction.run import channels_of, load_predictor, segment_image

INPUTS = []  # input sockets, one per channel in the model's order; none: the only one there is
OUTPUT = "segmentation"  # output socket
FOLDS = [0]  # whose predictions are averaged: fewer are faster
CHECKPOINT = "checkpoint_final.pth"
STEP_SIZE = 0.5  # of the sliding window, in patches: larger is faster, at most 1
MIRRORING = True  # False is faster


def main() -> None:
    """Predicts in this process; any failure ends it with a traceback and exit status 1."""
    source = place("INPUT", "/input", "/workspace/inputs")
    model = place("MODEL", "/opt/ml/model", "/opt/app/model")
    predictor = load_predictor(
        model, FOLDS, CHECKPOINT, device="auto", step_size=STEP_SIZE, mirroring=MIRRORING
    )
    if (source / "images").is_dir():
        cases = [socket_case(source / "images", channels_of(predictor))]
        out = place("OUTPUT", "/output") / "images" / OUTPUT
    else:
        cases = find_cases(source, channels_of(predictor))
        out = place("OUTPUT", "/workspace/outputs")
    out.mkdir(parents=True, exist_ok=True)
    for case in cases:
        path = out / f"{case.name}{case.ending}"
        write_image(segment_image(predictor, case), path)
        logging.info("%s: written", path)


def place(name: str, *usual: str) -> Path:
    """The folder that a variable names, else the first of the usual ones that holds something."""
    named = os.environ.get(f"REFSAM3D_CONTAINER_{name}")
    folders = [Path(folder) for folder in ([named] if named else usual)]
    held = [folder for folder in folders if folder.is_dir() and any(folder.iterdir())]
    return (held or folders)[0]


def socket_case(images: Path, channels: int) -> Case:
    """The one image of each input socket, as the channels of a case."""
    there = sorted(folder.name for folder in images.iterdir() if folder.is_dir())
    sockets = INPUTS or (there if len(there) == 1 else [])
    if len(sockets) != channels or not set(sockets) <= set(there):
        raise ValueError(f"Wanted are {channels} of the sockets {there}: name them in INPUTS.")
    files = []
    for socket in sockets:
        found = [f for f in (images / socket).iterdir() if f.name.lower().endswith(ENDINGS)]
        if len(found) != 1:
            raise ValueError(f"{images / socket} should hold one image, and holds {len(found)}.")
        files += found
    return Case(files[0].name.partition(".")[0], tuple(files), ".mha")


if __name__ == "__main__":
    logging.basicConfig(format="%(message)s", level=logging.INFO, stream=sys.stdout)
    main()
