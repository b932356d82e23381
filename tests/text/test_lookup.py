"""Which class a person means, and what is said if there is none."""

import pytest

from refsam3d_nnunet.text.lookup import find_class, nearest, select_classes
from refsam3d_nnunet.text.phrases import phrase_bank

LABELS = {"background": 0, "LeftParotid": 1, "RightParotid": 2, "SpinalCord": 3, "GTVp": 4}
CLASSES = phrase_bank({"labels": LABELS})


@pytest.mark.parametrize(
    ("phrase", "label"),
    [
        ("SpinalCord", "SpinalCord"),
        ("spinalcord", "SpinalCord"),
        ("spinal_cord", "SpinalCord"),
        ("Segment the  spinal cord", "SpinalCord"),
        ("spinal medulla", "SpinalCord"),
        ("outline of the myelon", "SpinalCord"),
        ("right-sided parotid gland", "RightParotid"),
        ("parotis on the left", "LeftParotid"),
    ],
)
def test_found(phrase, label):
    assert CLASSES[find_class(phrase, CLASSES)].label == label


@pytest.mark.parametrize("phrase", ["parotid", "banana", "left", "left spinal cord", ""])
def test_not_found(phrase):
    assert find_class(phrase, CLASSES) is None


def test_selection_keeps_the_order():
    assert select_classes(" spinal cord ; LeftParotid", CLASSES) == [3, 1]


@pytest.mark.parametrize(
    ("spoken", "message"),
    [
        ("left parotd", "not trained on 'left parotd'. Did you mean 'left parotid' or"),
        ("left parotid;;GTVp", "An empty prompt in 'left parotid;;GTVp'"),
        (";", "An empty prompt"),
        ("SpinalCord;myelon", "'myelon' is a duplicate prompt: 'spinal cord' is in"),
        ("background", "'background' is always predicted"),
    ],
)
def test_bad_selections(spoken, message):
    with pytest.raises(ValueError, match=message):
        select_classes(spoken, CLASSES)


def test_the_background_is_never_offered():
    assert nearest("backgroun", CLASSES, count=9) and "background" not in nearest("x", CLASSES, 9)
