"""The planner's formulas against what autograd and the network really hold."""

import math

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from refsam3d_nnunet.design import design_network, parts_for
from refsam3d_nnunet.loss import PromptMaskLoss
from refsam3d_nnunet.memory import (
    GB,
    Task,
    most_samples,
    parameters,
    saved_activations,
    step_gb,
    validation_samples,
)
from refsam3d_nnunet.network import mask_decoder
from refsam3d_nnunet.network.refsam3d import RefSAM3D
from refsam3d_nnunet.network.tuning import apply_tuning
from tests.nnunet_loss import nnunet_loss

# Patch, spacing, preset, tuning mode, channels (labels among them), prompts.
PLANS = [
    ((40, 56, 40), (1, 1, 1), "vit_s", "scratch", 1, 0, 3),
    ((16, 96, 96), (3, 1, 1), "vit_t", "scratch", 3, 2, 8),
    ((48, 48, 48), (1, 1, 1), "vit_b", "adapter", 1, 0, 3),
    ((32, 96, 80), (2, 1, 1), "vit_s", "adapter", 3, 0, 3),
    ((96, 128), (1, 1), "vit_s", "full", 4, 0, 5),
    ((256, 320), (1, 1), "vit_b", "adapter", 1, 0, 2),
    ((96, 96, 96), (1, 1, 1), "vit_t", "scratch", 1, 0, 20),
]
WORDS, TEXT_DIM = 6, 384


@pytest.fixture(autouse=True)
def as_on_a_gpu(monkeypatch):
    """Plans are made for GPUs, where convolutions of the mask decoder are not put together."""
    monkeypatch.setattr(mask_decoder, "pays_off_on", lambda device: False)


def planned(plan) -> tuple[RefSAM3D, Task, torch.Tensor]:
    patch, spacing, preset, tuning, channels, labels, prompts = plan
    config = design_network(patch, spacing, preset, **parts_for(tuning, channels - labels))
    network = RefSAM3D(
        channels,
        prompts,
        text_dim=TEXT_DIM,
        text_words=WORDS,
        label_channels=labels,
        deep_supervision=True,
        **config.to_json(),
    )
    apply_tuning(network, tuning)
    task = Task(channels, prompts, tuning, TEXT_DIM, labels)
    return network.train(), task, torch.randn(1, channels, *patch)


@pytest.fixture(scope="module")
def saved_bytes(load_benchmark):
    """Function that counts the bytes alive between forward and backward, loss aside or not."""
    measuring = load_benchmark("measuring")

    def count(network: RefSAM3D, image: torch.Tensor, loss=None) -> int:
        def forward():
            output = network(image)
            return output if loss is None else loss(output)

        return measuring.saved_bytes(network, forward)

    return count


@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: f"{plan[2]}-{plan[3]}-{plan[0]}")
def test_activations_are_those_autograd_saves(plan, saved_bytes):
    network, task, image = planned(plan)
    estimate = saved_activations(network.config, task).bytes(compute_size=4)
    assert estimate == pytest.approx(saved_bytes(network, image), rel=0.15)


def test_labels_of_a_first_stage_are_held_in_single_precision():
    config = design_network((32, 64, 64), (1, 1, 1), "vit_t")
    few, many = (Task(1 + labels, 8, label_channels=labels) for labels in (0, 100))
    samples, numbers = 20, 100 * 32 * 64 * 64
    counted = step_gb(config, many, samples) - step_gb(config, few, samples)
    # At half precision twice, and as it came; the layer that reads it is small.
    assert counted * GB / samples / numbers == pytest.approx(2 * 2 + 4, rel=0.05)


@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: f"{plan[2]}-{plan[3]}-{plan[0]}")
def test_parameters_are_counted_exactly(plan):
    network, task, _ = planned(plan)
    tuned = sum(p.numel() for p in network.parameters() if p.requires_grad)
    assert parameters(network.config, task) == (
        sum(p.numel() for p in network.parameters()),
        tuned,
    )


def test_a_frozen_trunk_takes_less():
    config = design_network((128, 128, 128), (1, 1, 1), "vit_b")
    assert step_gb(config, Task(1, 3, "adapter"), 2) < 0.8 * step_gb(config, Task(1, 3, "full"), 2)


def test_a_hundred_prompts_take_little_more_memory_than_two(saved_bytes):
    loss = PromptMaskLoss(nnunet_loss())

    def of_all(masks):
        return sum(loss(one, one.features[:, :1].detach() > 0) for one in masks)

    measured, estimated = [], []
    for prompts in (2, 104):
        network, task, image = planned(((40, 56, 40), (1, 1, 1), "vit_t", "full", 1, 0, prompts))
        network.masks_as_products = True
        measured.append(saved_bytes(network, image, of_all))
        estimated.append(step_gb(network.config, task, 1, compute_size=4))
    assert measured[1] < 1.3 * measured[0]
    assert estimated[0] < estimated[1] < 1.3 * estimated[0]


def test_validation_of_many_prompts_takes_more_than_training():
    config = design_network((128, 128, 128), (1, 1, 1), "vit_s")
    few, many, more = (step_gb(config, Task(1, prompts), 2) for prompts in (3, 300, 301))
    assert few < 5
    assert many > 300 * 30 * 128**3 / GB
    assert more - many == pytest.approx(30 * 128**3 / GB)


class Largest(TorchDispatchMode):
    """Notes how many numbers the largest tensor has that is made."""

    numel = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        if isinstance(made, torch.Tensor):
            self.numel = max(self.numel, made.numel())
        return made


@pytest.mark.parametrize("plan", [PLANS[0], PLANS[2], PLANS[5]], ids=["small", "large", "2d"])
def test_the_largest_tensor_of_a_step_is_counted(plan):
    network, _, image = planned(plan)
    with Largest() as seen:
        sum(mask.sum() for mask in network(image)).backward()
    assert most_samples(network.config) == (2**31 - 1) // seen.numel


def test_maps_of_class_tokens_count_as_softmax_and_as_factor_under_autocast():
    config = design_network((40, 56, 40), (1, 1, 1), "vit_t")
    few, many = (saved_activations(config, Task(1, prompts)) for prompts in (2, 3))
    # Five maps of eight heads between one more prompt and all tokens.
    one_prompt = 5 * 8 * math.prod(config.grid_size)
    assert many.bytes(compute_size=2) - few.bytes(compute_size=2) == one_prompt * (4 + 2)
    assert many.bytes(compute_size=4) - few.bytes(compute_size=4) == one_prompt * 4


def test_validation_takes_as_many_samples_as_a_step_has_memory_for():
    config = design_network((96, 96, 96), (1, 1, 1), "vit_t", relative_position=False)
    assert validation_samples(config, Task(1, 3), 8) == 8
    many = Task(1, 40)
    few = validation_samples(config, many, 8)
    assert 1 < few < 8
    # n samples are as much as a step has for them, n + 1 are more.
    a_sample = step_gb(config, many, 20) - step_gb(config, many, 19)
    of_validation = 30 * 40 * 96**3 / GB
    assert few * of_validation <= 8 * a_sample < (few + 1) * of_validation
    assert validation_samples(config, Task(1, 2000), 2) == 1  # never none
