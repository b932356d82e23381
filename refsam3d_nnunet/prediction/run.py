"""`refsam3d predict`: images, and phrases if any, in; label files and a record of them out."""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import SimpleITK
import torch

from refsam3d_nnunet.plans import TEXT_BANK
from refsam3d_nnunet.prediction.arguments import SIMILARITY, STEP_SIZE, is_step_size
from refsam3d_nnunet.prediction.images import Case, find_cases, read_volume
from refsam3d_nnunet.prediction.matching import checked_prompts
from refsam3d_nnunet.prediction.predictor import RefSAM3DPredictor
from refsam3d_nnunet.prediction.record import add_to_record, record_to_go_on, run_record
from refsam3d_nnunet.prediction.results import (
    Structure,
    asked_structures,
    image_record,
    label_image,
    trained_structures,
    write_image,
    write_more,
)

_log = logging.getLogger(__name__)

Json = dict[str, Any]
Prompts = tuple[str, ...] | None  # None: all trained classes


def predict(args: argparse.Namespace) -> int:
    """Runs the command and returns its exit status.

    Raises:
        ValueError: If model, images or prompts are not what is wanted; nothing is written then.
        OSError: If a file is missing, or the text encoder is needed and cannot be had.
    """
    free = args.prompts is not None or args.jobs is not None
    if not free and (args.verbatim or args.similarity != SIMILARITY):
        raise ValueError(
            "--verbatim and --similarity are for new phrases, and none are asked for: name some "
            "with --prompt or --jobs, or leave them out."
        )
    predictor = load_predictor(
        args.model,
        args.folds,
        args.checkpoint,
        device=args.device,
        step_size=args.step_size,
        mirroring=not args.disable_tta,
    )
    jobs = jobs_of(find_cases(args.input, channels_of(predictor)), args.prompts, args.jobs)
    _spare_images(jobs, args.input, args.output)
    record = run_record(predictor, args, free=free)
    before = record_to_go_on(args.output, record, jobs)["images"]
    args.output.mkdir(parents=True, exist_ok=True)
    how = {
        "bank": args.output / TEXT_BANK,
        "threshold": args.similarity,
        "verbatim": args.verbatim,
    }
    structures = {
        prompts: _structures(predictor, prompts, how) for prompts in dict.fromkeys(jobs.values())
    }
    for warning in _warnings(structures.values()):
        _log.warning("WARNING: %s", warning)
    current, images = None, {}
    for case, prompts in jobs.items():
        if prompts != current:
            predictor.set_prompts(prompts, **how)
            current = prompts
        images[case.name] = _predict_case(
            predictor, args, case, structures[prompts], before.get(case.name, {})
        )
        add_to_record(args.output, record, images, jobs)
        _log.info("%s: %s", case.name, "; ".join(one.phrase for one in structures[prompts]))
    return 0


def load_predictor(
    model: Path,
    folds: Sequence[int | str] | None,
    checkpoint: str,
    *,
    device: str,
    step_size: float = STEP_SIZE,
    mirroring: bool = True,
) -> RefSAM3DPredictor:
    """Loads the folds of a model; see :class:`RefSAM3DPredictor` for what it raises.

    Args:
        model: Model folder.
        folds: Folds to average; None for all that were trained.
        checkpoint: Name of the checkpoint.
        device: Such as "cuda"; "auto" takes it where there is one, else "cpu".
        step_size: Step of the sliding window in patches, above 0 and at most 1.
        mirroring: Whether mirrored copies are predicted too, as trained.

    Raises:
        ValueError: If the step size is none.
    """
    if not is_step_size(step_size):
        raise ValueError(f"The step size must be above 0 and at most 1, got {step_size}.")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    predictor = RefSAM3DPredictor(
        tile_step_size=step_size,
        use_mirroring=mirroring,
        device=torch.device(device),
        perform_everything_on_device=device == "cuda",
        allow_tqdm=False,
    )
    predictor.initialize_from_trained_model_folder(str(model), folds, checkpoint)
    predictor.network.to(predictor.device)
    return predictor


