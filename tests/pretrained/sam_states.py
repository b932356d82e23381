"""SAM's checkpoints as segment_anything's own classes write them, and dicts to load them into.

The targets have the names and shapes of the volumetric network, small and with different extents
along each axis.
"""

from functools import partial

import torch
from segment_anything.modeling import (
    ImageEncoderViT,
    MaskDecoder,
    PromptEncoder,
    Sam,
    TwoWayTransformer,
)

from refsam3d_nnunet.pretrained.families import in_sam_form
from refsam3d_nnunet.pretrained.report import LoadReport
from refsam3d_nnunet.pretrained.sam import load_encoder

DIM, DEPTH, HEADS, WIDTH = 24, 3, 2, 32
GLOBAL_BLOCK = 1
SAM_GRID, SAM_WINDOW = 8, 3
GRID, WINDOW = (3, 5, 6), (3, 4, 2)  # of our network, in tokens
FRESH = -7.0  # what a target holds before


def make_sam(dim=DIM, depth=DEPTH, heads=HEADS, width=WIDTH, use_rel_pos=True) -> Sam:
    torch.manual_seed(0)
    size = 16 * SAM_GRID
    encoder = ImageEncoderViT(
        img_size=size,
        embed_dim=dim,
        depth=depth,
        num_heads=heads,
        out_chans=width,
        norm_layer=partial(torch.nn.LayerNorm, eps=1e-6),
        use_rel_pos=use_rel_pos,
        window_size=SAM_WINDOW,
        global_attn_indexes=(GLOBAL_BLOCK,),
    )
    prompts = PromptEncoder(
        embed_dim=width,
        image_embedding_size=(SAM_GRID, SAM_GRID),
        input_image_size=(size, size),
        mask_in_chans=16,
    )
    transformer = TwoWayTransformer(depth=2, embedding_dim=width, mlp_dim=8 * width, num_heads=8)
    decoder = MaskDecoder(transformer=transformer, transformer_dim=width)
    return Sam(encoder, prompts, decoder)


def sam_state(**sizes) -> dict[str, torch.Tensor]:
    """A checkpoint in which no two numbers agree."""
    state = make_sam(**sizes).state_dict()
    return {name: torch.randn(tensor.shape) for name, tensor in state.items()}


def _block_shapes(i, dim, heads, windows):
    name, shapes = f"image_encoder.blocks.{i}", {}
    for module, out, into in (
        ("attn.qkv", 3 * dim, dim),
        ("attn.proj", dim, dim),
        ("mlp.lin1", 4 * dim, dim),
        ("mlp.lin2", dim, 4 * dim),
    ):
        shapes |= {f"{name}.{module}.weight": (out, into), f"{name}.{module}.bias": (out,)}
    for module in ("norm1", "norm2"):
        shapes |= {f"{name}.{module}.weight": (dim,), f"{name}.{module}.bias": (dim,)}
    for axis, window in zip("dhw", windows, strict=True):
        shapes[f"{name}.attn.rel_pos_{axis}"] = (2 * window - 1, dim // heads)
    return shapes | {f"{name}.adapter.down.weight": (dim // 2, dim)}


def target_state(
    dim=DIM, depth=DEPTH, heads=HEADS, width=WIDTH, token=(4, 8, 4), channels=2, grid=GRID
):
    """State dict of a network of ours before anything is loaded."""
    shapes = {
        "image_encoder.patch_embed.proj.weight": (dim, channels, *token[1:]),
        "image_encoder.patch_embed.proj.bias": (dim,),
        "image_encoder.patch_embed.depth_weight": (dim, token[0]),
        "image_encoder.patch_embed.depth_bias": (dim,),
        "image_encoder.patch_embed.label_weight": (dim, 3, *token[1:]),
        "image_encoder.pos_embed": (1, *grid[1:], dim),
        "image_encoder.pos_embed_depth": (1, grid[0], 1, 1, dim),
        "image_encoder.necks.0.reduce.weight": (width, dim),
        "text.projector.0.weight": (width, 7),
        "mask_decoder.mask_token": (1, width),
        "mask_decoder.image_pe.gaussian": (3, width // 2),
        "cross_attention.3.out.bias": (width,),
    }
    for i in range(depth):
        shapes |= _block_shapes(i, dim, heads, grid if i == GLOBAL_BLOCK else WINDOW)
    transformer = TwoWayTransformer(depth=2, embedding_dim=width, mlp_dim=8 * width, num_heads=8)
    for name, tensor in transformer.state_dict().items():
        shapes[f"mask_decoder.transformer.{name}"] = tuple(tensor.shape)
    return {name: torch.full(shape, FRESH) for name, shape in shapes.items()}


def load_sam(state, target) -> LoadReport:
    """A state dict into another, as from a file."""
    return load_encoder(in_sam_form(state), target)


def untouched(target) -> bool:
    return all(bool((tensor == FRESH).all()) for tensor in target.values())
