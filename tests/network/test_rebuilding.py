"""What is made again in backward must be what forward computed."""

import gc
import weakref
from contextlib import nullcontext

import pytest
import torch

from refsam3d_nnunet.network import adapter, attention, block, mask_decoder
from refsam3d_nnunet.network.rebuilding import rebuilding
from refsam3d_nnunet.network.tuning import apply_tuning

PATCH = (6, 20, 24)


def gradients(network, image, *, half: bool) -> dict[str, torch.Tensor]:
    network.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        masks = network.train()(image)
    sum(mask.float().square().sum() for mask in masks).backward()
    return {n: p.grad.clone() for n, p in network.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("half", [False, True], ids=["single", "half"])
@pytest.mark.parametrize("mode", ["adapter", "full"])
@pytest.mark.parametrize("relative_position", [True, False])
def test_gradients_are_the_same_to_the_bit(build, monkeypatch, half, mode, relative_position):
    network = build(deep=True, relative_position=relative_position)
    apply_tuning(network, mode)
    image = torch.randn(2, 1, *PATCH)
    rebuilt = gradients(network, image, half=half)

    for module in (adapter, attention, block, mask_decoder):
        monkeypatch.setattr(module, "rebuilding", lambda *_: nullcontext())
    kept = gradients(network, image, half=half)

    assert rebuilt.keys() == kept.keys()
    for name, gradient in kept.items():
        assert torch.equal(rebuilt[name], gradient), name


def test_a_tensor_is_made_again_in_backward_and_only_then():
    calls = []
    x = torch.randn(3, 4, requires_grad=True)
    active = x.sin()

    def again() -> torch.Tensor:
        calls.append(1)
        return x.detach().sin()

    with rebuilding((active, again)):
        y = active.square() * x  # square keeps it, the product keeps its result and x
    assert not calls
    y.sum().backward()
    assert len(calls) == 1
    torch.testing.assert_close(x.grad, 2 * x.sin() * x.cos() * x + x.sin().square())


def test_a_part_of_the_tensor_is_kept_as_it_is():
    active = torch.arange(6.0, requires_grad=True).sin()
    with rebuilding((active, lambda: pytest.fail("a part needs no rebuilding"))):
        y = active[:3].square()
    y.sum().backward()


def test_a_forward_pass_without_backward_is_forgotten(build):
    network, made = build(deep=True).train(), []
    for module in network.modules():
        module.register_forward_hook(
            lambda _, __, output: (
                made.append(weakref.ref(output)) if isinstance(output, torch.Tensor) else None
            )
        )
    network(torch.randn(1, 1, *PATCH))
    gc.collect()
    assert made
    assert all(tensor() is None for tensor in made)


@torch.no_grad()
def test_nothing_is_done_without_autograd():
    x = torch.ones(2)
    assert isinstance(rebuilding((x, x.clone)), nullcontext)
