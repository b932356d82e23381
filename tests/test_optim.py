import pytest
import torch
from torch import nn

from refsam3d_nnunet.optim import WarmupPolyLR, adamw, refuse_lost


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


def test_slow_parameters_have_a_share_of_the_rate():
    network = nn.ModuleDict({"trunk": nn.Linear(3, 4), "head": nn.Linear(4, 2)})
    slow = {"slow": lambda name: name.startswith("trunk."), "slow_scale": 0.1}
    optimizer = adamw(network, lr=1.0, weight_decay=0.1, **slow)
    WarmupPolyLR(optimizer, initial_lr=0.5, num_epochs=10, warmup_epochs=0, step=0.25).step(5)
    groups = {id(p): group for group in optimizer.param_groups for p in group["params"]}
    assert len(groups) == 4
    for name, parameter in network.named_parameters():
        group = groups[id(parameter)]
        share = 0.1 if name.startswith("trunk") else 1
        assert group["lr"] == pytest.approx(share * 0.5 * 0.5**0.9), name
        assert group["weight_decay"] == (0.1 if name.endswith("weight") else 0), name


def test_groups_are_those_of_older_checkpoints_where_nothing_is_slow():
    network = nn.Linear(3, 4)
    older = torch.optim.AdamW([{"params": [network.weight]}, {"params": [network.bias]}], lr=1.0)
    optimizer = adamw(network, lr=1.0, weight_decay=0.1)
    optimizer.load_state_dict(older.state_dict())
    WarmupPolyLR(optimizer, initial_lr=0.5, num_epochs=10, warmup_epochs=0, step=0.25)
    assert [group["lr"] for group in optimizer.param_groups] == [0.5, 0.5]


def test_frozen_parameters_are_not_optimised():
    network = nn.Linear(3, 4).requires_grad_(False)
    with pytest.raises(ValueError, match="No parameter of the network is tuned"):
        adamw(network, lr=1e-3, weight_decay=0.1)


@pytest.mark.parametrize("scaled", [True, False])
def test_a_training_is_lost_by_all_its_steps_or_unscaled_by_one(scaled):
    nan, inf = float("nan"), float("inf")
    refuse_lost([0.5, -0.3], scaled=scaled)
    with pytest.raises(FloatingPointError, match="in 2 of the 2 steps"):
        refuse_lost([nan, inf], scaled=scaled)
    refuse_lost([0.5, nan], scaled=True)  # the scaler has left that step out
    with pytest.raises(FloatingPointError, match="in 1 of the 2 steps.*--c"):
        refuse_lost([0.5, nan], scaled=False)
