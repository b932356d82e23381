"""The search of architectures: what a variant changes, and what is told of it."""

import json

import pytest
import torch

from refsam3d_nnunet.config import NetworkConfig
from refsam3d_nnunet.design import design_network
from refsam3d_nnunet.network.text_prompts import TextPrompts
from refsam3d_nnunet.plans import DEFAULT_SCHEDULE, architecture
from tests.network.conftest import TEXT_DIM, TEXT_WORDS, random_text

# nnU-Net's and its dependencies', when they are first imported
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
PATCH, SPACING = (40, 40, 48), (5.0, 5.0, 5.0)


@pytest.fixture(scope="module")
def search(load_benchmark):
    return load_benchmark("search")


@pytest.fixture
def plan():
    configuration = {
        "patch_size": list(PATCH),
        "spacing": list(SPACING),
        "architecture": architecture(design_network(PATCH, SPACING, "vit_t")),
    }
    return {
        "configurations": {"3d_fullres": configuration},
        "refsam3d": {"schedule": dict(DEFAULT_SCHEDULE)},
    }


def config_of(plan) -> NetworkConfig:
    kwargs = plan["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"]
    return NetworkConfig.from_json(kwargs)


def test_a_variant_changes_what_it_names_and_nothing_else(search, plan):
    before = json.dumps(plan)
    assert search.changed_plan(plan, "shipped") == plan
    changed = search.changed_plan(plan, "initial_lr=0.002+auxiliary_masks=0+stem_channels=8:16:32")
    assert json.dumps(plan) == before
    assert changed["refsam3d"]["schedule"] == {**DEFAULT_SCHEDULE, "initial_lr": 0.002}
    assert (config_of(changed).auxiliary_masks, config_of(changed).stem_channels) == (
        0,
        (8, 16, 32),
    )
    assert config_of(changed).embed_dim == config_of(plan).embed_dim


@pytest.mark.parametrize("planned", [True, False])
def test_another_preset_keeps_or_lacks_relative_positions_as_planned(search, plan, planned):
    plan["configurations"]["3d_fullres"]["architecture"] = architecture(
        design_network(PATCH, SPACING, "vit_t", relative_position=planned)
    )
    config = config_of(search.changed_plan(plan, "preset=vit_s"))
    assert (config.preset, config.relative_position) == ("vit_s", planned)


def test_a_preset_comes_with_all_of_its_numbers(search, plan):
    changed = search.changed_plan(plan, "preset=vit_s+relative_position=false")
    config = config_of(changed)
    assert (config.embed_dim, config.preset, config.relative_position) == (384, "vit_s", False)
    assert config.patch_size == PATCH


@pytest.mark.parametrize("known", ["text=plain", "text=random", "phrases=one", "depth=random"])
def test_what_the_trainer_does_is_not_in_the_plan(search, plan, known):
    assert search.changed_plan(plan, known) == plan


@pytest.mark.parametrize("wrong", ["text=loud", "stem=2", "lr=1"])
def test_unknown_changes_are_refused(search, plan, wrong):
    with pytest.raises(ValueError, match=f"there is no {wrong}"):
        search.changed_plan(plan, wrong)


def test_a_contradiction_is_refused_before_anything_runs(search, plan):
    with pytest.raises(ValueError, match="auxiliary_masks must lie"):
        search.changed_plan(plan, "auxiliary_masks=9")


@pytest.fixture
def variant(load_benchmark, monkeypatch):
    """Function that names a variant and returns the module that knows it."""

    def _variant(name):
        monkeypatch.setenv("BENCHMARK_VARIANT", name)
        return load_benchmark("trainers/refsam3d_variant")

    return _variant


@pytest.mark.parametrize("name", ["shipped", "phrases=one", "text=plain", "text=random+lr=1"])
def test_the_text_of_a_variant(variant, name):
    text = TextPrompts([1, 3, 2], TEXT_WORDS, TEXT_DIM, 16)
    text.store(*random_text(6))
    before = text.seg_layers.sentences.clone()
    variant(name).change_text(text)
    space = text.seg_layers.space
    assert torch.equal(space.matrix, torch.eye(TEXT_DIM)) == ("text" in name)
    after = text.seg_layers.sentences
    assert torch.equal(after, before) == ("random" not in name)
    if "random" in name:
        assert torch.equal(after[1], after[3])
        assert not torch.equal(after[3], after[4])
        assert torch.equal(text.seg_layers.words[2, 0], after[2])


def test_the_table(search):
    epochs = [
        {"steps": 50, "processor_seconds": 25.0, "dice": dice, "loss": loss}
        for dice, loss in [(None, 0.2), (0.25, 0.1), (0.5, -0.1), (0.75, -0.25)]
    ]
    run = {"dataset": "Dataset501_chaos", "variant": "preset=vit_s", "seed": 0, "steps": 200}
    run |= {"patch": list(PATCH), "batch": 2, "parameters": 9_600_000, "epochs": epochs}
    text = search.markdown({"command": "COMMAND", "machine": {"cores": 1}, "runs": [run]})
    assert "    COMMAND" in text
    assert "### chaos" in text
    assert "Patch 40 x 40 x 48, batch 2." in text
    assert "Dice at 50 | Dice at 100 | Dice at 150 | Dice at 200 | loss at 200" in text
    row = "| preset=vit_s | 0 | - | 0.250 | 0.500 | 0.750 | -0.250 | 0.50 | 9.6 M |"
    assert row in text.splitlines()
