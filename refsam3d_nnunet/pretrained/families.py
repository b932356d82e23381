"""Which family of checkpoints a file belongs to."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from refsam3d_nnunet.pretrained.keys import listed
from refsam3d_nnunet.pretrained.sam_form import PATCH_KERNEL, SAM, SamForm
from refsam3d_nnunet.pretrained.vit import plain_vit

# By these a SAM encoder is told from timm's ViT, which calls its patch kernel the same.
_SAM_BLOCK = "image_encoder.blocks.0.mlp.lin1.weight"
_TRANSFORMER = "mask_decoder.transformer.norm_final_attn.weight"


def in_sam_form(state: Mapping[str, Tensor]) -> SamForm:
    """Puts a checkpoint into the form of SAM's, whatever family it is of.

    Half precision becomes float32, so that what is computed from it is not rounded again.

    Args:
        state: State dict as :func:`read_checkpoint` gives it.

    Raises:
        ValueError: If the file is of no family that is known, or holds numbers that are not
            finite.
    """
    state = {name: tensor.float() for name, tensor in _without_wrapping(state).items()}
    _refuse_infinite(state)
    if {PATCH_KERNEL, _SAM_BLOCK} <= state.keys():
        return SamForm(SAM, state)
    vit = plain_vit(state)
    if vit is not None:
        return vit
    raise ValueError(_nothing_known(state))


def decoder_in_sam_form(state: Mapping[str, Tensor]) -> SamForm:
    """Prompt encoder and mask decoder of SAM, MedSAM, MobileSAM or LiteMedSAM.

    Raises:
        ValueError: If the file holds no mask decoder of SAM's, or numbers in it that are not
            finite.
    """
    state = _without_wrapping(state)
    if _TRANSFORMER not in state:
        raise ValueError(
            f"The file holds no mask decoder of SAM's: {_TRANSFORMER!r} is not among its "
            f"{len(state)} tensors ({listed(list(state), 3)}). Name a checkpoint of SAM, MedSAM "
            f"or LiteMedSAM in REFSAM3D_DECODER_CHECKPOINT."
        )
    parts = {n: t.float() for n, t in state.items() if not n.startswith("image_encoder.")}
    _refuse_infinite(parts)
    encoder = [name for name in state if name not in parts]
    ignored = dict.fromkeys(encoder, "only the decoder is taken from this file")
    return SamForm(SAM, parts, ignored=ignored)


def _refuse_infinite(state: Mapping[str, Tensor]) -> None:
    broken = [name for name, tensor in state.items() if not torch.isfinite(tensor).all()]
    if broken:
        raise ValueError(
            f"The file holds infinite or undefined numbers in {listed(broken)}: it comes from a "
            f"training that diverged, or was damaged. Nothing was copied."
        )


def _without_wrapping(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Undoes what training, or saving SAM's image encoder alone, does to all names."""
    prefixes = [n.removesuffix(_SAM_BLOCK) for n in state if n.endswith(f".{_SAM_BLOCK}")]
    for prefix in (*prefixes, "module."):
        if all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    if _SAM_BLOCK.removeprefix("image_encoder.") in state:
        state = {f"image_encoder.{name}": tensor for name, tensor in state.items()}
    return dict(state)


def _nothing_known(state: Mapping[str, Tensor]) -> str:
    decoder = (
        " Its mask decoder can be used: name the file in REFSAM3D_DECODER_CHECKPOINT."
        if _TRANSFORMER in state
        else ""
    )
    return (
        f"The file holds no plain ViT image encoder: neither SAM's ({PATCH_KERNEL}, {_SAM_BLOCK}) "
        f"nor one that timm or transformers would have written is among its {len(state)} tensors "
        f"({listed(list(state), 3)}). Encoders of another kind, such as the TinyViT of MobileSAM "
        f"and LiteMedSAM or the Hiera of SAM 2, do not fit.{decoder}"
    )
