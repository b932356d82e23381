"""From SAM's form into the volumetric network: dict in, dict out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor

from refsam3d_nnunet.pretrained.keys import listed
from refsam3d_nnunet.pretrained.report import LoadReport
from refsam3d_nnunet.pretrained.resample import (
    resize_kernel,
    resize_position_table,
    resize_relative_table,
    share_kernel,
)
from refsam3d_nnunet.pretrained.sam_encoder import same_encoder
from refsam3d_nnunet.pretrained.sam_form import PATCH_KERNEL, POSITIONS, SamForm
from refsam3d_nnunet.pretrained.sam_keys import TRANSFORMER, comes_from_sam, our_name, why_not_used

NEW = "SAM has nothing like it"
OTHER_DECODER = "the mask decoder is taken from another file"
NO_RELATIVE_POSITIONS = "the file's encoder has no relative positions: zero, and tuned"

_MASK_TOKEN = "mask_decoder.mask_token"
_GAUSSIAN = "mask_decoder.image_pe.gaussian"
_NO_MASK = "cross_attention.3.out.bias"

Made = dict[str, tuple[Tensor, str]]  # our name -> values, and how they differ from SAM's
Reasons = dict[str, str]
Tensors = Mapping[str, Tensor]


def load_encoder(
    form: SamForm, target: Mapping[str, Tensor], *, decoder: bool = True
) -> LoadReport:
    """Copies a checkpoint in SAM's form into a network, all that fits, or nothing at all.

    The image encoder must be the file's, tensor by tensor; what depends on image channels, token
    size, grid or windows is resampled. The depth table of relative positions, which SAM lacks,
    starts as the mean of height and width. Of the mask decoder, if the file has one, see
    :func:`load_decoder`, what fits is taken.

    Args:
        form: The checkpoint.
        target: State dict of the network. Its tensors are written in place.
        decoder: Whether to take the parts of a mask decoder too.

    Raises:
        ValueError: If the file's image encoder is of another architecture or size, or the file
            has unknown, missing or misshapen tensors. Nothing is copied then.
    """
    encoder = same_encoder(form.state, target)
    sources = _sources(form)
    made, reasons = _encoder_tensors(form, sources, target)
    for part, why_not in (make(sources, target) for make in _DECODER_PARTS):
        made |= part if decoder else {}
        reasons |= why_not if decoder else dict.fromkeys((*part, *why_not), OTHER_DECODER)
    what = f"{encoder}, {form.family}"
    return _copied(form, made, reasons, target, what=what, else_fresh=NEW)


def load_decoder(form: SamForm, target: Mapping[str, Tensor]) -> LoadReport:
    """Copies the parts of SAM's mask decoder that know no dimension into a network.

    These are the two-way transformer, the first mask token, the position code's height and width
    rows, and the embedding of "no mask given", which becomes the bias of the deepest level's
    cross-attention: both are added to every image token that the decoder sees.

    Args:
        form: A checkpoint with a mask decoder.
        target: State dict of the network. Its tensors are written in place.

    Raises:
        ValueError: If the decoder is of another width, or the file has unknown tensors.
    """
    sources = _sources(form)
    made: Made = {}
    reasons: Reasons = {}
    for part, why_not in (make(sources, target) for make in _DECODER_PARTS):
        made |= part
        reasons |= why_not
    if not any(name.startswith(TRANSFORMER) for name in made):
        raise ValueError(
            f"The file's mask decoder does not fit the network: "
            f"{next(iter(reasons.values()))}. Nothing was copied. SAM's decoders have 256 "
            f"channels, as the presets vit_b, vit_l and vit_h have: plan again with one of these "
            f"in REFSAM3D_PRESET, or without REFSAM3D_DECODER_CHECKPOINT."
        )
    what = "SAM's mask decoder"
    return _copied(form, made, reasons, target, what=what, else_fresh=f"no part of {what}")


def _sources(form: SamForm) -> dict[str, Tensor]:
    """Tensors under our names; those that are not used are left out."""
    unknown = [n for n in form.state if our_name(n) is None and why_not_used(n) is None]
    if unknown:
        raise ValueError(
            f"The file has {len(unknown)} tensors that SAM has not: {listed(unknown)}. Nothing "
            f"was copied. Save SAM's own tensors alone, under SAM's names."
        )
    return {ours: tensor for name, tensor in form.state.items() if (ours := our_name(name))}


def _copied(
    form: SamForm, made: Made, reasons: Reasons, target: Tensors, *, what: str, else_fresh: str
) -> LoadReport:
    with torch.no_grad():
        for name, (tensor, _) in made.items():
            target[name].copy_(tensor)
    changes = {our_name(name): how for name, how in form.changed.items()}
    fates = {
        name: "; ".join(filter(None, (changes.get(name), how))) for name, (_, how) in made.items()
    }
    unused = {
        in_file: why_not_used(name) or reasons[our_name(name)]
        for name in form.state
        if our_name(name) not in made
        for in_file in form.names_in_file(name)
    }
    return LoadReport(
        encoder=what,
        loaded=tuple(name for name, how in fates.items() if not how),
        adapted={name: how for name, how in fates.items() if how},
        fresh={name: reasons.get(name, else_fresh) for name in target if name not in made},
        ignored={**form.ignored, **unused},
    )


def _encoder_tensors(form: SamForm, sources: Tensors, target: Tensors) -> tuple[Made, Reasons]:
    made: Made = {}
    wanted = {n for n in target if n.startswith("image_encoder.") and comes_from_sam(n)}
    reasons = _relative_positions_of_one_side(form, wanted)
    problems = [f"{name} is not in the file" for name in wanted - sources.keys() - reasons.keys()]
    for ours, tensor in sources.items():
        if not ours.startswith("image_encoder.") or ours in reasons:
            continue
        if ours not in target:
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
            f"{listed(sorted(problems))}. Nothing was copied. Use an unaltered checkpoint."
        )
    return made | _depth_tables(sources, target), reasons


def _relative_positions_of_one_side(form: SamForm, wanted: set[str]) -> Reasons:
    """Tables of relative positions that only the file, or only the network, has."""
    here = {name for name in wanted if ".attn.rel_pos_" in name}
    if not form.has_relative_positions:
        depth = {f"{name[:-1]}d" for name in here}
        return dict.fromkeys(here | depth, NO_RELATIVE_POSITIONS)
    if here:
        return {}
    there = (our_name(name) for name in form.state if ".attn.rel_pos_" in name)
    return dict.fromkeys(there, "the network is planned without relative positions")


def _fitted(ours: str, tensor: Tensor, shape: torch.Size) -> tuple[Tensor, str]:
    """Resamples what depends on channels, token size, grid or window."""
    if ours == PATCH_KERNEL:
        fitted = resize_kernel(share_kernel(tensor, shape[1]), (shape[2], shape[3]))
        how = f"colours summed, shared by {shape[1]} channels"
        if tensor.shape[2:] != shape[2:]:
            how += f"; {_sizes(tensor.shape[2:])} to {_sizes(shape[2:])} pixels, pseudo-inverse"
        return fitted, how
    if ours == POSITIONS:
        fitted = resize_position_table(tensor, (shape[1], shape[2]))
        how = f"{_sizes(tensor.shape[1:3])} to {_sizes(shape[1:3])} tokens, bicubic"
        return fitted, "" if fitted is tensor else how
    if ".attn.rel_pos_" in ours:
        fitted = resize_relative_table(tensor, shape[0])
        return fitted, "" if fitted is tensor else f"{len(tensor)} to {shape[0]} rows, linear"
    return tensor, ""


def _depth_tables(sources: Tensors, target: Tensors) -> Made:
    made: Made = {}
    for ours in (name for name in target if name.endswith(".attn.rel_pos_d")):
        rows = len(target[ours])
        tables = [sources[n].float() for axis in "hw" if (n := ours[:-1] + axis) in sources]
        if tables:
            mean = sum(resize_relative_table(table, rows) for table in tables) / len(tables)
            made[ours] = (mean, f"mean of height and width, {len(tables[0])} to {rows} rows")
    return made


def _transformer(sources: Tensors, target: Tensors) -> tuple[Made, Reasons]:
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
        reason = f"only one side has {listed(sorted(found.keys() ^ wanted.keys()))}"
    else:
        return {name: (tensor, "") for name, tensor in found.items()}, {}
    return {}, dict.fromkeys((*found, *wanted), reason)


def _mask_token(sources: Tensors, target: Tensors) -> tuple[Made, Reasons]:
    """The token of SAM's single mask, first of its four mask tokens."""
    reason = _why_not(_MASK_TOKEN, sources, target)
    if reason:
        return {}, {_MASK_TOKEN: reason}
    return {_MASK_TOKEN: (sources[_MASK_TOKEN][:1], "first of SAM's mask tokens")}, {}