def channels_of(predictor: RefSAM3DPredictor) -> int:
    """How many files one image of a model has."""
    return len(predictor.configuration_manager.normalization_schemes)


def segment_image(predictor: RefSAM3DPredictor, case: Case) -> SimpleITK.Image:
    """Segments one image into all trained classes, in this process.

    Args:
        predictor: As :func:`load_predictor` gave it.
        case: The image, in any orientation.

    Returns:
        The label values of the training, in the image's own geometry.

    Raises:
        ValueError: If the image cannot be read; see :func:`read_volume`.
    """
    volume = read_volume(case, _orientations(predictor))
    labels, _ = predictor.segment(volume.array, volume.properties())
    return label_image(volume, labels, trained_structures(predictor))


def _predict_case(
    predictor: RefSAM3DPredictor,
    args: argparse.Namespace,
    case: Case,
    structures: Sequence[Structure],
    before: Json,
) -> Json:
    volume = read_volume(case, _orientations(predictor))
    wants_more = args.masks or args.save_probabilities
    labels, chances = predictor.segment(volume.array, volume.properties(), probabilities=wants_more)
    image = label_image(volume, labels, structures)
    write_image(image, args.output / f"{case.name}{case.ending}")
    if wants_more:
        write_more(
            args.output,
            case,
            volume,
            labels=labels,
            chances=chances,
            structures=structures,
            masks=args.masks,
            probabilities=args.save_probabilities,
            before=before,
        )
    return image_record(case, volume, structures, labels)


def _orientations(predictor: RefSAM3DPredictor) -> list[str]:
    return list(predictor.block.get("orientations", {}))


def _structures(
    predictor: RefSAM3DPredictor, prompts: Prompts, how: Mapping[str, Any]
) -> list[Structure]:
    if prompts is None:
        return trained_structures(predictor)
    return asked_structures(predictor.set_prompts(prompts, **how))


def _warnings(structures: Iterable[Sequence[Structure]]) -> list[str]:
    found = dict.fromkeys(one.record.get("warning") for some in structures for one in some)
    return [warning for warning in found if warning]


def jobs_of(
    cases: Sequence[Case], prompts: Sequence[str] | None, file: Path | None
) -> dict[Case, Prompts]:
    """Which prompts each image gets; None where nothing was asked.

    Args:
        cases: Images that were found.
        prompts: The same for all, or None.
        file: JSON file, name of the image or of a file of it -> list of prompts, or None.

    Raises:
        ValueError: If the file is malformed, or names an image that was not found.
        OSError: If it cannot be read.
    """
    if file is None:
        same = None if prompts is None else tuple(checked_prompts(prompts))
        return dict.fromkeys(cases, same)
    content = _read_jobs(file)
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
            asked = tuple(checked_prompts(wanted))
        except ValueError as error:
            raise ValueError(f"{file}, image {name!r}: {error}") from error
        if named[0] in jobs:
            raise ValueError(f"{file} names the image {named[0].name!r} twice; once as {name!r}.")
        jobs[named[0]] = asked
    return jobs


def _read_jobs(file: Path) -> Json:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file} is no readable JSON ({error}).") from error
    if not isinstance(content, Mapping) or not content:
        raise ValueError(f'{file} must look like {{"case_1": ["liver", "left kidney"]}}.')
    return content


def _spare_images(cases: Iterable[Case], source: Path, out: Path) -> None:
    """Refuses to write among the images: over one of them, or where it would be taken for one."""
    out = out.resolve()
    targets = {out / f"{case.name}{case.ending}" for case in cases}
    images = {file.resolve() for case in cases for file in case.files}
    if out == source.resolve() or out in images or targets & images:
        raise ValueError(
            f"-o {out} is where the images lie, and a segmentation would take the place of an "
            f"image, or be taken for one later: name another folder."
        )
