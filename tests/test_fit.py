"""What the planner chooses for a spacing, a shape and a memory target."""

import math

import pytest

from refsam3d_nnunet.design import design_network, parts_for
from refsam3d_nnunet.fit import (
    LARGE_MEMORY_GB,
    TooLittleMemory,
    fit_to_memory,
    largest_patch,
    plan_patch,
    smaller_batch,
)
from refsam3d_nnunet.memory import Task, most_samples, step_gb

CUBES, THICK, FLAT = (
    ((1, 1, 1), (500, 500, 500)),
    ((3, 0.76, 0.76), (148, 512, 512)),
    ((10, 1.56, 1.56), (9, 237, 216)),
)
SMALL, HEAD, SLICES = (
    ((1, 1, 1), (36, 50, 35)),
    ((1, 1, 1), (140, 171, 137)),
    ((0.8, 0.8), (512, 480)),
)
IMAGES = [CUBES, THICK, FLAT, SMALL, HEAD, SLICES]


def planned(image, memory_gb, preset=None, tuning="scratch"):
    return plan_patch(*image, preset=preset, task=Task(1, 3, tuning), memory_gb=memory_gb)


def voxels(plan) -> int:
    return math.prod(plan.patch_size)


@pytest.mark.parametrize("image", IMAGES)
@pytest.mark.parametrize("preset", ["vit_t", "vit_s", "vit_b"])
def test_more_memory_never_means_a_smaller_patch_or_batch(image, preset):
    memories = [2 * 1.13**i for i in range(25)]
    plans = [planned(image, gb, preset) for gb in memories if gb > 3 or preset != "vit_b"]
    sizes = [(voxels(plan), plan.batch_size) for plan in plans]
    assert sizes == sorted(sizes)


@pytest.mark.parametrize("image", IMAGES)
def test_the_step_fits_the_target(image):
    for gb in (2, 8, 24):
        plan = planned(image, gb)
        assert step_gb(plan.config, Task(1, 3), plan.batch_size) <= gb


@pytest.mark.parametrize(
    ("image", "memory_gb", "preset"),
    [
        (SMALL, 8, "vit_t"),  # images below 64^3 voxels
        (CUBES, 8, "vit_s"),
        (CUBES, 1, "vit_t"),  # vit_s does not fit at all
        (CUBES, 1.3, "vit_t"),  # it fits, with a patch below 64^3
        (CUBES, 1.6, "vit_s"),
        # padded to whole tokens they have 64^3 voxels or more
        (((1.5, 1.5, 1.5), (63, 84, 45)), 8, "vit_s"),
        (((0.8, 0.8), (511, 511)), 8, "vit_s"),
    ],
)
def test_the_encoder_is_chosen_by_the_patch_that_fits(image, memory_gb, preset):
    assert planned(image, memory_gb).config.preset == preset


@pytest.mark.parametrize("memory_gb", [0.9 + 0.1 * i for i in range(12)])
def test_vit_t_is_taken_where_vit_s_would_have_a_small_patch(memory_gb):
    try:
        small = voxels(planned(CUBES, memory_gb, "vit_s")) < 64**3
    except TooLittleMemory:
        small = True
    plan = planned(CUBES, memory_gb)
    assert plan == planned(CUBES, memory_gb, "vit_t" if small else "vit_s")


@pytest.mark.parametrize(
    ("tuning", "kept"), [("scratch", False), ("full", True), ("adapter", True)]
)
def test_relative_positions_are_planned_for_pretrained_weights(tuning, kept):
    assert planned(HEAD, 8, "vit_s", tuning).config.relative_position is kept


def test_frozen_tokens_of_several_modalities_get_the_stems_detail():
    wanted = {("adapter", 1): False, ("adapter", 4): True, ("full", 4): False}
    for (tuning, modalities), kept in wanted.items():
        assert parts_for(tuning, modalities)["stem_tokens"] is kept


def test_a_named_encoder_is_kept_or_refused():
    assert planned(CUBES, 1.3, "vit_s").config.preset == "vit_s"
    message = r"memory target of 1 GB is too small for vit_s.*set REFSAM3D_PRESET to a smaller"
    with pytest.raises(ValueError, match=message):
        planned(CUBES, 1, "vit_s")


def test_what_not_even_vit_t_fits_is_refused():
    with pytest.raises(ValueError, match="memory target of 0.5 GB is too small for vit_t"):
        planned(CUBES, 0.5)


def test_a_large_memory_buys_a_larger_patch_with_tokens_as_fine():
    below, above = planned(CUBES, LARGE_MEMORY_GB - 0.1), planned(CUBES, LARGE_MEMORY_GB)
    assert (below.patch_size, above.patch_size) == ((128,) * 3, (160,) * 3)
    assert above.config.token_size == (8, 8, 8)
    assert above.config.grid_size == (20, 20, 20)


@pytest.mark.parametrize("image", [*IMAGES, ((2, 0.68, 0.68), (238, 582, 582))])
@pytest.mark.parametrize("preset", ["vit_s", "vit_b"])
def test_tokens_are_those_of_less_memory(image, preset):
    less, more = (planned(image, gb, preset) for gb in (LARGE_MEMORY_GB - 1, LARGE_MEMORY_GB))
    assert more.config.token_size == less.config.token_size


def test_an_image_that_the_patch_covers_gets_no_larger_patch():
    less, more = planned(FLAT, LARGE_MEMORY_GB - 1), planned(FLAT, 2 * LARGE_MEMORY_GB)
    assert less.config == more.config
    assert less.batch_size < more.batch_size


def test_a_patch_in_2d_does_not_grow():
    less, more = planned(SLICES, LARGE_MEMORY_GB - 1), planned(SLICES, LARGE_MEMORY_GB)
    assert less.config == more.config


def test_a_budget_of_tokens_may_be_given():
    def tokens(most_tokens):
        fitted = fit_to_memory(
            (128, 128, 128),
            *CUBES,
            preset="vit_s",
            task=Task(1, 3),
            memory_gb=8,
            most_tokens=most_tokens,
        )
        return math.prod(fitted.config.grid_size)

    assert (tokens(None), tokens(4096), tokens(4095)) == (4096, 4096, 512)


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


def test_batches_end_where_tensors_would_outgrow_32_bits():
    plan = fitted(200)
    assert plan.batch_size == most_samples(plan.config)
    joined = 2 * plan.config.stem_channels[0] * math.prod(plan.patch_size)
    assert plan.batch_size * joined < 2**31 <= (plan.batch_size + 1) * joined
    assert step_gb(plan.config, Task(1, 3), plan.batch_size) < 100


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
