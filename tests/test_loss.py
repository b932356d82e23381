"""The loss in pieces against nnU-Net's own, which sees all logits at once."""

import pytest
import torch
from nnunetv2.training.loss.compound_losses import DC_and_BCE_loss
from nnunetv2.training.loss.dice import MemoryEfficientSoftDiceLoss

from refsam3d_nnunet import loss as module
from refsam3d_nnunet.loss import PromptMaskLoss
from refsam3d_nnunet.network.prompt_masks import PromptMasks
from tests.nnunet_loss import nnunet_loss

PROMPTS, CHANNELS, EXTENT = 5, 3, (4, 3, 7)


def masks(scale: float = 1.0, dtype: torch.dtype = torch.float32) -> PromptMasks:
    generator = torch.Generator().manual_seed(3)
    shapes = ((2, PROMPTS, CHANNELS), (2, PROMPTS, 1), (2, CHANNELS, *EXTENT))
    tensors = (scale * torch.randn(shape, generator=generator) for shape in shapes)
    return PromptMasks(*(t.to(dtype).requires_grad_() for t in tensors))


def target(labels: int = PROMPTS) -> torch.Tensor:
    generator = torch.Generator().manual_seed(4)
    return torch.randint(0, labels, (2, 1, *EXTENT), generator=generator).float()


def value_and_gradients(loss, output: PromptMasks, truth, *, whole: bool) -> list[torch.Tensor]:
    value = loss(output.logits() if whole else output, truth)
    return [value.detach(), *torch.autograd.grad(value, output)]


@pytest.fixture(params=[7, 1000, module.CPU_PIECE], ids="piece of {}".format)
def piece(request, monkeypatch):
    """Eight voxels at a time, pieces with a remainder, and all at once."""
    monkeypatch.setattr(module, "CPU_PIECE", request.param)


@pytest.fixture(params=[4, module.LONGEST_SUM], ids="sums of {}".format)
def sums(request, monkeypatch):
    """Sums cut into parts, as on a GPU, and whole."""
    monkeypatch.setattr(module, "LONGEST_SUM", request.param)


@pytest.mark.parametrize("batch_dice", [True, False])
@pytest.mark.parametrize("ignore", [None, PROMPTS])
@pytest.mark.parametrize("scale", [1.0, 6.0])
def test_equals_nnunets_loss_and_gradients(piece, sums, batch_dice, ignore, scale):
    truth = target(PROMPTS + (ignore is not None))
    theirs = nnunet_loss(batch_dice=batch_dice, ignore=ignore)

    wanted = value_and_gradients(theirs, masks(scale), truth, whole=True)
    got = value_and_gradients(PromptMaskLoss(theirs), masks(scale), truth, whole=False)

    for name, ours, other in zip(
        ("value", "weights", "bias", "features"), got, wanted, strict=True
    ):
        torch.testing.assert_close(ours, other, rtol=1e-4, atol=1e-6, msg=name)


def test_nothing_but_ignored_voxels():
    truth = torch.full((2, 1, *EXTENT), float(PROMPTS))
    theirs = nnunet_loss(ignore=PROMPTS)
    got = value_and_gradients(PromptMaskLoss(theirs), masks(), truth, whole=False)
    assert got[0] == theirs(masks().logits(), truth)
    assert not any(gradient.any() for gradient in got[1:])


def test_sums_over_a_million_voxels_keep_four_digits():
    voxels = 2**20
    truth = torch.zeros(1, voxels, dtype=torch.long)
    bias = torch.tensor([[[0.3], [0.0]]])
    output = torch.zeros(1, 2, 1), bias, torch.zeros(1, 1, voxels)
    _, hit, predicted, true = module._MaskSums.apply(*output, truth)
    share = torch.tensor([0.3, 0.0], dtype=torch.float64).softmax(0)
    torch.testing.assert_close(hit[0, 0].double(), voxels * share[0], rtol=1e-4, atol=0)
    torch.testing.assert_close(predicted[0].double(), voxels * share, rtol=1e-4, atol=0)
    assert true.tolist() == [[voxels, 0]]


def test_logits_beyond_the_reach_of_exp():
    truth, theirs = target(), nnunet_loss()
    wanted = value_and_gradients(theirs, masks(30.0), truth, whole=True)  # logits of thousands
    got = value_and_gradients(PromptMaskLoss(theirs), masks(30.0), truth, whole=False)
    for ours, other in zip(got, wanted, strict=True):
        torch.testing.assert_close(ours, other, rtol=1e-3, atol=1e-3 * other.abs().max().item())


def test_half_precision_stays_close_and_finite():
    exact = value_and_gradients(PromptMaskLoss(nnunet_loss()), masks(), target(), whole=False)
    half = masks(dtype=torch.bfloat16)
    rough = value_and_gradients(PromptMaskLoss(nnunet_loss()), half, target(), whole=False)
    assert rough[0].dtype == torch.float32
    for ours, wanted in zip(rough, exact, strict=True):
        torch.testing.assert_close(
            ours.float(), wanted, rtol=0.05, atol=0.05 * wanted.abs().max().item()
        )


def test_autocast_does_not_reach_the_sums():
    loss, truth = PromptMaskLoss(nnunet_loss()), target()
    exact = value_and_gradients(loss, masks(), truth, whole=False)
    with torch.autocast("cpu", torch.bfloat16):
        value = loss(output := masks(), truth)
    for ours, wanted in zip([value, *torch.autograd.grad(value, output)], exact, strict=True):
        assert torch.equal(ours, wanted)


def test_keeps_nothing_of_the_size_of_prompts_times_voxels():
    largest = []
    loss, truth, output = PromptMaskLoss(nnunet_loss()), target(), masks()
    hooks = torch.autograd.graph.saved_tensors_hooks(
        lambda tensor: largest.append(tensor.numel()) or tensor, lambda tensor: tensor
    )
    with hooks:
        loss(output, truth)
    assert max(largest) <= output.features.numel()


def test_tensors_go_to_nnunets_loss():
    theirs = nnunet_loss()
    assert PromptMaskLoss(theirs)(masks().logits(), target()) == theirs(masks().logits(), target())


def test_regions_use_nnunets_loss():
    dice = {"batch_dice": True, "do_bg": True, "smooth": 1e-5, "ddp": False}
    theirs = DC_and_BCE_loss({}, dice, dice_class=MemoryEfficientSoftDiceLoss)
    truth = (torch.arange(2 * PROMPTS * 84).view(2, PROMPTS, *EXTENT) % 3 == 0).float()
    assert PromptMaskLoss(theirs)(masks(), truth) == theirs(masks().logits(), truth)
