"""Small networks with all parts of the real one."""

from collections.abc import Callable

import pytest
import torch

from refsam3d_nnunet.config import NetworkConfig
from refsam3d_nnunet.network.refsam3d import RefSAM3D

TEXT_DIM, TEXT_WORDS = 24, 5


def tiny_config(**changes) -> NetworkConfig:
    numbers = {
        "patch_size": (6, 20, 24),
        "token_size": (2, 4, 4),
        "window_size": (2, 3, 4),
        "embed_dim": 32,
        "depth": 4,
        "num_heads": 2,
        "global_blocks": (1, 3),
        "level_blocks": (0, 1, 2, 3),
        "adapter_dim": 8,
        "decoder_dim": 16,
        "stem_channels": (4, 8),
        "auxiliary_masks": 1,
        "residual_class_tokens": True,
        "stem_tokens": True,
        "stem_convolutions": 2,
        "decoder_convolutions": 2,
    }
    return NetworkConfig(**{**numbers, **changes})


def random_text(prompts: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Words, mask (prompt i has i % 4 + 2 words) and sentences."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.arange(prompts) % 4 + 2
    mask = torch.arange(TEXT_WORDS) < lengths[:, None]
    words = torch.randn(prompts, TEXT_WORDS, TEXT_DIM, generator=generator) * mask[..., None]
    return words, mask, torch.randn(prompts, TEXT_DIM, generator=generator)


@pytest.fixture
def build() -> Callable[..., RefSAM3D]:
    """Builds a tiny network whose zero-initialised parts are awake."""

    def _build(
        *, channels=1, prompts=3, awake=True, labels=0, deep=False, seed=0, **changes
    ) -> RefSAM3D:
        torch.manual_seed(seed)
        network = RefSAM3D(
            channels,
            prompts,
            text_dim=TEXT_DIM,
            text_words=TEXT_WORDS,
            label_channels=labels,
            deep_supervision=deep,
            **tiny_config(**changes).to_json(),
        )
        network.text.store(*random_text(prompts))
        if awake:
            for parameter in network.parameters():
                if not parameter.any():
                    torch.nn.init.normal_(parameter, std=0.2)
        return network

    return _build
