"""A network with the loss and optimiser it is trained with, and what all are given."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from nnunetv2.training.loss.compound_losses import DC_and_CE_loss
from nnunetv2.training.loss.dice import MemoryEfficientSoftDiceLoss
from torch import Tensor, nn

CLIP = 12.0  # norm of the gradients, as in nnU-Net's trainer


@dataclass(frozen=True)
class Problem:
    """What all contenders of a run are given.

    Args:
        patch: Voxels along (depth, height, width).
        batch: Samples of a step.
        channels: Input channels.
        prompts: Classes, background included.
        spacing: Millimetres of a voxel.
    """

    patch: tuple[int, int, int]
    batch: int = 2
    channels: int = 1
    prompts: int = 3
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)


class Contender:
    """A network on random data.

    Args:
        network: In training it returns what ``loss`` takes.
        loss: Of the network's output and the targets of each of its resolutions.
        optimizer: Steps the tuned parameters.
        problem: Patch, batch, channels and classes.
        device: Where it computes.
    """

    def __init__(
        self,
        network: nn.Module,
        loss: nn.Module,
        optimizer: torch.optim.Optimizer,
        problem: Problem,
        device: torch.device,
    ) -> None:
        self.network, self.loss, self.optimizer = network, loss, optimizer
        self.device = device
        shape = (problem.batch, problem.channels, *problem.patch)
        self.image = torch.randn(shape, device=device)
        self.scaler = torch.amp.GradScaler(device.type) if device.type == "cuda" else None
        self.targets = self._random_targets(problem)

    def _random_targets(self, problem: Problem) -> Tensor | list[Tensor]:
        with torch.no_grad(), self._autocast():
            output = self.network.train()(self.image)

        def labels(one: Any) -> Tensor:  # noqa: ANN401 - logits or PromptMasks
            extent = getattr(one, "features", one).shape[2:]
            shape = (problem.batch, 1, *extent)
            return torch.randint(problem.prompts, shape, device=self.device).float()

        return [labels(one) for one in output] if isinstance(output, list) else labels(output)

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.float16, enabled=self.device.type == "cuda")

    def loss_value(self) -> Tensor:
        """Forward in training, and the loss, as nnU-Net's trainer takes them."""
        self.network.train()
        with self._autocast():
            return self.loss(self.network(self.image), self.targets)

    def step(self) -> None:
        """A whole training step."""
        self.optimizer.zero_grad(set_to_none=True)
        value = self.loss_value()
        if self.scaler is None:
            value.backward()
        else:
            self.scaler.scale(value).backward()
            self.scaler.unscale_(self.optimizer)
        nn.utils.clip_grad_norm_(self.network.parameters(), CLIP)
        if self.scaler is None:
            self.optimizer.step()
        else:
            self.scaler.step(self.optimizer)
            self.scaler.update()

    def forward(self) -> Tensor:
        """A forward pass as in prediction, without auxiliary masks."""
        self.network.eval()
        deep = _switch_of_deep_supervision(self.network)
        if deep is not None:
            before, deep.deep_supervision = deep.deep_supervision, False
        with torch.inference_mode(), self._autocast():
            output = self.network(self.image)
        if deep is not None:
            deep.deep_supervision = before
        return output

    def parameters(self) -> tuple[int, int]:
        """Number of parameters: all, and those that are tuned."""
        parameters = list(self.network.parameters())
        return sum(p.numel() for p in parameters), sum(
            p.numel() for p in parameters if p.requires_grad
        )


def nnunet_loss() -> nn.Module:
    """nnU-Net's loss of labels, for one resolution."""
    dice = {"batch_dice": False, "smooth": 1e-5, "do_bg": False, "ddp": False}
    return DC_and_CE_loss(dice, {}, dice_class=MemoryEfficientSoftDiceLoss)


def extent(values: Sequence[int]) -> tuple[int, int, int]:
    """Three numbers as an extent.

    Raises:
        ValueError: If there are not three.
    """
    d, h, w = values
    return d, h, w


def shares(weights: Sequence[float]) -> list[float]:
    """Weights that add up to one."""
    return [weight / math.fsum(weights) for weight in weights]


def _switch_of_deep_supervision(network: nn.Module) -> nn.Module | None:
    """The module whose ``deep_supervision`` says whether there are auxiliary masks."""
    for module in (network, getattr(network, "decoder", None)):
        if hasattr(module, "deep_supervision"):
            return module
    return None
