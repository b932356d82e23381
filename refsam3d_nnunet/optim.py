"""Which parameters decay, how the learning rate runs, and when a training is lost."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import nn

# Of a group of parameters: its learning rate as a share of the schedule's, all of it if missing.
RATE_SCALE = "rate_scale"


def adamw(
    network: nn.Module,
    *,
    lr: float,
    weight_decay: float,
    slow: Callable[[str], bool] | None = None,
    slow_scale: float = 1.0,
) -> torch.optim.AdamW:
    """AdamW over what is tuned.

    Matrices and kernels decay; norms, biases and tables of positions do not.

    Args:
        network: Network with its frozen parameters marked.
        lr: Learning rate.
        weight_decay: Decoupled weight decay.
        slow: Whether the parameter of a name learns at a smaller rate; None if none does.
        slow_scale: That rate, as a share of the others'.

    Raises:
        ValueError: If nothing is tuned.
    """
    groups = {
        (is_slow, rests): {
            "params": [],
            "weight_decay": 0.0 if rests else weight_decay,
            RATE_SCALE: slow_scale if is_slow else 1.0,
        }
        for is_slow in (False, True)
        for rests in (False, True)
    }
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            is_slow = slow is not None and slow(name.removeprefix("_orig_mod."))
            rests = parameter.ndim < 2 or "pos" in name or name.endswith("mask_token")
            groups[is_slow, rests]["params"].append(parameter)
    if not any(group["params"] for group in groups.values()):
        raise ValueError("No parameter of the network is tuned.")
    # As in nnU-Net's transformer recipe (Primus): a shorter memory of squared gradients.
    filled = [group for group in groups.values() if group["params"]]
    return torch.optim.AdamW(filled, lr=lr, betas=(0.9, 0.98), fused=True)


def refuse_lost(losses: Sequence[float], *, scaled: bool) -> None:
    """Stops a training that can no longer learn, before its checkpoint is replaced.

    Where gradients are scaled, steps with an overflow are left out, and some always are. Else the
    first loss that is not finite has spoilt all weights.

    Args:
        losses: Of the steps of an epoch.
        scaled: Whether a gradient scaler watches the steps.

    Raises:
        FloatingPointError: If no loss is finite or, where nothing is scaled, any is not.
    """
    bad = sum(not math.isfinite(loss) for loss in losses)
    if bad == len(losses) or (bad and not scaled):
        raise FloatingPointError(
            f"The loss was not a finite number in {bad} of the {len(losses)} steps of this epoch: "
            f"the training cannot recover. Go on from its last checkpoint with a smaller learning "
            f"rate, REFSAM3D_INITIAL_LR=... nnUNetv2_train ... --c, or begin anew without --c."
        )


class WarmupPolyLR:
    """Linear warm-up, then nnU-Net's polynomial decay, as a function of time alone.

    ::

        lr(e) = lr_0 · min(1, (e + step) / warm-up) · (1 - e / epochs)^0.9

    The rate depends on the epoch and its fraction only, so that a resumed run goes on exactly
    where it stopped.

    Args:
        optimizer: Its groups get the rate, or the share of it that they name.
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
            group["lr"] = self.rate(epoch) * group.get(RATE_SCALE, 1.0)
