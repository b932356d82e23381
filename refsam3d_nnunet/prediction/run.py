"""`refsam3d predict`: images and phrases in, label files and a record of them out."""

from __future__ import annotations

import argparse
import json
import logging
import platform
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK
import torch

from refsam3d_nnunet.files import replacing, sha256_of, write_json
from refsam3d_nnunet.plans import TEXT_BANK
from refsam3d_nnunet.prediction.images import Case, Volume, find_cases, read_volume
from refsam3d_nnunet.prediction.matching import Match, checked_prompts
from refsam3d_nnunet.prediction.predictor import RefSAM3DPredictor

RECORD = "refsam3d_prompts.json"

_log = logging.getLogger(__name__)


def predict(args: argparse.Namespace) -> int:
    """Runs the command and returns its exit status.

    Raises:
        ValueError: If model, images or prompts are not what is wanted; nothing is written then.
        OSError: If a file is missing, or the text encoder is needed and cannot be had.
    """
    predictor = load_predictor(args.model, args.folds, args.checkpoint, device=args.device)
    predictor.use_mirroring = not args.disable_tta
    channels = len(predictor.configuration_manager.normalization_schemes)
    cases = find_cases(args.input, channels)
    jobs = jobs_of(cases, args.prompts, args.jobs)
    args.output.mkdir(parents=True, exist_ok=True)
    how = {
        "bank": args.output / TEXT_BANK,
        "threshold": args.similarity,
        "verbatim": args.verbatim,
    }
    matches = {
        prompts: predictor.set_prompts(prompts, **how) for prompts in dict.fromkeys(jobs.values())
    }
    for warning in dict.fromkeys(m.warning for found in matches.values() for m in found):
        if warning:
            _log.warning("WARNING: %s", warning)
    record = _record(predictor, args) | {"images": {}}
    orientations = list(predictor.block.get("orientations", {}))
    current = None
    for case, prompts in jobs.items():
        if prompts != current:
            predictor.set_prompts(prompts, **how)
            current = prompts
        volume = read_volume(case, orientations)
        wants_more = args.masks or args.save_probabilities
        labels, chances = predictor.segment(
            volume.array, volume.properties(), probabilities=wants_more
        )
        _write(args, case, volume, labels=labels, chances=chances, prompts=prompts)
        record["images"][case.name] = _image_record(case, volume, matches[prompts], labels)
        write_json(args.output / RECORD, record)
        _log.info("%s: %s", case.name, "; ".join(prompts))
    return 0


def load_predictor(
    model: Path, folds: Sequence[int | str] | None, checkpoint: str, *, device: str
) -> RefSAM3DPredictor:
    """Loads the folds of a model; see :class:`RefSAM3DPredictor` for what it raises."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    predictor = RefSAM3DPredictor(
        device=torch.device(device), perform_everything_on_device=device == "cuda", allow_tqdm=False
    )
    predictor.initialize_from_trained_model_folder(str(model), folds, checkpoint)
    predictor.network.to(predictor.device)
    return predictor


def jobs_of(
    cases: Sequence[Case], prompts: Sequence[str] | None, file: Path | None
) -> dict[Case, tuple[str, ...]]:
    """Which prompts each image gets.

    Args:
        cases: Images that were found.
        prompts: The same for all, or None.
        file: JSON file otherwise, name of the image or of a file of it -> list of prompts.

    Raises:
        ValueError: If the file is malformed, or names an image that was not found.
        OSError: If it cannot be read.
    """
    if file is None:
        return dict.fromkeys(cases, tuple(checked_prompts(prompts or ())))
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file} is no readable JSON ({error}).") from error
    if not isinstance(content, Mapping) or not content:
        raise ValueError(f'{file} must look like {{"case_1": ["liver", "left kidney"]}}.')
    jobs = {}
    for name, wanted in content.items():
        named = [case for case in cases if name in (case.name, *(f.name for f in case.files))]
        if not named:
            raise ValueError(
                f"{file} names the image {name!r}, which -i does not have; it has "
                f"{', '.join(repr(case.name) for case in cases[:5])}{', ...' * (len(cases) > 5)}."
            )
        if not isinstance(wanted, list):
            raise ValueError(f"{file}: the prompts of {name!r} must be a list, got {wanted!r}.")
        try:
            jobs[named[0]] = tuple(checked_prompts(wanted))
        except ValueError as error:
            raise ValueError(f"{file}, image {name!r}: {error}") from error
    return jobs


def _write(
    args: argparse.Namespace,
    case: Case,
    volume: Volume,
    *,
    labels: np.ndarray,
    chances: np.ndarray | None,
    prompts: Sequence[str],
) -> None:
    kind = np.uint8 if len(prompts) < 256 else np.uint16
    _write_image(volume.restored(labels.astype(kind)), args.output / f"{case.name}{case.ending}")
    if chances is None:
        return
    regions = len(chances) == len(prompts)
    if args.save_probabilities:
        back = [SimpleITK.GetArrayFromImage(volume.restored(one)) for one in chances]
        np.savez_compressed(args.output / f"{case.name}.npz", probabilities=np.stack(back))
    if args.masks:
        folder = args.output / f"{case.name}_masks"
        folder.mkdir(exist_ok=True)
        for i, prompt in enumerate(prompts):
            mask = chances[i] > 0.5 if regions else labels == i + 1  # regions may overlap
            name = f"{i + 1}_{re.sub(r'[^a-z0-9]+', '_', prompt.lower()).strip('_')[:60]}"
            image = volume.restored(mask.astype(np.uint8))
            _write_image(image, folder / f"{name}{case.ending}")


def _write_image(image: SimpleITK.Image, path: Path) -> None:
    """Writes under a name of the same ending, then renames, so that no half file is left."""
    if path.name.endswith(".mhd"):  # two files, which name each other
        SimpleITK.WriteImage(image, str(path))
        return
    with replacing(path) as temporary:
        SimpleITK.WriteImage(image, str(temporary), useCompression=True)


def _record(predictor: RefSAM3DPredictor, args: argparse.Namespace) -> dict[str, Any]:
    return {
        "model": str(args.model.resolve()),
        "checkpoint_sha256": {
            f"{path.parent.name}/{path.name}": sha256_of(path) for path in predictor.checkpoints
        },
        "text_encoder": predictor.block["text"],
        "similarity_threshold": args.similarity,
        "verbatim": args.verbatim,
        "mirroring": predictor.use_mirroring and predictor.allowed_mirroring_axes,
        "device": str(predictor.device),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("refsam3d_nnunet", "nnunetv2", "torch")},
    }


def _image_record(
    case: Case, volume: Volume, matches: Sequence[Match], labels: np.ndarray
) -> dict[str, Any]:
    return {
        "files": [str(file) for file in case.files],
        "segmentation": f"{case.name}{case.ending}",
        "orientation": volume.code,
        "predicted_in_orientation": volume.oriented_code,
        "prompts": [
            {"value": value, **asdict(one), "voxels": int((labels == value).sum())}
            for value, one in enumerate(matches, start=1)
        ],
    }
