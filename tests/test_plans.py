import copy
import pydoc

import pytest

from refsam3d_nnunet.design import design_network
from refsam3d_nnunet.environment import Settings, read_settings
from refsam3d_nnunet.plans import (
    DEFAULT_SCHEDULE,
    NETWORK_CLASS,
    architecture,
    complete_plans,
    network_config,
    new_block,
    same_network,
    text_shape,
    trained_classes,
)
from tests.default_plans import CLASSES, completed, default_plans


def our_plans(**settings) -> dict:
    plans = default_plans()
    plans["refsam3d"] = new_block(Settings(**settings))
    config = design_network((20, 56, 40), (3, 1, 1), "vit_s")
    plans["configurations"]["3d_fullres"]["architecture"] = architecture(config)
    return plans


def test_network_class_can_be_found_by_nnunet():
    assert pydoc.locate(NETWORK_CLASS).__name__ == "RefSAM3D"


@pytest.mark.parametrize("configuration", ["3d_fullres", "3d_cascade_fullres"])
def test_any_plan_gets_our_architecture_for_its_own_patch(configuration):
    plans = completed(configuration=configuration)
    config = network_config(plans["configurations"][configuration])
    assert config.patch_size == (20, 56, 40)
    assert config.preset == "vit_t"
    assert plans["refsam3d"]["class_prompts"] == ["background", "liver"]
    assert trained_classes(plans["refsam3d"]) == CLASSES


@pytest.mark.parametrize(("checkpoint", "kept"), [(None, False), ("sam_vit_b.pth", True)])
def test_relative_positions_are_those_of_pretrained_weights(checkpoint, kept):
    plans = completed(settings=Settings(checkpoint=checkpoint))
    assert network_config(plans["configurations"]["3d_fullres"]).relative_position is kept


def test_numbers_that_an_older_version_did_not_write_make_no_other_network():
    one = our_plans()["configurations"]["3d_fullres"]
    older, two = copy.deepcopy(one), copy.deepcopy(one)
    del older["architecture"]["arch_kwargs"]["decoder_convolutions"]
    two["architecture"]["arch_kwargs"]["decoder_convolutions"] = 2
    foreign = {"architecture": {"network_class_name": "UNet", "arch_kwargs": {"n_stages": 4}}}
    assert same_network(one, older)
    assert not same_network(one, two)
    assert not same_network(one, foreign)
    assert same_network(foreign, copy.deepcopy(foreign))
    assert same_network({"inherits_from": "3d_fullres"}, {})  # a cascade's second stage


def test_class_tokens_are_replaced_only_where_sams_decoder_is_asked_for():
    def planned(**settings):
        plans = completed(settings=Settings(checkpoint="sam_vit_b.pth", **settings))
        return network_config(plans["configurations"]["3d_fullres"])

    assert planned().residual_class_tokens
    assert not planned(preset="vit_b", decoder_checkpoint="medsam.pth").residual_class_tokens


def test_pretrained_weights_learn_slowly_where_all_is_tuned():
    def planned(**settings) -> dict:
        block = new_block(Settings(**settings))
        return {**DEFAULT_SCHEDULE, **block["schedule"]}

    sam = {"checkpoint": "sam_vit_b.pth", "preset": "vit_b"}
    assert planned(**sam, tuning="full")["pretrained_lr_scale"] == 0.1
    assert planned(**sam)["pretrained_lr_scale"] == planned()["pretrained_lr_scale"] == 1


def test_an_older_plan_keeps_the_rate_that_its_checkpoints_were_trained_with():
    plans = our_plans()
    plans["refsam3d"]["schedule"].pop("pretrained_lr_scale")
    plans["refsam3d"] |= {"tuning": "full", "checkpoint": "sam.pth"}
    assert completed(plans)["refsam3d"]["schedule"]["pretrained_lr_scale"] == 1


