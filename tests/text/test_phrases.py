"""The prompt bank: several phrases a class, none of them another's, some never trained."""

import json

import numpy as np
import pytest

from refsam3d_nnunet.text.names import clean_label_name
from refsam3d_nnunet.text.phrases import (
    MOST_TRAINED,
    TEMPLATES,
    ClassPhrases,
    core,
    drawn_phrases,
    meaning,
    phrase_bank,
    refuse_alike,
    split_side,
)
from refsam3d_nnunet.text.synonyms import GROUPS, synonyms_of

KIDNEYS = {"background": 0, "liver": 1, "kidney_left": 2, "kidney_right": 3}


def bank(labels=KIDNEYS, prompts=None):
    block = {} if prompts is None else {"refsam3d": {"prompts": prompts}}
    return phrase_bank({"labels": labels, **block})


def test_liver_by_eye():
    _, liver, *_ = bank()
    assert liver.canonical == "liver"
    assert {"perform liver segmentation", "segment the liver", "hepatic organ"} < {*liver.training}
    assert {"hepatic parenchyma", "delineate the liver"} < {*liver.held_out}


def test_sides_are_attached_to_every_synonym():
    *_, left, right = bank()
    assert {"left kidney", "kidney on the left", "left renal organ"} < {*left.training}
    assert {"left sided kidney", "left nephric organ"} < {*left.held_out}
    assert [p.replace("left", "right") for p in left.training] == [*right.training]
    assert [p.replace("left", "right") for p in left.held_out] == [*right.held_out]


@pytest.mark.parametrize(
    "labels",
    [
        KIDNEYS,
        {"background": 0, "liver": 1, "hepatic organ": 2, "hepatic_parenchyma": 3},
        {"background": 0, **{group[0]: i for i, group in enumerate(GROUPS[1:], start=1)}},
        {"background": 0, **{f"s{i} x": i for i in range(1, 104)}},
    ],
    ids=["kidneys", "same structure", "whole table", "104 unknown"],
)
def test_no_phrase_serves_two_classes_and_none_is_trained_and_held_out(labels):
    classes = bank(labels)
    phrases = [p.lower() for c in classes for p in (*c.training, *c.held_out)]
    assert len(phrases) == len(set(phrases))
    assert all(2 <= len(c.training) <= MOST_TRAINED and c.held_out for c in classes)
    assert [c.canonical for c in classes] == [clean_label_name(label) for label in labels]


def test_the_split_is_always_the_same():
    assert bank() == bank(dict(reversed(KIDNEYS.items())))


def test_a_trained_template_never_carries_a_held_out_synonym():
    words = {c.canonical: " ".join(c.training) for c in bank()}
    assert "hepatic parenchyma" not in words["liver"]
    assert "nephric" not in words["left kidney"]
    assert "sided" not in words["left kidney"]


def test_the_users_one_phrase_is_a_name_and_his_list_is_taken_literally():
    _, liver, left, _ = bank(prompts={"liver": "Hepar", "kidney_left": ["LK", "kidney, left"]})
    assert liver.canonical == "Hepar"
    assert "segment the Hepar" in liver.training
    assert left == ClassPhrases("kidney_left", ("LK", "kidney, left"))


def test_a_file_goes_before_the_data_set(tmp_path):
    path = tmp_path / "prompts.json"
    path.write_text(json.dumps({"liver": ["a", "b"]}))
    dataset = {"labels": KIDNEYS, "refsam3d": {"prompts": {"liver": "c", "kidney_left": "d"}}}
    _, liver, left, _ = phrase_bank(dataset, path)
    assert (liver.training, left.canonical) == (("a", "b"), "d")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"livr": "x"}', "prompts.json has a prompt for 'livr'.*mean 'liver'"),
        ('{"liver": ["x", 3]}', "'liver' must be a phrase .*, or a list.*got \\['x', 3\\]"),
        ('{"liver": [" "]}', "'liver' must be a phrase"),
        ('{"liver": []}', "'liver' must be a phrase"),
        ('{"liver": ["x", "X "]}', "'liver' hold a phrase twice"),
        ('["liver"]', "must look like .*got a list"),
        ('{"liver": ', "no readable JSON"),
        ('{"liver": ["x", "left kidney"]}', "'liver' and 'kidney_left' share .*'left kidney'"),
    ],
)
def test_bad_files(tmp_path, content, message):
    path = tmp_path / "prompts.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=message):
        phrase_bank({"labels": KIDNEYS}, path)


