"""Which parameters decay, and how the learning rate runs."""

import torch
from torch import nn


def adamw(network: nn.Module, *, lr: float, weight_decay: float) -> torch.optim.AdamW:
    """AdamW over what is tuned.

    Matrices and kernels decay; norms, biases and tables of positions do not.

    Args:
        network: Network with its frozen parameters marked.
        lr: Learning rate.
        weight_decay: Decoupled weight decay.

    Raises:
        ValueError: If nothing is tuned.
    """
    decaying: list[nn.Parameter] = []
    resting: list[nn.Parameter] = []
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            rests = parameter.ndim < 2 or "pos" in name or name.endswith("mask_token")
            (resting if rests else decaying).append(parameter)
    if not decaying:
        raise ValueError("No parameter of the network is tuned.")
    groups = [
        {"params": decaying, "weight_decay": weight_decay},
        {"params": resting, "weight_decay": 0.0},
    ]
    # As in nnU-Net's transformer recipe (Primus): a shorter memory of squared gradients.
    return torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.98), fused=True)


class WarmupPolyLR:
    """Linear warm-up, then nnU-Net's polynomial decay, as a function of time alone.

    ::

        lr(e) = lr_0 · min(1, (e + step) / warm-up) · (1 - e / epochs)^0.9

    The rate depends on the epoch and its fraction only, so that a resumed run goes on exactly
    where it stopped.

    Args:
        optimizer: Its groups all get the same rate.
        initial_lr: lr_0.
        num_epochs: Length of the schedule.
        warmup_epochs: Length of the warm-up, in epochs; may be a fraction.
        step: Length of one iteration, in epochs.
    """

    exponent = 0.9

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        *,
        initial_lr: float,
        num_epochs: int,
        warmup_epochs: float,
        step: float,
    ) -> None:
        self.optimizer = optimizer
        self.initial_lr = initial_lr
        self.num_epochs = num_epochs
        self.warmup_epochs = warmup_epochs
        self.iteration = step
        self.step(0)

    def rate(self, epoch: float) -> float:
        """Learning rate at a time in epochs, fractions allowed."""
        warm = min(1.0, (epoch + self.iteration) / max(self.warmup_epochs, self.iteration))
        left = max(0.0, 1 - epoch / self.num_epochs)
        return self.initial_lr * warm * left**self.exponent

    def step(self, epoch: float) -> None:
        """Sets the rate of that time in every group."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate(epoch)
