"""The record of `refsam3d predict`: what the label values of a folder's images mean, and why."""

from __future__ import annotations

import argparse
import json
import platform
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from refsam3d_nnunet.files import sha256_of, write_json
from refsam3d_nnunet.prediction.images import Case
from refsam3d_nnunet.prediction.predictor import RefSAM3DPredictor

RECORD = "refsam3d_prompts.json"
# What may differ between runs of one folder, and does not change what a label file means.
_OF_A_RUN = ("images", "model", "device", "python", "versions")

Json = dict[str, Any]


def run_record(predictor: RefSAM3DPredictor, args: argparse.Namespace, *, free: bool) -> Json:
    """How all images of a run are predicted, for the record.

    Args:
        predictor: Of the model.
        args: Of the command line.
        free: Whether prompts are asked for.
    """
    asked = {"similarity_threshold": args.similarity, "verbatim": args.verbatim}
    return {
        "asked": "prompts" if free else "all trained classes",
        "model": str(args.model.resolve()),
        "checkpoint_sha256": {
            f"{path.parent.name}/{path.name}": sha256_of(path) for path in predictor.checkpoints
        },
        "text_encoder": predictor.block["text"],
        **(asked if free else {}),
        "step_size": predictor.tile_step_size,
        "mirroring": predictor.use_mirroring and predictor.allowed_mirroring_axes,
        "device": str(predictor.device),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("refsam3d_nnunet", "nnunetv2", "torch")},
    }


def record_to_go_on(out: Path, record: Json, cases: Iterable[Case]) -> Json:
    """The record of a folder, if none of its label files would be left untold by this run.

    Args:
        out: Folder that the run writes to.
        record: Of this run.
        cases: Images that it predicts.

    Returns:
        What is recorded there, with no images if there is no record.

    Raises:
        ValueError: If other images were predicted there, with other settings.
    """
    file = out / RECORD
    there = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {"images": {}}
    staying = sorted(set(there["images"]) - {case.name for case in cases})
    ours, theirs = _settings(record), _settings(there)
    other = [key for key in ours | theirs if ours.get(key) != theirs.get(key)]
    if staying and other:
        raise ValueError(
            f"{file} tells of {len(staying)} images that this run does not predict, "
            f"{staying[0]!r} for one, with other settings ({', '.join(other)}): name another "
            f"folder with -o, or remove what is there."
        )
    return there


def add_to_record(out: Path, record: Json, images: Json, cases: Iterable[Case]) -> None:
    """Records images beside those that runs with the same settings have recorded there.

    Args:
        out: Folder of the results.
        record: Of this run.
        images: What is said of all that it has predicted so far. Should another process, which
            predicts other images into the folder, write at the same moment, the next call mends it.
        cases: All images that it predicts.

    Raises:
        ValueError: If a run with other settings has begun to write there.
    """
    there = record_to_go_on(out, record, cases)
    before = there["images"] if _settings(there) == _settings(record) else {}
    write_json(out / RECORD, record | {"images": before | images})


def _settings(record: Json) -> Json:
    """What a record says of how all its images were predicted."""
    as_stored = json.loads(json.dumps(record))
    return {key: value for key, value in as_stored.items() if key not in _OF_A_RUN}
