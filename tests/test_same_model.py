"""What the folds of a model folder must share."""

import copy
import json
import re

import pytest

from refsam3d_nnunet.environment import Settings
from refsam3d_nnunet.plans import complete_plans
from refsam3d_nnunet.same_model import (
    architecture_of_folds,
    check_same_model,
    phrases_of_folds,
    plans_of_folder,
)
from refsam3d_nnunet.text.names import given_phrases
from refsam3d_nnunet.text.phrases import ClassPhrases, phrase_bank
from tests.default_plans import CLASSES, completed, default_plans


def test_folds_of_different_networks_do_not_mix(tmp_path):
    trained = completed(settings=Settings(preset="vit_s"))
    check_same_model(copy.deepcopy(trained), trained, "3d_fullres", tmp_path)
    longer = completed(settings=Settings(preset="vit_s", num_epochs=7))
    check_same_model(longer, trained, "3d_fullres", tmp_path)
    with pytest.raises(ValueError, match="embed_dim: 384 there, 192 here"):
        check_same_model(completed(), trained, "3d_fullres", tmp_path)
    renamed = copy.deepcopy(trained)
    renamed["refsam3d"]["class_prompts"] = ["background", "spleen"]
    with pytest.raises(ValueError, match="class_prompts: .*liver.*there, .*spleen.*here"):
        check_same_model(renamed, trained, "3d_fullres", tmp_path)


def test_phrases_of_earlier_folds_can_be_had_as_the_message_says(tmp_path):
    dataset = {"labels": {"background": 0, "Tumor (left)": 1, "liver": 2}}
    said = phrase_bank(dataset)
    older = [said[0], ClassPhrases("Tumor (left)", ("tumor (left)", "left tumour")), said[2]]
    trained = completed(classes=older)
    assert said[1].canonical != older[1].canonical
    with pytest.raises(ValueError, match="class_prompts: .* there, .* here") as refused:
        check_same_model(completed(classes=said), trained, "3d_fullres", tmp_path)
    written = re.search(r"put (\{.*\}) into", str(refused.value))[1]
    assert json.loads(written) == {"Tumor (left)": "tumor (left)"}
    (tmp_path / "prompts.json").write_text(written)
    now = phrase_bank(dataset, tmp_path / "prompts.json")
    given = given_phrases(dataset, tmp_path / "prompts.json")
    assert phrases_of_folds(now, given, trained) == older


@pytest.mark.parametrize("labels", [("spleen", "liver"), ("Liver", "Liver")])
def test_other_labels_or_other_differences_get_no_advice_on_phrases(tmp_path, labels):
    here, there = (
        completed(classes=[CLASSES[0], ClassPhrases(label, (label.lower(),))]) for label in labels
    )
    there["refsam3d"]["tuning"] = "another"
    with pytest.raises(ValueError, match="or delete the folder.$"):
        check_same_model(here, there, "3d_fullres", tmp_path)


@pytest.mark.parametrize("key", ["checkpoint", "decoder_checkpoint"])
def test_folds_share_whether_they_start_from_weights(tmp_path, key):
    trained = completed()
    trained["refsam3d"][key] = "/there/sam.pth"
    moved = copy.deepcopy(trained)
    moved["refsam3d"][key] = "/here/sam.pth"
    check_same_model(moved, trained, "3d_fullres", tmp_path)
    moved["refsam3d"][key] = None
    with pytest.raises(ValueError, match=f"{key}: /there/sam.pth there, None here"):
        check_same_model(moved, trained, "3d_fullres", tmp_path)


@pytest.mark.parametrize(
    ("where", "key", "value"),
    [
        ("configuration", "spacing", [2.0, 1.0, 1.0]),
        ("configuration", "normalization_schemes", ["CTNormalization"]),
        ("plan", "transpose_forward", [1, 0, 2]),
        ("plan", "foreground_intensity_properties_per_channel", {"0": {"mean": 3.0}}),
    ],
)
def test_folds_share_their_preprocessing(tmp_path, where, key, value):
    trained = completed()
    again = copy.deepcopy(trained)
    changed = again["configurations"]["3d_fullres"] if where == "configuration" else again
    assert changed.get(key) != value
    changed[key] = value
    with pytest.raises(ValueError, match=f"{key}: .* there, .* here"):
        check_same_model(again, trained, "3d_fullres", tmp_path)


def test_a_model_folder_counts_from_its_first_checkpoint_on(tmp_path):
    plans = completed()
    assert plans_of_folder(tmp_path / "none") == {}
    (tmp_path / "plans.json").write_text(json.dumps(plans))
    assert plans_of_folder(tmp_path) == {}
    (tmp_path / "fold_0").mkdir()
    (tmp_path / "fold_0" / "checkpoint_latest.pth").touch()
    assert plans_of_folder(tmp_path) == json.loads(json.dumps(plans))
    (tmp_path / "plans.json").write_text(json.dumps(default_plans()))
    assert plans_of_folder(tmp_path) == {}


def test_numbers_that_an_older_version_did_not_write_count_as_their_defaults(tmp_path):
    trained = completed(settings=Settings(preset="vit_s"))
    arguments = trained["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"]
    arguments["relative_position"] = True
    older = copy.deepcopy(trained)
    del older["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"]["relative_position"]
    check_same_model(trained, older, "3d_fullres", tmp_path)
    arguments["relative_position"] = False
    with pytest.raises(ValueError, match="relative_position: True there, False here"):
        check_same_model(trained, older, "3d_fullres", tmp_path)


def test_further_folds_have_the_phrases_of_the_first():
    trained = completed()
    newer = [CLASSES[0], ClassPhrases("Liver", ("liver", "the liver", "hepatic organ"))]
    assert phrases_of_folds(newer, {}, trained) == CLASSES
    assert phrases_of_folds(newer, {"Liver": ["liver"]}, trained) == CLASSES
    assert phrases_of_folds(newer, {}, {}) == newer
    # What the user says now is no change of the synonym table.
    asked = {"Liver": list(newer[1].training)}
    assert phrases_of_folds(newer, asked, trained) == newer
    renamed = [CLASSES[0], ClassPhrases("Liver", ("spleen",))]
    assert phrases_of_folds(renamed, {}, trained) == renamed


def test_further_folds_on_a_foreign_plan_have_the_network_of_the_first(tmp_path):
    trained = completed()
    own = trained["configurations"]["3d_fullres"]
    own["architecture"]["arch_kwargs"]["adapter_dim"] = 7  # as another version designed it
    plans = default_plans()
    known = architecture_of_folds(plans, "3d_fullres", trained)
    complete_plans(plans, "3d_fullres", Settings(), CLASSES, known)
    check_same_model(plans, trained, "3d_fullres", tmp_path)
    with pytest.raises(ValueError, match="REFSAM3D_PRESET.* 'vit_s', but .* 'vit_t'"):
        complete_plans(default_plans(), "3d_fullres", Settings(preset="vit_s"), CLASSES, known)

    other_patch = default_plans()
    other_patch["configurations"]["3d_fullres"]["patch_size"] = [16, 48, 48]
    assert architecture_of_folds(other_patch, "3d_fullres", trained) is None
    assert architecture_of_folds(plans, "3d_fullres", {}) is None
    assert architecture_of_folds(default_plans(), "3d_fullres", default_plans()) is None
