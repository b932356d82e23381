"""Weights of SAM and its fine-tuned forms for the volumetric network: dict in, dict out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from refsam3d_nnunet.config import PRESETS
from refsam3d_nnunet.weights.report import LoadReport
from refsam3d_nnunet.weights.resample import (
    resize_kernel,
    resize_position_table,
    resize_relative_table,
    share_rgb_kernel,
)
from refsam3d_nnunet.weights.sam_keys import TRANSFORMER, comes_from_sam, our_name, why_not_used

PUBLISHED = ("vit_b", "vit_l", "vit_h")
NEW = "SAM has nothing like it"

_PATCH_KERNEL = "image_encoder.patch_embed.proj.weight"
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
    state = _official_names(state)
    encoder = _same_encoder(state, target)
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


def _official_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Undoes what training in parallel, or saving the image encoder alone, does to names."""
    if all(name.startswith("module.") for name in state):
        state = {name.removeprefix("module."): tensor for name, tensor in state.items()}
    if _PATCH_KERNEL.removeprefix("image_encoder.") in state:
        state = {f"image_encoder.{name}": tensor for name, tensor in state.items()}
    return dict(state)


def _same_encoder(state: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> str:
    """Describes the image encoder in the file, having made sure that it is the network's."""
    if _PATCH_KERNEL not in state or not _blocks(state):
        raise ValueError(
            f"The file holds no ViT image encoder of SAM: {_PATCH_KERNEL!r} is not among its "
            f"{len(state)} tensors ({', '.join(list(state)[:3])}, ...). Encoders of another kind, "
            f"such as the TinyViT of MobileSAM and LiteMedSAM, do not fit. {_wanted()}"
        )
    found, here = _size(state), _size(target)
    heads_differ = found[2] != here[2] and None not in (found[2], here[2])
    if found[:2] != here[:2] or heads_differ:
        raise ValueError(
            f"The file holds {_described(*found)}{_global_blocks(state)}, but the network is "
            f"planned with {_described(*here)}. {_wanted()}"
        )
    return _described(*found)


def _blocks(state: Iterable[str]) -> list[int]:
    prefix = "image_encoder.blocks."
    numbers = {name.removeprefix(prefix).split(".")[0] for name in state if name.startswith(prefix)}
    return sorted(int(number) for number in numbers if number.isdecimal())


def _size(state: Mapping[str, Tensor]) -> tuple[int, int, int | None]:
    """Channels, blocks and heads; the heads show in the tables of relative positions alone."""
    channels = state[_PATCH_KERNEL].shape[0]
    table = state.get("image_encoder.blocks.0.attn.rel_pos_w")
    heads = None if table is None else channels // table.shape[-1]
    return channels, len(_blocks(state)), heads


def _described(channels: int, blocks: int, heads: int | None) -> str:
    of_size = [name for name, p in PRESETS.items() if (p.embed_dim, p.depth) == (channels, blocks)]
    name = of_size[0] if of_size else "a ViT of no known preset"
    return f"{name} ({channels} channels, {blocks} blocks, {heads or '?'} heads)"


def _global_blocks(state: Mapping[str, Tensor]) -> str:
    """Which blocks of the file attend globally, told by their larger tables."""
    tables = {i: state.get(f"image_encoder.blocks.{i}.attn.rel_pos_w") for i in _blocks(state)}
    rows = {i: len(table) for i, table in tables.items() if table is not None}
    if len(set(rows.values())) < 2:
        return ""
    return f" with global attention at {[i for i, n in rows.items() if n == max(rows.values())]}"


def _wanted() -> str:
    presets = ", ".join(
        f"{name} ({p.embed_dim} channels, {p.depth} blocks, {p.num_heads} heads, global attention "
        f"at {list(p.global_blocks)})"
        for name, p in PRESETS.items()
        if name in PUBLISHED
    )
    return (
        f"SAM's encoders are {presets}: name a checkpoint of the planned preset, or plan with the "
        f"preset of the checkpoint (REFSAM3D_PRESET)."
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
    if ours == _PATCH_KERNEL:
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
