"""The networks that ours are compared with: nnU-Net's, Primus, and 3DSAM-adapter's form."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from contest import Contender, Problem, nnunet_loss, shares
from nnunetv2.experiment_planning.experiment_planners.network_topology import (
    get_pool_and_conv_props,
)
from nnunetv2.training.loss.deep_supervision import DeepSupervisionWrapper
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
from torch import Tensor, nn

from refsam3d_nnunet.config import PRESETS, NetworkConfig
from refsam3d_nnunet.network.image_encoder import ImageEncoder3D

UNET = "PlainConvUNet"
# On one patch ResEncM, L and XL are one network: the presets differ by the memory they plan for.
RESENC = "ResEncM/L"
LITERAL = "3DSAM-adapter form"
PRIMUS = ("Primus-S", "Primus-M", "PrimusV3-S", "PrimusV3-M")
UP_SAMPLING = 4  # of 3DSAM-adapter's input


def unet_architecture(name: str, problem: Problem) -> dict[str, Any]:
    """What nnU-Net's planners write into a plan for a patch; blocks and channels are theirs.

    Raises:
        ValueError: If nnU-Net would choose another patch.
    """
    _, strides, kernels, patch, _ = get_pool_and_conv_props(
        problem.spacing, problem.patch, 4, 999999
    )
    if tuple(patch) != problem.patch:
        raise ValueError(f"nnU-Net would pad the patch {problem.patch} to {tuple(patch)}")
    stages = len(strides)
    settings = {
        "n_stages": stages,
        "features_per_stage": [min(320, 32 * 2**i) for i in range(stages)],
        "conv_op": "torch.nn.Conv3d",
        "kernel_sizes": kernels,
        "strides": strides,
        "conv_bias": True,
        "norm_op": "torch.nn.InstanceNorm3d",
        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    }
    if name == UNET:
        own = {"n_conv_per_stage": [2] * stages, "n_conv_per_stage_decoder": [2] * (stages - 1)}
    else:
        blocks = (1, 3, 4, *[6] * stages)[:stages]
        own = {"n_blocks_per_stage": blocks, "n_conv_per_stage_decoder": [1] * (stages - 1)}
    family = "PlainConvUNet" if name == UNET else "ResidualEncoderUNet"
    return {
        "network_class_name": f"dynamic_network_architectures.architectures.unet.{family}",
        "arch_kwargs": {**settings, **own},
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }


def unet(name: str, problem: Problem, device: torch.device) -> Contender:
    """One of nnU-Net's own, with SGD as its trainer has it."""
    plan = unet_architecture(name, problem)
    network = get_network_from_plans(
        *plan.values(), problem.channels, problem.prompts, deep_supervision=True
    ).to(device)
    resolutions = len(network.decoder.seg_layers)
    weights = [0.5**level for level in range(resolutions)]
    weights[-1] = 0  # as nnU-Net's trainer has it
    loss = DeepSupervisionWrapper(nnunet_loss(), shares(weights))
    optimizer = torch.optim.SGD(
        network.parameters(), 1e-2, weight_decay=3e-5, momentum=0.99, nesterov=True
    )
    return Contender(network, loss, optimizer, problem, device)


def primus_of(name: str, problem: Problem, device: torch.device) -> Contender:
    """A Primus, with AdamW as its trainer has it.

    Raises:
        ImportError: If the installed dynamic_network_architectures has it not.
    """
    # Imports timm, which is no dependency of ours.
    from dynamic_network_architectures.architectures import primus

    version, size = name.split("-")
    regularised = {"drop_path_rate": 0.2, "scale_attn_inner": True, "init_values": 0.1}
    token = (8, 8, 8)
    network_class = getattr(primus, version + size, None)
    if version == "Primus":
        numbers = primus._PRIMUS_CONFIGS[size]  # noqa: SLF001 - nowhere else
        network = primus.Primus(
            problem.channels,
            patch_embed_size=token,
            num_classes=problem.prompts,
            input_shape=problem.patch,
            **numbers,
            **regularised,
        )
    elif network_class is None:
        raise ImportError(f"This dynamic_network_architectures has no {version}{size}")
    else:
        network = network_class(
            problem.channels,
            problem.prompts,
            patch_embed_size=token,
            input_shape=problem.patch,
            drop_path_rate=0.2,
        )
    network.to(device)
    optimizer = torch.optim.AdamW(
        network.parameters(), 3e-4, weight_decay=5e-2, betas=(0.9, 0.98), fused=True
    )
    return Contender(network, nnunet_loss(), optimizer, problem, device)


class LiteralAdapterEncoder(nn.Module):
    """The image encoder in 3DSAM-adapter's published form, for its cost only.

    The patch is up-sampled four times, so that SAM's tokens of 16 voxels are 4 of the patch's;
    two convolutions embed it; all blocks attend in windows of 8; necks follow, no decoder.

    References:
        Gong et al. 2023 (3DSAM-adapter), arXiv:2306.13465.

    Args:
        problem: Patch and channels, before up-sampling.
    """

    def __init__(self, problem: Problem) -> None:
        super().__init__()
        size = PRESETS["vit_b"]
        d, h, w = (UP_SAMPLING * p for p in problem.patch)
        config = NetworkConfig(
            patch_size=(d, h, w),
            token_size=(16, 16, 16),
            window_size=(8, 8, 8),
            embed_dim=size.embed_dim,
            depth=size.depth,
            num_heads=size.num_heads,
            global_blocks=(),
            level_blocks=size.global_blocks,
            adapter_dim=size.adapter_dim,
            decoder_dim=size.decoder_dim,
            stem_channels=(16, 32, 64, 128),
        )
        self.encoder = ImageEncoder3D(config, problem.channels)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Levels for the patch ``x`` (b c D H W)."""
        x = F.interpolate(x, scale_factor=UP_SAMPLING, mode="trilinear")
        encoder, embed = self.encoder, self.encoder.patch_embed
        x = F.conv3d(x, embed.proj.weight[:, :, None], embed.proj.bias, stride=(1, 16, 16))
        depth = embed.depth_weight[:, None, :, None, None]
        x = F.conv3d(x, depth, embed.depth_bias, stride=(16, 1, 1), groups=len(depth))
        x = x.movedim(1, -1) + encoder.pos_embed[:, None] + encoder.pos_embed_depth
        levels = []
        for i, block in enumerate(encoder.blocks):
            x = block(x)
            if i in encoder.level_blocks:
                levels.append(x)
        return [neck(level) for neck, level in zip(encoder.necks, levels, strict=True)]


def literal_forward(problem: Problem) -> tuple[Callable[[], Any], int]:
    """A forward of the literal form on no data at all, to count; and its parameters."""
    with torch.device("meta"):
        network = LiteralAdapterEncoder(problem).eval()
        image = torch.empty(problem.batch, problem.channels, *problem.patch)

    @torch.no_grad()
    def forward() -> list[Tensor]:
        return network(image)

    return forward, sum(p.numel() for p in network.parameters())