def test_plans_of_nnunets_older_form_get_an_architecture():
    plans = default_plans()
    plans["configurations"]["3d_fullres"].pop("architecture")
    config = network_config(completed(plans)["configurations"]["3d_fullres"])
    assert config.patch_size == (20, 56, 40)


def test_a_patch_that_was_changed_without_its_network():
    plans = our_plans()
    inherited = {"inherits_from": "3d_fullres", "patch_size": [24, 48, 40]}
    plans["configurations"]["mine"] = inherited
    message = r"mine has patches of \[24, 48, 40\], and a network for \[20, 56, 40\]"
    with pytest.raises(ValueError, match=message):
        complete_plans(plans, "mine", Settings(), CLASSES)
    # What the message advises
    inherited["architecture"] = {"network_class_name": ""}
    complete_plans(plans, "mine", Settings(), CLASSES)
    assert network_config(plans["configurations"]["mine"]).patch_size == (24, 48, 40)


def test_a_2d_batch_for_a_unet_is_cut_to_the_memory():
    plans = default_plans()
    plans["configurations"]["3d_fullres"] |= {
        "patch_size": [512, 512],
        "spacing": [1.0, 1.0],
        "batch_size": 12,
    }
    of_two = copy.deepcopy(plans)
    assert completed(plans)["configurations"]["3d_fullres"]["batch_size"] == 9
    complete_plans(of_two, "3d_fullres", Settings(), CLASSES, ranks=2)
    assert of_two["configurations"]["3d_fullres"]["batch_size"] == 12, "six on each GPU"


def test_a_batch_that_was_set_in_our_plan_is_never_cut():
    plans = our_plans()
    own = plans["configurations"]["3d_fullres"]
    own |= {"batch_size": 40, "architecture": {"network_class_name": ""}}
    assert completed(plans)["configurations"]["3d_fullres"]["batch_size"] == 40


def test_a_network_designed_anew_fits_the_weights_that_were_planned(tmp_path):
    plans = our_plans()
    fullres = plans["configurations"]["3d_fullres"]
    fullres["architecture"]["arch_kwargs"]["preset"] = "vit_b"
    plans["refsam3d"] |= {"tuning": "adapter", "checkpoint": "sam_vit_b.pth", "family": "sam"}
    plans["configurations"]["mine"] = {
        "inherits_from": "3d_fullres",
        "patch_size": [24, 48, 40],
        "architecture": {"network_class_name": ""},
    }
    complete_plans(plans, "mine", Settings(), CLASSES)
    assert network_config(plans["configurations"]["mine"]).preset == "vit_b"


def test_our_own_plan_is_taken_as_it_is():
    plans = our_plans()
    before = copy.deepcopy(plans["configurations"])
    assert completed(plans)["configurations"] == before


def test_environment_shortens_the_schedule():
    settings = read_settings({"REFSAM3D_NUM_EPOCHS": "3", "REFSAM3D_VAL_ITERATIONS": ""})
    schedule = completed(settings=settings)["refsam3d"]["schedule"]
    assert (schedule["num_epochs"], schedule["iterations_per_epoch"]) == (3, 250)
    assert schedule["val_iterations"] == 50