def _no_mask(sources: Tensors, target: Tensors) -> tuple[Made, Reasons]:
    reason = _why_not(_NO_MASK, sources, target)
    if reason:
        return {}, {_NO_MASK: reason}
    return {_NO_MASK: (sources[_NO_MASK][0], "SAM's embedding of 'no mask given'")}, {}


def _gaussian(sources: Tensors, target: Tensors) -> tuple[Made, Reasons]:
    """Rows of the position code: SAM's are (x, y), ours (depth, y, x)."""
    reason = _why_not(_GAUSSIAN, sources, target)
    if not reason and len(sources[_GAUSSIAN]) != 2:
        reason = _misfit(_GAUSSIAN, sources[_GAUSSIAN], target[_GAUSSIAN])
    if reason:
        return {}, {_GAUSSIAN: reason}
    depth = target[_GAUSSIAN][:1].detach().clone()
    rows = sources[_GAUSSIAN].flip(0).to(depth)
    return {_GAUSSIAN: (torch.cat([depth, rows]), "height and width rows; depth is fresh")}, {}


_DECODER_PARTS: tuple[Callable[[Tensors, Tensors], tuple[Made, Reasons]], ...] = (
    _transformer,
    _mask_token,
    _no_mask,
    _gaussian,
)


def _why_not(ours: str, sources: Tensors, target: Tensors) -> str:
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
