import pytest
import torch
from torch import nn

from refsam3d_nnunet.optim import WarmupPolyLR, adamw


def schedule(**changes) -> WarmupPolyLR:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    numbers = {"initial_lr": 0.5, "num_epochs": 10, "warmup_epochs": 2, "step": 0.25}
    return WarmupPolyLR(optimizer, **{**numbers, **changes})


def test_rate_by_hand():
    lr = schedule()
    assert lr.rate(0) == pytest.approx(0.5 * 0.25 / 2)
    assert lr.rate(1) == pytest.approx(0.5 * 1.25 / 2 * 0.9**0.9)
    assert lr.rate(5) == pytest.approx(0.5 * 0.5**0.9)
    assert lr.rate(10) == 0


def test_rate_depends_on_time_alone():
    once, again = schedule(), schedule()
    for epoch in (0, 0.25, 7, 3.5):
        once.step(epoch)
    again.step(3.5)
    assert once.optimizer.param_groups[0]["lr"] == again.optimizer.param_groups[0]["lr"]


def test_a_run_shorter_than_its_warm_up_still_starts():
    assert schedule(num_epochs=1, warmup_epochs=0.05).rate(0) == 0.5


def test_matrices_decay_and_the_rest_does_not():
    network = nn.ModuleDict({"linear": nn.Linear(3, 4), "norm": nn.LayerNorm(4)})
    network.register_parameter("pos_embed", nn.Parameter(torch.zeros(1, 2, 2, 4)))
    decaying, resting = adamw(network, lr=1e-3, weight_decay=0.1).param_groups
    assert [p is network["linear"].weight for p in decaying["params"]] == [True]
    assert (decaying["weight_decay"], resting["weight_decay"]) == (0.1, 0.0)
    assert len(resting["params"]) == 4


def test_frozen_parameters_are_not_optimised():
    network = nn.Linear(3, 4).requires_grad_(False)
    with pytest.raises(ValueError, match="No parameter of the network is tuned"):
        adamw(network, lr=1e-3, weight_decay=0.1)
