"""Weights of SAM and its fine-tuned forms for the volumetric network: dict in, dict out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from refsam3d_nnunet.weights.report import LoadReport
from refsam3d_nnunet.weights.resample import (
    resize_kernel,
    resize_position_table,
    resize_relative_table,
    share_rgb_kernel,
)
from refsam3d_nnunet.weights.sam_encoder import PATCH_KERNEL, official_names, same_encoder
from refsam3d_nnunet.weights.sam_keys import TRANSFORMER, comes_from_sam, our_name, why_not_used

NEW = "SAM has nothing like it"

_POSITIONS = "image_encoder.pos_embed"
_MASK_TOKEN = "mask_decoder.mask_token"
_GAUSSIAN = "mask_decoder.image_pe.gaussian"

Made = dict[str, tuple[Tensor, str]]  # our name -> values, and how they differ from SAM's
Reasons = dict[str, str]


def load_sam(state: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> LoadReport:
    """Copies SAM's weights into a network, all that fit, or nothing at all.

    The image encoder must be the file's, tensor by tensor; what depends on image channels, token
    size, grid or windows is resampled. The depth table of relative positions, which SAM lacks,
    starts as the mean of height and width. Of the mask decoder, the two-way transformer, the
    first mask token and the position code's height and width rows are taken where the decoder has
    SAM's width.

    Args:
        state: State dict of SAM, MedSAM or SAM-HQ, or of SAM's image encoder alone.
        target: State dict of the network. Its tensors are written in place.

    Raises:
        ValueError: If the file's image encoder is of another architecture or size, or the file
            has unknown, missing or misshapen tensors. Nothing is copied then.
    """
    state = official_names(state)
    encoder = same_encoder(state, target)
    _refuse_unknown(state)
    sources = {ours: tensor for name, tensor in state.items() if (ours := our_name(name))}
    made, not_made = _encoder_tensors(sources, target)
    for make in (_transformer, _mask_token, _gaussian):
        part, reasons = make(sources, target)
        made |= part
        not_made |= reasons

    with torch.no_grad():
        for name, (tensor, _) in made.items():
            target[name].copy_(tensor)
    unused = {
        name: why_not_used(name) or not_made[our_name(name)]
        for name in state
        if our_name(name) not in made
    }
    return LoadReport(
        encoder=encoder,
        loaded=tuple(name for name, (_, how) in made.items() if not how),
        adapted={name: how for name, (_, how) in made.items() if how},
        fresh={name: not_made.get(name, NEW) for name in target if name not in made},
        ignored=unused,
    )


def _refuse_unknown(state: Mapping[str, Tensor]) -> None:
    unknown = [name for name in state if our_name(name) is None and why_not_used(name) is None]
    if unknown:
        raise ValueError(
            f"The file has {len(unknown)} tensors that SAM has not: {_listed(unknown)}. Nothing "
            f"was copied. Save SAM's own tensors alone, under SAM's names."
        )


def _encoder_tensors(
    sources: Mapping[str, Tensor], target: Mapping[str, Tensor]
) -> tuple[Made, Reasons]:
    made: Made = {}
    reasons: Reasons = {}
    problems = [
        f"{name} is not in the file"
        for name in target
        if name.startswith("image_encoder.") and comes_from_sam(name) and name not in sources
    ]
    has_relative = any(".attn.rel_pos_" in name for name in target)
    for ours, tensor in sources.items():
        if not ours.startswith("image_encoder."):
            continue
        if ".attn.rel_pos_" in ours and not has_relative:
            reasons[ours] = "the network is planned without relative positions"
        elif ours not in target:
            problems.append(f"{ours} is not in the network")
        elif tensor.ndim != target[ours].ndim:
            problems.append(_misfit(ours, tensor, target[ours]))
        else:
            made[ours] = _fitted(ours, tensor, target[ours].shape)
            if made[ours][0].shape != target[ours].shape:
                problems.append(_misfit(ours, tensor, target[ours]))
    if problems:
        raise ValueError(
            f"The file's image encoder does not fit the network in {len(problems)} places: "
            f"{_listed(problems)}. Nothing was copied. Use an unaltered checkpoint of SAM or "
            f"MedSAM."
        )
    return made | _depth_tables(sources, target), reasons


def _fitted(ours: str, tensor: Tensor, shape: torch.Size) -> tuple[Tensor, str]:
    """Resamples what depends on channels, token size, grid or window."""
    if ours == PATCH_KERNEL:
        fitted = resize_kernel(share_rgb_kernel(tensor, shape[1]), (shape[2], shape[3]))
        how = f"colours summed, shared by {shape[1]} channels"
        if tensor.shape[2:] != shape[2:]:
            how += f"; {_sizes(tensor.shape[2:])} to {_sizes(shape[2:])} pixels, pseudo-inverse"
        return fitted, how
    if ours == _POSITIONS:
        fitted = resize_position_table(tensor, (shape[1], shape[2]))
        how = f"{_sizes(tensor.shape[1:3])} to {_sizes(shape[1:3])} tokens, bicubic"
        return fitted, "" if fitted is tensor else how
    if ".attn.rel_pos_" in ours:
        fitted = resize_relative_table(tensor, shape[0])
        return fitted, "" if fitted is tensor else f"{len(tensor)} to {shape[0]} rows, linear"
    return tensor, ""


def _depth_tables(sources: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> Made:
    made: Made = {}
    for ours in (name for name in target if name.endswith(".attn.rel_pos_d")):
        rows = len(target[ours])
        height, width = (sources[ours[:-1] + axis].float() for axis in "hw")
        mean = (resize_relative_table(height, rows) + resize_relative_table(width, rows)) / 2
        made[ours] = (mean, f"mean of height and width, {len(height)} to {rows} rows")
    return made


def _transformer(
    sources: Mapping[str, Tensor], target: Mapping[str, Tensor]
) -> tuple[Made, Reasons]:
    """SAM's two-way transformer, whole or not at all."""
    found = {name: tensor for name, tensor in sources.items() if name.startswith(TRANSFORMER)}
    wanted = {name: tensor for name, tensor in target.items() if name.startswith(TRANSFORMER)}
    misfits = [
        _misfit(n, found[n], wanted[n])
        for n in found
        if n in wanted and found[n].shape != wanted[n].shape
    ]
    if not found:
        reason = "the file holds no mask decoder"
    elif misfits:
        reason = f"the decoder has another width: {misfits[0]}"
    elif found.keys() != wanted.keys():
        reason = f"only one side has {_listed(sorted(found.keys() ^ wanted.keys()))}"
    else:
        return {name: (tensor, "") for name, tensor in found.items()}, {}
    return {}, dict.fromkeys((*found, *wanted), reason)


