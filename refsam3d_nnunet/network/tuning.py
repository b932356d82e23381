"""Which parameters are tuned. Freezing happens here and nowhere else."""

import re

from torch import nn

from refsam3d_nnunet.config import TUNING_MODES

# What the paper leaves as SAM's checkpoint has it, in mode adapter. Norms, adapters, depth terms,
# necks, prompts and decoder are tuned.
_OF_THE_CHECKPOINT = re.compile(
    r"image_encoder\."
    r"(patch_embed\.proj\.|pos_embed$|blocks\.\d+\.(attn\.(qkv|proj|rel_pos_[hw])|mlp\.))"
)
# Only checkpoints of SAM's family bring tables of relative positions.
_RELATIVE_POSITIONS = re.compile(r"image_encoder\.blocks\.\d+\.attn\.rel_pos_[hw]")


def is_pretrained(name: str, family: str | None = "sam") -> bool:
    """Whether a parameter is one that mode ``adapter`` leaves as the checkpoint has it.

    Args:
        name: Of the parameter.
        family: What the checkpoint holds, sam or vit. A plain ViT has no relative positions:
            their tables start at zero.
    """
    new = family == "vit" and _RELATIVE_POSITIONS.match(name)
    return bool(_OF_THE_CHECKPOINT.match(name) and not new)


def apply_tuning(network: nn.Module, mode: str, family: str | None = "sam") -> None:
    """Freezes what ``mode`` does not tune.

    Args:
        network: A RefSAM3D network.
        mode: ``adapter`` (the paper: SAM's image encoder frozen, norms aside), ``full``
            (everything, from pretrained weights) or ``scratch`` (everything, from random ones).
        family: What the checkpoint holds, see :func:`is_pretrained`.

    Raises:
        ValueError: If there is no such mode.
    """
    if mode not in TUNING_MODES:
        raise ValueError(f"Unknown tuning mode {mode!r}; there are {', '.join(TUNING_MODES)}.")
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(not (mode == "adapter" and is_pretrained(name, family)))


def keep_frozen_in_eval(network: nn.Module) -> None:
    """Puts modules whose parameters are all frozen into eval mode, after ``network.train()``."""
    for module in network.modules():
        parameters = list(module.parameters())
        if parameters and not any(p.requires_grad for p in parameters):
            module.eval()
