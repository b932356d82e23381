"""Names of the tensors of plain ViTs, and SAM's names for them, below the image encoder.

Two spellings cover the published ViTs: the one of timm, which MAE, DINO, DINOv2 and DeiT share,
and the one of transformers, in the words of its versions 4 and 5.
"""

from dataclasses import dataclass

_OUTPUTS = "the levels are taken before the last norm and the heads"
_DECODER = "of the decoder that only pretraining has"
_TOKENS = "all tokens are image tokens"


@dataclass(frozen=True)
class VitKeys:
    """How one library spells a plain ViT.

    Args:
        library: Whose spelling it is.
        patch_kernel: The tensor by which it is told, together with ``first_block``.
        first_block: Spellings of a tensor of the first block, one of which must be there.
        keys: Name -> SAM's name.
        joined: Name -> SAM's name of what it becomes a third of, in this order: queries, keys,
            values.
        scales: LayerScale's name -> SAM's name of the layer whose output it scales.
        positions: Table of positions, those of other tokens in front.
        other_tokens: Tokens [1, n, e] that are not of the image.
        not_used: Beginning of a name -> why such tensors are left aside.
    """

    library: str
    patch_kernel: str
    first_block: tuple[str, ...]
    keys: dict[str, str]
    joined: dict[str, str]
    scales: dict[str, str]
    positions: str
    other_tokens: tuple[str, ...]
    not_used: dict[str, str]


TIMM = VitKeys(
    library="timm",
    patch_kernel="patch_embed.proj.weight",
    first_block=("blocks.0.mlp.fc1.weight",),
    keys={
        "patch_embed.proj": "patch_embed.proj",
        "blocks.*.norm1": "blocks.*.norm1",
        "blocks.*.attn.qkv": "blocks.*.attn.qkv",
        "blocks.*.attn.proj": "blocks.*.attn.proj",
        "blocks.*.norm2": "blocks.*.norm2",
        "blocks.*.mlp.fc1": "blocks.*.mlp.lin1",
        "blocks.*.mlp.fc2": "blocks.*.mlp.lin2",
    },
    joined={},
    scales={
        "blocks.*.ls1.gamma": "blocks.*.attn.proj",
        "blocks.*.ls2.gamma": "blocks.*.mlp.lin2",
        "blocks.*.gamma_1": "blocks.*.attn.proj",
        "blocks.*.gamma_2": "blocks.*.mlp.lin2",
    },
    positions="pos_embed",
    other_tokens=("cls_token", "dist_token", "reg_token", "register_tokens"),
    not_used={
        "cls_token": _TOKENS,
        "dist_token": _TOKENS,
        "reg_token": _TOKENS,
        "register_tokens": _TOKENS,
        "mask_token": _TOKENS,
        "norm.": _OUTPUTS,
        "fc_norm.": _OUTPUTS,
        "head.": _OUTPUTS,
        "head_dist.": _OUTPUTS,
        "decoder_": _DECODER,
    },
)
TRANSFORMERS = VitKeys(
    library="transformers",
    patch_kernel="embeddings.patch_embeddings.projection.weight",
    first_block=(
        "encoder.layer.0.attention.attention.query.weight",
        "encoder.layer.0.attention.q_proj.weight",
        "layers.0.attention.q_proj.weight",
    ),
    keys={
        "embeddings.patch_embeddings.projection": "patch_embed.proj",
        "encoder.layer.*.norm1": "blocks.*.norm1",
        "encoder.layer.*.norm2": "blocks.*.norm2",
        "encoder.layer.*.layernorm_before": "blocks.*.norm1",
        "encoder.layer.*.layernorm_after": "blocks.*.norm2",
        "encoder.layer.*.attention.output.dense": "blocks.*.attn.proj",
        "encoder.layer.*.attention.o_proj": "blocks.*.attn.proj",
        "encoder.layer.*.intermediate.dense": "blocks.*.mlp.lin1",
        "encoder.layer.*.output.dense": "blocks.*.mlp.lin2",
        "encoder.layer.*.mlp.fc1": "blocks.*.mlp.lin1",
        "encoder.layer.*.mlp.fc2": "blocks.*.mlp.lin2",
        "layers.*.layernorm_before": "blocks.*.norm1",
        "layers.*.layernorm_after": "blocks.*.norm2",
        "layers.*.attention.o_proj": "blocks.*.attn.proj",
        "layers.*.mlp.fc1": "blocks.*.mlp.lin1",
        "layers.*.mlp.fc2": "blocks.*.mlp.lin2",
    },
    joined={
        "encoder.layer.*.attention.attention.query": "blocks.*.attn.qkv",
        "encoder.layer.*.attention.attention.key": "blocks.*.attn.qkv",
        "encoder.layer.*.attention.attention.value": "blocks.*.attn.qkv",
        "encoder.layer.*.attention.q_proj": "blocks.*.attn.qkv",
        "encoder.layer.*.attention.k_proj": "blocks.*.attn.qkv",
        "encoder.layer.*.attention.v_proj": "blocks.*.attn.qkv",
        "layers.*.attention.q_proj": "blocks.*.attn.qkv",
        "layers.*.attention.k_proj": "blocks.*.attn.qkv",
        "layers.*.attention.v_proj": "blocks.*.attn.qkv",
    },
    scales={
        "encoder.layer.*.layer_scale1.lambda1": "blocks.*.attn.proj",
        "encoder.layer.*.layer_scale2.lambda1": "blocks.*.mlp.lin2",
    },
    positions="embeddings.position_embeddings",
    other_tokens=("embeddings.cls_token", "embeddings.register_tokens"),
    not_used={
        "embeddings.cls_token": _TOKENS,
        "embeddings.mask_token": _TOKENS,
        "embeddings.register_tokens": _TOKENS,
        "layernorm.": _OUTPUTS,
        "pooler.": _OUTPUTS,
        "classifier.": _OUTPUTS,
        "decoder.": _DECODER,
    },
)
PLAIN_VITS = (TIMM, TRANSFORMERS)
