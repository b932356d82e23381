"""The one entrance: pretrained weights from a file into a network."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from refsam3d_nnunet.environment import Settings
from refsam3d_nnunet.files import sha256_of
from refsam3d_nnunet.pretrained.checkpoint import read_checkpoint
from refsam3d_nnunet.pretrained.families import decoder_in_sam_form, in_sam_form
from refsam3d_nnunet.pretrained.report import LoadReport
from refsam3d_nnunet.pretrained.sam import load_decoder, load_encoder
from refsam3d_nnunet.pretrained.sam_encoder import preset_of
from refsam3d_nnunet.weights.store import locate

RANDOM = "random numbers"


def settled(settings: Settings) -> Settings:
    """Replaces names of weights by files, and settles what the file of the encoder decides.

    Args:
        settings: What the environment asks for.

    Returns:
        The settings with paths instead of names, and with the preset and the family of the
        checkpoint, if there is one.

    Raises:
        FileNotFoundError: If there is no such file, or weights of that name are not here yet.
        ValueError: If the file cannot be read, holds no image encoder of a known family, or one
            of another size than the preset asked for.
    """
    if settings.decoder_checkpoint is not None:
        path = locate(settings.decoder_checkpoint)
        decoder_in_sam_form(read_checkpoint(path))
        settings = replace(settings, decoder_checkpoint=str(path.resolve()))
    if settings.checkpoint is None:
        return settings
    path = locate(settings.checkpoint)
    try:
        form = in_sam_form(read_checkpoint(path))
        preset = preset_of(form.state, settings.preset)
    except ValueError as error:
        raise ValueError(f"REFSAM3D_CHECKPOINT names {path}: {error}") from error
    family = "sam" if form.has_relative_positions else "vit"
    return replace(settings, checkpoint=str(path.resolve()), preset=preset, family=family)


def load_pretrained(
    network: nn.Module, encoder: str | None, decoder: str | None
) -> tuple[dict[str, Any], str]:
    """Copies pretrained weights into a network.

    Args:
        network: A RefSAM3D network. Its parameters are written in place.
        encoder: File with an image encoder, and maybe SAM's mask decoder; None for none.
        decoder: File whose mask decoder is taken instead; None for none.

    Returns:
        What became of every tensor, with the files and their hashes, for the record; and a
        summary for the log, empty without files.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If a file cannot be read or does not fit. The network is then as it was.
    """
    target = dict(network.state_dict())
    record: dict[str, Any] = {"from": RANDOM}
    told = []
    if encoder is not None:
        report = load_encoder(in_sam_form(read_checkpoint(encoder)), target)
        record = _recorded(encoder, report)
        told.append(report.summary())
    if decoder is not None:
        report = load_decoder(decoder_in_sam_form(read_checkpoint(decoder)), target)
        record["decoder"] = _recorded(decoder, report)
        told.append(report.summary())
    return record, "\n".join(told)


def _recorded(path: str, report: LoadReport) -> dict[str, Any]:
    return {"from": str(path), "sha256": sha256_of(Path(path)), **report.to_json()}