def test_a_missing_file_is_named():
    from pathlib import Path

    with pytest.raises(FileNotFoundError, match="REFSAM3D_PROMPTS_FILE names /no/prompts.json"):
        phrase_bank({"labels": KIDNEYS}, Path("/no/prompts.json"))


def test_phrases_survive_json():
    for one in bank():
        assert ClassPhrases.from_json(json.loads(json.dumps(one.to_json()))) == one


@pytest.mark.parametrize(
    ("phrase", "side", "base"),
    [
        ("left kidney", "left", "kidney"),
        ("Right-sided lung", "right", "lung"),
        ("kidney on the left side", "left", "kidney"),
        ("kidney right", "right", "kidney"),
        ("kidney, right", "right", "kidney"),
        ("cleft palate", None, "cleft palate"),
        ("left", None, "left"),
        ("left and right kidney", None, "left and right kidney"),
    ],
)
def test_sides_are_structure(phrase, side, base):
    assert split_side(phrase) == (side, base)


def test_every_step_draws_anew_and_every_fold_from_a_seed_of_its_own():
    counts = [16] * 6
    steps = [(epoch, iteration) for epoch in range(3) for iteration in range(3)]
    by_fold = {
        fold: [drawn_phrases(counts, fold, *step) for step in steps] for fold in ("all", 0, 1)
    }
    drawn = [tuple(choice) for choices in by_fold.values() for choice in choices]
    assert len(set(drawn)) == len(drawn)
    assert by_fold[1] == [drawn_phrases(counts, "1", *step) for step in steps]


def test_what_is_drawn_is_a_phrase_of_its_class_and_any_may_be():
    drawn = [drawn_phrases([1, 2, 3], "all", 0, iteration) for iteration in range(50)]
    assert [set(choices) for choices in zip(*drawn, strict=True)] == [{0}, {0, 1}, {0, 1, 2}]


@pytest.mark.parametrize("template", TEMPLATES)
def test_the_core_is_what_a_template_was_filled_with(template):
    assert core(template.format("left kidney")) == "left kidney"


def test_the_same_structure_has_the_same_meaning():
    assert meaning("segment the renal organ on the left") == meaning("left kidney")
    assert meaning("right renal organ") != meaning("left kidney")
    assert meaning("Where is the spinal medulla?") == meaning("spinal cord")
    assert meaning("lung") != meaning("lungs")


def test_the_synonym_table_is_clean():
    names = [name for group in GROUPS for name in group]
    assert len(names) == len(set(names)), "one name, one structure"
    for name in names:
        assert name == " ".join(name.lower().split())
        assert split_side(name)[0] is None, "the side is no part of a name"
        assert core(name) == name, "no template is part of a name"
    assert all(len(group) > 2 for group in GROUPS), "one to train, one to test"
    assert synonyms_of("banana") == ()


def test_classes_that_the_encoder_reads_alike_are_refused():
    classes = [
        ClassPhrases("background", ("background", "the rest")),
        ClassPhrases("gan", ("肝脏", "肝")),
        ClassPhrases("pi", ("脾脏",)),
    ]
    rows = np.array([[3, 0], [1, 2], [0, 5], [4, 4], [4, 4]], dtype=np.float32)
    refuse_alike(classes, rows, "minilm")  # the canonical ones differ
    rows[4] = rows[2] * (1 + 1e-6)
    with pytest.raises(ValueError, match="'minilm' reads '肝脏' and '脾脏' .* 'gan' and 'pi'"):
        refuse_alike(classes, rows, "minilm")