def _mask_token(
    sources: Mapping[str, Tensor], target: Mapping[str, Tensor]
) -> tuple[Made, Reasons]:
    """The token of SAM's single mask, first of its four mask tokens."""
    reason = _why_not(_MASK_TOKEN, sources, target)
    if reason:
        return {}, {_MASK_TOKEN: reason}
    return {_MASK_TOKEN: (sources[_MASK_TOKEN][:1], "first of SAM's mask tokens")}, {}


def _gaussian(sources: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> tuple[Made, Reasons]:
    """Rows of the position code: SAM's are (x, y), ours (depth, y, x)."""
    reason = _why_not(_GAUSSIAN, sources, target)
    if not reason and len(sources[_GAUSSIAN]) != 2:
        reason = _misfit(_GAUSSIAN, sources[_GAUSSIAN], target[_GAUSSIAN])
    if reason:
        return {}, {_GAUSSIAN: reason}
    depth = target[_GAUSSIAN][:1].detach().clone()
    rows = sources[_GAUSSIAN].flip(0).to(depth)
    return {_GAUSSIAN: (torch.cat([depth, rows]), "height and width rows; depth is fresh")}, {}


def _why_not(ours: str, sources: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> str:
    """Why a tensor of the decoder cannot be made; empty if it can."""
    if ours not in sources:
        return "the file holds no mask decoder"
    if ours not in target:
        return "the network has nothing like it"
    found, here = sources[ours], target[ours]
    if found.ndim == 2 and found.shape[-1] == here.shape[-1]:
        return ""
    return f"the decoder has another width: {_misfit(ours, found, here)}"


def _misfit(name: str, found: Tensor, here: Tensor) -> str:
    return f"{name} is {list(found.shape)} in the file and {list(here.shape)} in the network"


def _sizes(shape: Iterable[int]) -> str:
    return "x".join(map(str, shape))


def _listed(names: list[str], most: int = 8) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