def test_environment_sets_the_learning_rate():
    settings = read_settings({"REFSAM3D_INITIAL_LR": "1e-3"})
    schedule = completed(settings=settings)["refsam3d"]["schedule"]
    assert schedule == {**DEFAULT_SCHEDULE, "initial_lr": 0.001}


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({"REFSAM3D_NUM_EPOCHS": "0"}, "REFSAM3D_NUM_EPOCHS must be a positive.*got '0'"),
        ({"REFSAM3D_NUM_EPOCHS": "1e3"}, "got '1e3'"),
        ({"REFSAM3D_INITIAL_LR": "0"}, "REFSAM3D_INITIAL_LR must be a positive number, got '0'"),
        ({"REFSAM3D_INITIAL_LR": "nan"}, "got 'nan'"),
        ({"REFSAM3D_INITIAL_LR": "fast"}, "got 'fast'"),
        ({"REFSAM3D_PRESET": "vit_x"}, "Unknown preset 'vit_x'"),
        ({"REFSAM3D_TUNING": "lora"}, "REFSAM3D_TUNING is 'lora'; there are adapter"),
        ({"REFSAM3D_EPOCHS": "5"}, "no variable REFSAM3D_EPOCHS.* did you mean REFSAM3D_NUM_EP"),
        ({"REFSAM3D_PROMPT": "liver"}, "no variable REFSAM3D_PROMPT,.* mean REFSAM3D_PROMPTS"),
    ],
)
def test_wrong_variables_are_named(environ, message):
    with pytest.raises(ValueError, match=message):
        read_settings(environ)


def test_variables_that_others_read_are_none_of_the_trainers():
    others = ("WEIGHTS", "CONTAINER_INPUT", "CROSSVAL_FOLD", "INSTALL_SLURM")
    assert read_settings({f"REFSAM3D_{name}": "x" for name in others}) == Settings()


def test_tuning_needs_weights_and_scratch_has_none(tmp_path):
    weights = tmp_path / "sam_vit_b.pth"
    weights.touch()
    assert new_block(Settings())["tuning"] == "scratch"
    assert new_block(Settings(checkpoint=str(weights)))["tuning"] == "adapter"
    with pytest.raises(ValueError, match="'full' starts from pretrained weights, but none"):
        new_block(Settings(tuning="full"))
    with pytest.raises(ValueError, match="'scratch' uses no pretrained weights"):
        new_block(Settings(tuning="scratch", checkpoint=str(weights)))


def test_the_decoder_of_sam_fits_the_larger_presets_alone():
    named = {"decoder_checkpoint": "/lite_medsam.pth"}
    assert new_block(Settings(preset="vit_b", **named))["tuning"] == "scratch"
    for preset in (None, "vit_s"):
        with pytest.raises(ValueError, match="fits the presets vit_b, vit_l, vit_h alone.*PRESET"):
            new_block(Settings(preset=preset, **named))


@pytest.mark.parametrize("key", ["checkpoint", "decoder_checkpoint"])
def test_a_plan_without_weights_gets_none_later(key):
    asked = Settings(**{key: "/some.pth"})
    with pytest.raises(ValueError, match=f"REFSAM3D_{key.upper()} names /some.pth, but the plan"):
        completed(our_plans(), settings=asked)


def test_plan_of_another_planner_version_is_refused():
    plans = our_plans()
    plans["refsam3d"]["format"] = 99
    with pytest.raises(ValueError, match="format 99, this version .* reads format 1: plan again"):
        completed(plans)


def test_environment_may_not_contradict_a_plan():
    with pytest.raises(
        ValueError, match="REFSAM3D_PRESET, or .* asks for 'vit_b'.*made for 'vit_s'"
    ):
        completed(our_plans(), Settings(preset="vit_b"))


def test_unknown_configuration_is_named():
    with pytest.raises(ValueError, match="no configuration '2d'; it has 3d_fullres"):
        completed(configuration="2d")


def test_plan_without_text_says_how_to_get_it():
    with pytest.raises(ValueError, match="train it with '-tr RefSAM3DTrainer'"):
        text_shape(our_plans()["refsam3d"])


def test_text_shape_is_what_the_network_is_built_with():
    block = completed()["refsam3d"]
    block["text"] = {"dim": 384, "words": 9, "encoder": "minilm", "weights_sha256": "0"}
    assert text_shape(block) == {"text_dim": 384, "text_words": 9, "text_phrases": [1, 2]}


def test_a_model_with_one_phrase_a_class_is_read():
    block = completed()["refsam3d"]
    del block["classes"]
    assert [one.training for one in trained_classes(block)] == [("background",), ("liver",)]
