"""The planner's formulas against what autograd and the network really hold."""

import pytest
import torch
from nnunetv2.training.loss.compound_losses import DC_and_CE_loss
from nnunetv2.training.loss.dice import MemoryEfficientSoftDiceLoss

from refsam3d_nnunet.design import design_network
from refsam3d_nnunet.fit import fit_to_memory, largest_patch, smaller_batch
from refsam3d_nnunet.loss import PromptMaskLoss
from refsam3d_nnunet.memory import Task, parameters, saved_activations, step_gb
from refsam3d_nnunet.network.refsam3d import RefSAM3D
from refsam3d_nnunet.network.tuning import apply_tuning

# Patch, spacing, preset, tuning mode, channels (labels among them), prompts.
PLANS = [
    ((40, 56, 40), (1, 1, 1), "vit_s", "scratch", 1, 0, 3),
    ((16, 96, 96), (3, 1, 1), "vit_t", "scratch", 3, 2, 8),
    ((48, 48, 48), (1, 1, 1), "vit_b", "adapter", 1, 0, 3),
    ((96, 128), (1, 1), "vit_s", "full", 4, 0, 5),
    ((256, 320), (1, 1), "vit_b", "adapter", 1, 0, 2),
    ((96, 96, 96), (1, 1, 1), "vit_t", "scratch", 1, 0, 20),
]
WORDS, TEXT_DIM = 6, 384


def planned(plan) -> tuple[RefSAM3D, Task, torch.Tensor]:
    patch, spacing, preset, tuning, channels, labels, prompts = plan
    network = RefSAM3D(
        channels,
        prompts,
        text_dim=TEXT_DIM,
        text_words=WORDS,
        label_channels=labels,
        deep_supervision=True,
        **design_network(patch, spacing, preset).to_json(),
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


def fitted(memory_gb: float, preset: str = "vit_s"):
    return fit_to_memory(
        (160, 160, 160),
        (1, 1, 1),
        (200, 180, 400),
        preset=preset,
        task=Task(1, 3),
        memory_gb=memory_gb,
    )


@pytest.mark.parametrize("memory_gb", [2.5, 4, 8, 24])
def test_a_plan_uses_the_memory_it_may(memory_gb):
    plan = fitted(memory_gb)
    assert plan.patch_size == plan.config.padded_size
    assert step_gb(plan.config, Task(1, 3), plan.batch_size) <= memory_gb
    assert step_gb(plan.config, Task(1, 3), plan.batch_size + 1) > memory_gb


def test_the_axis_that_covers_most_of_the_image_gives_way():
    depth, height, width = fitted(2.5).patch_size
    assert height < width
    assert depth < width


def test_a_target_too_small_for_one_patch_is_refused():
    message = r"target of 0.5 GB is too small for vit_s.*patch of only .* takes .* GB.*Raise -gpu"
    with pytest.raises(ValueError, match=message):
        fitted(0.5)


def test_the_first_patch_is_a_cube_in_mm_cut_to_the_image():
    assert largest_patch((2, 1, 1), (100, 90, 300), 128**3) == [81, 90, 161]
    assert largest_patch((1, 1), (30.4, 500), 64**2) == [30, 64]


def test_a_batch_planned_for_another_network_is_cut_to_the_memory():
    config = design_network((512, 512), (1, 1), "vit_s")
    batch = smaller_batch(config, Task(1, 3), 100, memory_gb=8)
    assert 2 < batch < 100
    assert smaller_batch(config, Task(1, 3), 3, memory_gb=8) == 3


def test_a_hundred_prompts_take_little_more_memory_than_two(saved_bytes):
    dice = {"batch_dice": True, "smooth": 1e-5, "do_bg": False, "ddp": False}
    loss = PromptMaskLoss(DC_and_CE_loss(dice, {}, dice_class=MemoryEfficientSoftDiceLoss))

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
