"""The networks that are compared, by name."""

from typing import Any

import torch
from contest import Contender, Problem, nnunet_loss, shares
from nnunetv2.training.loss.deep_supervision import DeepSupervisionWrapper
from rivals import PRIMUS, RESENC, UNET, primus_of, unet

from refsam3d_nnunet.config import PRESETS, TUNING_MODES, NetworkConfig
from refsam3d_nnunet.design import design_network, parts_for
from refsam3d_nnunet.loss import PromptMaskLoss
from refsam3d_nnunet.network.refsam3d import RefSAM3D
from refsam3d_nnunet.network.tuning import apply_tuning
from refsam3d_nnunet.optim import adamw

OURS = tuple(f"{preset}-{tuning}" for preset in PRESETS for tuning in TUNING_MODES)
WORDS, TEXT_DIM = 9, 384  # the phrases of openkbp_hn_ct with MiniLM


def build(name: str, problem: Problem, device: torch.device, **changes: Any) -> Contender:  # noqa: ANN401
    """Makes a contender.

    Args:
        name: One of OURS, UNET, RESENC or PRIMUS.
        problem: Patch, batch, channels and classes.
        device: Where it computes.
        changes: Numbers of :class:`NetworkConfig` that differ from the design, for ours.

    Raises:
        ValueError: If there is no such contender.
        ImportError: If it needs a package that is not there.
    """
    torch.manual_seed(0)
    if name in OURS:
        return _ours(name, problem, device, changes)
    if name in (UNET, RESENC):
        return unet(name, problem, device)
    if name in PRIMUS:
        return primus_of(name, problem, device)
    raise ValueError(
        f"No contender {name!r}; there are {', '.join([*OURS, UNET, RESENC, *PRIMUS])}"
    )


def planned(name: str, problem: Problem) -> NetworkConfig:
    """The architecture that a plan has for one of OURS."""
    preset, tuning = name.split("-")
    parts = parts_for(tuning, problem.channels)
    return design_network(problem.patch, problem.spacing, preset, **parts)


def _ours(name: str, problem: Problem, device: torch.device, changes: dict) -> Contender:
    tuning = name.partition("-")[2]
    config = planned(name, problem)
    config = NetworkConfig.from_json({**config.to_json(), **changes})
    network = RefSAM3D(
        problem.channels,
        problem.prompts,
        text_dim=TEXT_DIM,
        text_words=WORDS,
        deep_supervision=True,
        **config.to_json(),
    )
    words = torch.randn(problem.prompts, WORDS, TEXT_DIM)
    network.text.store(words, torch.ones(words.shape[:2], dtype=torch.bool), words[:, 0])
    apply_tuning(network, tuning)
    network.to(device).masks_as_products = True
    weights = [0.5**level for level in range(config.auxiliary_masks + 1)]
    loss = DeepSupervisionWrapper(PromptMaskLoss(nnunet_loss()), shares(weights))
    optimizer = adamw(network, lr=1e-5, weight_decay=0.02)
    return Contender(network, loss, optimizer, problem, device)
