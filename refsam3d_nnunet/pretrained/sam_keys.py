"""Names of the tensors in SAM's checkpoints, and what becomes of each.

MedSAM's files have SAM's names; SAM-HQ's have a few more.
"""

from refsam3d_nnunet.pretrained.keys import entry, renamed

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
    # SAM adds it to every image token that the decoder sees, if no mask is given as a prompt.
    "prompt_encoder.no_mask_embed.weight": "cross_attention.3.out.bias",
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

_OURS = set(KEYS.values())


def our_name(name: str) -> str | None:
    """Our network's name of a tensor in SAM's file; None if it is unknown or not used."""
    return renamed(name, KEYS)


def why_not_used(name: str) -> str | None:
    """Why a tensor of SAM's file is left aside; None if it is unknown or used."""
    key = entry(name, NOT_USED)
    return None if key is None else NOT_USED[key]


def comes_from_sam(ours: str) -> bool:
    """Whether a tensor of our network has a counterpart in SAM's file."""
    return entry(ours, _OURS) is not None
