"""A free phrase and the class that it comes nearest to, with vectors that can be worked out."""

import numpy as np
import pytest

from refsam3d_nnunet.prediction.matching import checked_prompts, match, names_of
from refsam3d_nnunet.text.phrases import phrase_bank

LABELS = {"background": 0, "kidney_left": 1, "kidney_right": 2, "liver": 3}
CLASSES = phrase_bank({"labels": LABELS})
VECTORS = {"liver": (0, 1), "kidney": (1, 0), "nephros": (4, 3), "wall": (0, -1)}


def vector(structure: str) -> np.ndarray:
    return np.array(VECTORS.get(structure, (-1, 1)), float)


def matched(prompt: str, threshold: float = 0.6):
    return match(prompt, CLASSES, vector, threshold=threshold)


def test_the_cosine_finds_the_class():
    index, found = matched("segment the right nephros")
    assert (index, found.nearest_phrase, found.similarity) == (2, "right kidney", 0.8)
    assert (found.found_by, found.warning) == ("similarity", None)


def test_a_side_is_never_traded_for_likeness():
    assert matched("nephros on the left")[0] == 1
    assert matched("right-sided nephros")[0] == 2
    assert matched("left liver")[0] == 3, "known structures without a side stay in the running"


def test_a_shared_side_makes_nothing_similar():
    _, found = matched("left wall")
    assert (found.canonical, found.similarity) == ("left kidney", 0)
    assert "'left wall' is far from every phrase" in found.warning


@pytest.mark.parametrize(
    ("prompt", "message"), [("nephros", "names no side"), ("left liver", "names left side")]
)
def test_a_side_that_does_not_fit_is_said(prompt, message):
    assert message in matched(prompt)[1].warning


def test_a_trained_phrase_is_itself():
    def refuse(structure):
        raise AssertionError(structure)

    index, found = match("Segment the LEFT kidney", CLASSES, refuse, threshold=1)
    assert (index, found.similarity, found.found_by) == (1, 1, "name")
    assert found.nearest_phrase == "segment the left kidney"


def test_a_synonym_counts_whatever_its_cosine():
    index, found = matched("hepatic parenchyma", threshold=-1)
    assert (index, found.found_by) == (3, "name")


def test_templates_are_left_out_of_the_comparison():
    assert set(names_of(CLASSES[3])) == {"liver", "hepatic organ", "liver parenchyma"}
    assert set(names_of(CLASSES[1]).values()) == {"kidney", "renal organ", "ren"}


def test_the_background_is_refused():
    with pytest.raises(ValueError, match="'the background' means the background"):
        matched("the background")


def test_a_model_of_one_side_knows_nothing_of_the_other():
    classes = phrase_bank({"labels": {"background": 0, "left lung": 1}})
    with pytest.raises(ValueError, match="no structure of the side in 'right lung'"):
        match("right lung", classes, vector, threshold=0.6)


def test_prompts_are_tidied():
    assert checked_prompts(["  left   kidney ", "liver"]) == ["left kidney", "liver"]


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        ([], "There is no prompt"),
        (["liver", " "], "A prompt must be a phrase such as 'left kidney', got ' '"),
        ([3], "must be a phrase .* got 3"),
        (["liver", "LIVER"], "'LIVER' is there twice"),
    ],
)
def test_bad_prompts(prompts, message):
    with pytest.raises(ValueError, match=message):
        checked_prompts(prompts)
