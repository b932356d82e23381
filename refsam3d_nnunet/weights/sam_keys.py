"""Names of the tensors in SAM's checkpoints, and what becomes of each.

``*`` stands for a number. A name without an ending stands for its weight and its bias. MedSAM's
files have SAM's names; SAM-HQ's have a few more.
"""

from __future__ import annotations

import re

KEYS = {
    # SAM: the volumetric network
    "image_encoder.patch_embed.proj": "image_encoder.patch_embed.proj",
    "image_encoder.pos_embed": "image_encoder.pos_embed",
    "image_encoder.blocks.*.norm1": "image_encoder.blocks.*.norm1",
    "image_encoder.blocks.*.attn.qkv": "image_encoder.blocks.*.attn.qkv",
    "image_encoder.blocks.*.attn.proj": "image_encoder.blocks.*.attn.proj",
    "image_encoder.blocks.*.attn.rel_pos_h": "image_encoder.blocks.*.attn.rel_pos_h",
    "image_encoder.blocks.*.attn.rel_pos_w": "image_encoder.blocks.*.attn.rel_pos_w",
    "image_encoder.blocks.*.norm2": "image_encoder.blocks.*.norm2",
    "image_encoder.blocks.*.mlp.lin1": "image_encoder.blocks.*.mlp.lin1",
    "image_encoder.blocks.*.mlp.lin2": "image_encoder.blocks.*.mlp.lin2",
    "prompt_encoder.pe_layer.positional_encoding_gaussian_matrix": "mask_decoder.image_pe.gaussian",
    "mask_decoder.mask_tokens.weight": "mask_decoder.mask_token",
}
# The two-way transformer knows no dimension, so its names stay, below TRANSFORMER.
TRANSFORMER = "mask_decoder.transformer."
_LAYER = "mask_decoder.transformer.layers.*."
KEYS |= {
    name: name
    for name in (
        _LAYER + "self_attn.q_proj",
        _LAYER + "self_attn.k_proj",
        _LAYER + "self_attn.v_proj",
        _LAYER + "self_attn.out_proj",
        _LAYER + "norm1",
        _LAYER + "cross_attn_token_to_image.q_proj",
        _LAYER + "cross_attn_token_to_image.k_proj",
        _LAYER + "cross_attn_token_to_image.v_proj",
        _LAYER + "cross_attn_token_to_image.out_proj",
        _LAYER + "norm2",
        _LAYER + "mlp.lin1",
        _LAYER + "mlp.lin2",
        _LAYER + "norm3",
        _LAYER + "cross_attn_image_to_token.q_proj",
        _LAYER + "cross_attn_image_to_token.k_proj",
        _LAYER + "cross_attn_image_to_token.v_proj",
        _LAYER + "cross_attn_image_to_token.out_proj",
        _LAYER + "norm4",
        TRANSFORMER + "final_attn_token_to_image.q_proj",
        TRANSFORMER + "final_attn_token_to_image.k_proj",
        TRANSFORMER + "final_attn_token_to_image.v_proj",
        TRANSFORMER + "final_attn_token_to_image.out_proj",
        TRANSFORMER + "norm_final_attn",
    )
}
NOT_USED = {
    "image_encoder.neck.*": "the necks are new, one for each level",
    "prompt_encoder.point_embeddings.*": "prompts are text",
    "prompt_encoder.not_a_point_embed": "prompts are text",
    "prompt_encoder.mask_downscaling.*": "prompts are text",
    "prompt_encoder.no_mask_embed": "prompts are text",
    "mask_decoder.iou_token": "mask quality is not predicted",
    "mask_decoder.iou_prediction_head.layers.*": "mask quality is not predicted",
    "mask_decoder.output_upscaling.*": "masks are upscaled in 3D",
    "mask_decoder.output_hypernetworks_mlps.*.layers.*": "one new hyper-network serves all prompts",
    "mask_decoder.hf_token": "SAM-HQ's second mask head works in 2D",
    "mask_decoder.hf_mlp.layers.*": "SAM-HQ's second mask head works in 2D",
    "mask_decoder.compress_vit_feat.*": "SAM-HQ's second mask head works in 2D",
    "mask_decoder.embedding_encoder.*": "SAM-HQ's second mask head works in 2D",
    "mask_decoder.embedding_maskfeature.*": "SAM-HQ's second mask head works in 2D",
}

_NUMBER = re.compile(r"(?<=\.)\d+(?=\.|$)")
_ENDING = re.compile(r"\.(weight|bias)$")
_OURS = set(KEYS.values())


def our_name(name: str) -> str | None:
    """Our network's name of a tensor in SAM's file; None if it is unknown or not used."""
    key = _entry(name, KEYS)
    if key is None:
        return None
    numbers = iter(_NUMBER.findall(name))
    ours = re.sub(r"\*", lambda _: next(numbers), KEYS[key])
    ending = _ENDING.search(name)
    return ours if ending is None or key.endswith(ending[0]) else ours + ending[0]


def why_not_used(name: str) -> str | None:
    """Why a tensor of SAM's file is left aside; None if it is unknown or used."""
    key = _entry(name, NOT_USED)
    return None if key is None else NOT_USED[key]


def comes_from_sam(ours: str) -> bool:
    """Whether a tensor of our network has a counterpart in SAM's file."""
    return _entry(ours, _OURS) is not None


def _entry(name: str, table: dict[str, str] | set[str]) -> str | None:
    pattern = _NUMBER.sub("*", name)
    return next((key for key in (pattern, _ENDING.sub("", pattern)) if key in table), None)
