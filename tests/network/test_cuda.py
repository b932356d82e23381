"""What a GPU would be asked to do, seen without one: tensors on a pretended device.

Fake tensors have a shape, a type and a device, but no content. An operation on tensors of two
devices is refused as on a GPU, and so is whatever would have to wait for the GPU's numbers.
Backward is not run: autograd's engine asks for the device itself.
"""

import pytest
import torch
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from refsam3d_nnunet.loss import PromptMaskLoss
from tests.network.conftest import random_text
from tests.nnunet_loss import nnunet_loss

PROMPTS, GPU = 3, torch.device("cuda", 0)


@pytest.fixture
def pretended(monkeypatch):
    """Within it there is a GPU, with autocast."""
    monkeypatch.setattr(torch.cuda.amp.common, "amp_definitely_not_available", lambda: False)
    before = torch.__future__.get_overwrite_module_params_on_conversion()
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    yield FakeTensorMode(allow_non_fake_inputs=True)
    torch.__future__.set_overwrite_module_params_on_conversion(before)


class Convolutions(TorchDispatchMode):
    """Notes by which of torch's kernels each depth-wise convolution would be computed."""

    def __init__(self):
        super().__init__()
        self.depth_wise = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function is torch.ops.aten.convolution.default and args[-1] > 1:
            self.depth_wise.add(torch._C._select_conv_backend(*args))
        return function(*args, **(kwargs or {}))


def image(batch):
    return torch.randn(batch, 2, 6, 20, 24, device=GPU)


@pytest.mark.parametrize("relative_position", [True, False])
@torch.no_grad()
def test_a_step_stays_on_the_gpu_in_half_precision(pretended, build, relative_position):
    settings = {"relative_position": relative_position, "deep": True}
    network = build(prompts=PROMPTS, channels=2, **settings).train()
    network.masks_as_products = True
    loss = PromptMaskLoss(nnunet_loss())
    with pretended, torch.autocast("cuda", torch.float16):
        network.to(GPU).text.draw([0] * PROMPTS)
        masks = network(image(2))
        targets = [torch.zeros(2, 1, *mask.features.shape[2:], device=GPU) for mask in masks]
        values = [loss(mask, target) for mask, target in zip(masks, targets, strict=True)]
    assert {mask.features.dtype for mask in masks} == {torch.float16}
    assert {(value.device, value.dtype) for value in values} == {(GPU, torch.float32)}


@torch.no_grad()
def test_a_prediction_stays_on_the_gpu_in_half_precision(pretended, build):
    network = build(prompts=PROMPTS, channels=2).eval()
    network.text.replace(*random_text(PROMPTS))  # phrases of a prediction come from the CPU
    network.hide([2], background=0)
    with pretended, torch.autocast("cuda", torch.float16):
        logits = network.to(GPU)(image(1))
    assert (logits.device, logits.dtype) == (GPU, torch.float16)


@pytest.mark.skipif(torch.version.cuda is None, reason="this torch has no cuDNN to choose")
@torch.no_grad()
def test_depth_wise_convolutions_do_not_go_to_cudnn(pretended, build):
    network = build(prompts=PROMPTS, channels=2).train()
    with pretended, torch.autocast("cuda", torch.float16), Convolutions() as seen:
        network.to(GPU)(image(2))
    assert seen.depth_wise == {torch._C._ConvBackend.CudaDepthwise3d}


@torch.no_grad()
def test_attention_is_given_to_fused_kernels_other_than_cudnns(pretended, build, monkeypatch):
    seen, attend = [], functional.scaled_dot_product_attention

    def spied(*qkv, attn_mask=None, scale=None):
        assert not torch.backends.cuda.cudnn_sdp_enabled()
        assert {(one.dtype, one.stride(-1)) for one in qkv} == {(torch.float16, 1)}
        if attn_mask is None:  # flash attention wants such widths
            assert {one.shape[-1] % 8 for one in qkv} == {0}
        else:  # of a text that all samples share
            assert all(one.is_contiguous() for one in qkv[1:])
        seen.append(attn_mask is not None)
        return attend(*qkv, attn_mask=attn_mask, scale=scale)

    monkeypatch.setattr(functional, "scaled_dot_product_attention", spied)
    network = build(prompts=PROMPTS, channels=2).train()
    with pretended, torch.autocast("cuda", torch.float16):
        network.to(GPU)(image(2))
    assert seen == network.config.depth * [False] + len(network.config.level_blocks) * [True]
    assert torch.backends.cuda.cudnn_sdp_enabled()


def test_the_pretended_gpu_refuses_what_a_real_one_would(pretended):
    with pretended:
        here = torch.randn(3, device=GPU)
        with pytest.raises(RuntimeError, match="same device"):
            here + torch.randn(3)
        with pytest.raises(DataDependentOutputException):
            here.sum().item()
