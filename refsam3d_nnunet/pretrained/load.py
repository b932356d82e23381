"""The one entrance: pretrained weights from a file into a network."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from refsam3d_nnunet.design import design_network
from refsam3d_nnunet.environment import Settings
from refsam3d_nnunet.files import sha256_of
from refsam3d_nnunet.network.refsam3d import RefSAM3D
from refsam3d_nnunet.plans import WEIGHT_FILES
from refsam3d_nnunet.pretrained.checkpoint import read_checkpoint
from refsam3d_nnunet.pretrained.families import decoder_in_sam_form, in_sam_form
from refsam3d_nnunet.pretrained.report import LoadReport
from refsam3d_nnunet.pretrained.sam import load_decoder, load_encoder
from refsam3d_nnunet.pretrained.sam_encoder import preset_of
from refsam3d_nnunet.pretrained.sam_form import SamForm
from refsam3d_nnunet.weights.store import locate

RANDOM = "random numbers"
ENCODER, DECODER = "REFSAM3D_CHECKPOINT", "REFSAM3D_DECODER_CHECKPOINT"

_T = TypeVar("_T")


def settled(settings: Settings) -> Settings:
    """Replaces names of weights by files, and settles what the file of the encoder decides.

    Args:
        settings: What the environment asks for.

    Returns:
        The settings with paths instead of names, and with the preset and the family of the
        checkpoint, if there is one.

    Raises:
        FileNotFoundError: If there is no such file, or weights of that name are not here yet.
        ValueError: If the file cannot be read, holds no image encoder of a known family, lacks a
            part of it, or holds one of another size than the preset asked for.
    """
    if settings.decoder_checkpoint is not None:
        path = _naming(DECODER, lambda: locate(settings.decoder_checkpoint))
        _naming(f"{DECODER} names {path}", lambda: decoder_in_sam_form(read_checkpoint(path)))
        settings = replace(settings, decoder_checkpoint=str(path.resolve()))
    if settings.checkpoint is None:
        return settings
    path = _naming(ENCODER, lambda: locate(settings.checkpoint))
    form, preset = _naming(f"{ENCODER} names {path}", lambda: _encoder_of(path, settings.preset))
    return replace(settings, checkpoint=str(path.resolve()), preset=preset, family=_family_of(form))


def hashes_of(encoder: str | None, decoder: str | None) -> dict[str, str | None]:
    """SHA-256 of the files that pretrained weights are taken from, by their keys in the plan.

    Args:
        encoder: File of the image encoder, or None.
        decoder: File of the mask decoder, or None.

    Raises:
        OSError: If one cannot be read.
    """
    files = zip(WEIGHT_FILES, (encoder, decoder), strict=True)
    return {key: sha256_of(file) if file else None for key, file in files}


def hashes_in(record: Mapping[str, Any]) -> dict[str, str | None]:
    """The same of weights that :func:`load_pretrained` has loaded and recorded."""
    parts = record, record.get("decoder", {})
    return {key: part.get("sha256") for key, part in zip(WEIGHT_FILES, parts, strict=True)}


def load_pretrained(
    network: nn.Module,
    encoder: str | None,
    decoder: str | None,
    family: str | None,
    *,
    planned: Mapping[str, str | None] | None = None,
) -> tuple[dict[str, Any], str]:
    """Copies pretrained weights into a network.

    Args:
        network: A RefSAM3D network. Its parameters are written in place.
        encoder: File with an image encoder, and maybe SAM's mask decoder; None for none.
        decoder: File whose mask decoder is taken instead; None for none.
        family: The family that was planned, sam or vit: it decides on what is tuned.
        planned: What :func:`hashes_of` said when this was planned, or the first fold was trained;
            None if nobody knows.

    Returns:
        What became of every tensor, with the files and their hashes, for the record; and a
        summary for the log, empty without files.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If a file cannot be read, does not fit, is of another family than planned, or
            is not the file that was. The network is then as it was.
    """
    target = dict(network.state_dict())
    parts = None if decoder is None else decoder_in_sam_form(_read(decoder, DECODER))
    form = None if encoder is None else in_sam_form(_read(encoder, ENCODER))
    hashes = hashes_of(encoder, decoder)
    _refuse_others(planned or hashes, hashes, (encoder, decoder))
    if parts is not None:
        load_decoder(parts, {name: tensor.to("meta") for name, tensor in target.items()})
    record: dict[str, Any] = {"from": RANDOM}
    told = []
    if form is not None:
        if _family_of(form) != family:
            raise ValueError(
                f"{encoder} holds weights of the family {_family_of(form)!r}, and the plan was "
                f"made for {family!r}: what is frozen differs. Plan again with {ENCODER} set."
            )
        report = load_encoder(form, target, decoder=parts is None)
        record = _recorded(encoder, hashes["checkpoint"], report)
        told.append(report.summary())
    if parts is not None:
        report = load_decoder(parts, target)
        record["decoder"] = _recorded(decoder, hashes["decoder_checkpoint"], report)
        told.append(report.summary())
    return record, "\n".join(told)


def _refuse_others(
    planned: Mapping[str, str | None],
    hashes: Mapping[str, str | None],
    files: tuple[str | None, str | None],
) -> None:
    for (key, found), file, variable in zip(hashes.items(), files, (ENCODER, DECODER), strict=True):
        if planned.get(key) not in (None, found):  # None in a plan edited by hand
            raise ValueError(
                f"{variable}: {file} (SHA-256 {found}) is not what the plan, or the folds trained "
                f"before, start from (SHA-256 {planned.get(key)}). Set the variable to that file, "
                f"or unset it; or plan with this one, under a name of its own: "
                f"'nnUNetv2_plan_experiment -pl RefSAM3DPlanner -overwrite_plans_name NAME'."
            )


def _encoder_of(path: Path, preset: str | None) -> tuple[SamForm, str]:
    """A file's encoder and its preset, having tried to load it into a network without memory."""
    form = in_sam_form(read_checkpoint(path))
    preset = preset_of(form.state, preset)
    config = design_network((64, 64, 64), (1.0, 1.0, 1.0), preset)
    with torch.device("meta"):
        network = RefSAM3D(1, 2, text_dim=8, text_words=1, **config.to_json())
    load_encoder(form, dict(network.state_dict()))
    return form, preset


def _family_of(form: SamForm) -> str:
    return "sam" if form.has_relative_positions else "vit"


def _read(path: str, variable: str) -> dict[str, Tensor]:
    if not Path(path).is_file():
        raise FileNotFoundError(
            f"The plan's weights {path} are not there: set {variable} to where the file lies on "
            f"this machine"
        )
    return read_checkpoint(path)


def _naming(what: str, call: Callable[[], _T]) -> _T:
    """Calls, and puts in front of an error which variable, or which file, it is about."""
    try:
        return call()
    except (ValueError, FileNotFoundError) as error:
        raise type(error)(f"{what}: {error}") from error


def _recorded(path: str, sha256: str, report: LoadReport) -> dict[str, Any]:
    return {"from": str(path), "sha256": sha256, **report.to_json()}
