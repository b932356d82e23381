"""Labels of a dataset.json as phrases, head by head as nnU-Net orders them."""

import pytest

from refsam3d_nnunet.text.names import class_prompts, clean_label_name, head_names, mentions_side


@pytest.mark.parametrize(
    ("name", "phrase"),
    [
        ("liver", "liver"),
        ("kidney_left", "left kidney"),
        ("Left_Kidney", "left kidney"),
        ("kidneyRight", "right kidney"),
        ("lft-kidney", "left kidney"),
        ("kidney_RGT", "right kidney"),
        ("rib_left_1", "left rib 1"),
        ("heart_ventricle_left", "left heart ventricle"),
        ("between_left_and_right", "between left and right"),
        ("UrinaryBladder", "urinary bladder"),
        ("  inferior__vena -cava ", "inferior vena cava"),
        ("GTVp", "gtvp"),
        ("vertebrae_L1", "vertebrae l1"),
        ("l_kidney", "l kidney"),
        ("bright_spot", "bright spot"),
        ("Bauchspeicheldrüse", "bauchspeicheldrüse"),
        ("label_of_the_liver", "label of the liver"),
        ("background", "background"),
        ("Atrium_dextrum", "right atrium"),
        ("lesion_of_0.5_mm", "lesion of 0.5 mm"),
        ("Niere_links", "left niere"),
        ("rein_droit", "right rein"),
    ],
)
def test_phrases(name, phrase):
    assert clean_label_name(name) == phrase
    assert clean_label_name(phrase) == phrase


@pytest.mark.parametrize("name", ["1", "", "  ", "_-_", "label_3", "Class1", "roi", "object-2-1"])
def test_a_name_that_says_nothing_is_refused(name):
    with pytest.raises(ValueError, match='Rename it in dataset.json, or .*"refsam3d"') as error:
        clean_label_name(name)
    assert repr(name) in str(error.value)


LABELS = {
    "plain": {"background": 0, "liver": 1, "spleen": 2},
    "unordered": {"spleen": 2, "background": 0, "liver": 1},
    "ignore": {"background": 0, "kidney_left": 1, "kidney_right": 2, "ignore": 3},
    "gaps": {"background": 0, "liver": 2, "spleen": 5},
    "lists of one": {"background": 0, "liver": [1], "spleen": [2]},
    "regions": {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": 3},
    "regions, unordered": {"enhancing": 3, "background": 0, "whole": (1, 2, 3), "core": (2, 3)},
    "regions, ignore": {"background": 0, "whole": [1, 2], "core": 2, "ignore": 3},
    "regions, void": {"background": 0, "outside": [0, 0], "whole": [1, 2], "core": [2]},
}


@pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS)
def test_heads_are_those_of_nnunet(labels):
    from nnunetv2.utilities.label_handling.label_handling import LabelManager

    names = head_names({"labels": labels})
    order = [1] * len(names)  # the values only matter when segmentations are exported
    manager = LabelManager(labels, order if any_region(labels) else None)

    assert len(names) == manager.num_segmentation_heads
    heads = manager.foreground_regions if manager.has_regions else manager.all_labels
    for name, head in zip(names, heads, strict=True):
        value = labels[name]
        if manager.has_regions:
            assert (tuple(value) if isinstance(value, list) else value) == head
        else:
            assert (value[0] if isinstance(value, list) else value) == head


def any_region(labels):
    return any(isinstance(value, (list, tuple)) and len(value) > 1 for value in labels.values())


def test_heads_by_eye():
    assert head_names({"labels": LABELS["unordered"]}) == ["background", "liver", "spleen"]
    assert head_names({"labels": LABELS["regions, ignore"]}) == ["whole", "core"]


@pytest.mark.parametrize(
    ("dataset_json", "message"),
    [
        ({}, 'no "labels"'),
        ({"labels": {}}, 'no "labels"'),
        ({"labels": {"background": 0, "a": 1, "b": 1}}, "'a' and 'b' .* share the value 1"),
        ({"labels": {"0": "background", "1": "liver"}}, "'0' .* value 'background'"),
        ({"labels": {"background": 0, "liver": []}}, "'liver' .* value \\[\\]"),
    ],
)
def test_bad_labels(dataset_json, message):
    with pytest.raises(ValueError, match=message):
        head_names(dataset_json)


def test_prompts_follow_the_heads():
    labels = {"kidney_left": 2, "background": 0, "Liver": 1, "ignore": 3}
    assert class_prompts({"labels": labels}) == ["background", "liver", "left kidney"]


def test_initials_count_when_their_twin_is_there():
    labels = {"background": 0, "Parotid_L": 1, "Parotid_R": 2, "Rt_Lung": 3, "Lt_Lung": 4}
    assert class_prompts({"labels": labels})[1:] == [
        "left parotid",
        "right parotid",
        "right lung",
        "left lung",
    ]


@pytest.mark.parametrize(
    ("one", "two", "phrases"),
    [
        ("LKidney", "RKidney", ["left kidney", "right kidney"]),
        ("lungrt", "lunglt", ["right lung", "left lung"]),
        ("femur_sx", "femur_dx", ["left femur", "right femur"]),
        ("kidney_l1", "kidney_r1", ["left kidney 1", "right kidney 1"]),
        ("kidney1l", "kidney1r", ["left kidney1", "right kidney1"]),
        ("LV", "RV", ["left v", "right v"]),
        ("ltibia", "rtibia", ["left tibia", "right tibia"]),
        ("ltkidney", "rtkidney", ["left kidney", "right kidney"]),
        ("kidneyleft", "kidneyright", ["left kidney", "right kidney"]),
        ("LEFTKIDNEY", "RIGHTKIDNEY", ["left kidney", "right kidney"]),
        ("Kidney(L)", "Kidney(R)", ["left kidney", "right kidney"]),
        ("Kidney.L", "Kidney.R", ["left kidney", "right kidney"]),
        ("Niere_li", "Niere_re", ["left niere", "right niere"]),
    ],
)
def test_initials_written_together_with_the_name_count_beside_their_twin(one, two, phrases):
    assert class_prompts({"labels": {"background": 0, one: 1, two: 2}})[1:] == phrases
    alone = class_prompts({"labels": {"background": 0, one: 1}})
    assert not mentions_side(alone)


def test_a_vertebra_beside_a_rib_is_no_pair_of_sides():
    labels = {"background": 0, "L1": 1, "R1": 2, "liver": 3, "lung": 4}
    assert class_prompts({"labels": labels})[1:] == ["l1", "r1", "liver", "lung"]


def test_organs_of_two_letters_are_no_sides():
    labels = {"background": 0, "LI": 1, "RE": 2}
    assert class_prompts({"labels": labels})[1:] == ["li", "re"]


def test_initials_alone_stay():
    labels = {"background": 0, "Parotid_L": 1, "Lens_R": 2}
    assert class_prompts({"labels": labels})[1:] == ["parotid l", "lens r"]


def with_prompts(prompts, **labels):
    return {"labels": {"background": 0, **labels}, "refsam3d": {"prompts": prompts}}


def test_the_users_phrases_win_as_written():
    dataset_json = with_prompts({"1": "Left  Kidney on CT"}, **{"1": 1, "liver": 2})
    assert class_prompts(dataset_json) == ["background", "Left Kidney on CT", "liver"]


@pytest.mark.parametrize(
    ("dataset_json", "message"),
    [
        (with_prompts({"livr": "liver"}, liver=1), "'livr'.* 'background', 'liver'.*mean 'liver'"),
        (with_prompts({"ignore": "x"}, liver=1, ignore=2), "no output of nnU-Net"),
        (with_prompts({"liver": 3}, liver=1), "'liver' must be a phrase .* got 3"),
        (with_prompts({"liver": " "}, liver=1), "'liver' must be a phrase"),
        (with_prompts(["liver"], liver=1), "must look like"),
        ({"labels": {"background": 0}, "refsam3d": "liver"}, "must look like"),
        ({"labels": {"background": 0, "1": 1}}, "'1' does not say"),
        (with_prompts({}, kidney_left=1, LeftKidney=2), "'kidney_left' and 'LeftKidney' have the"),
        (with_prompts({"spleen": "Liver"}, liver=1, spleen=2), "'liver' and 'spleen' have the"),
    ],
)
def test_bad_prompts(dataset_json, message):
    with pytest.raises(ValueError, match=message):
        class_prompts(dataset_json)


def test_without_a_background_head_its_prompt_is_refused():
    dataset_json = with_prompts({"background": "air"}, whole=[1, 2], core=2)
    with pytest.raises(ValueError, match="no output of nnU-Net has that name"):
        class_prompts(dataset_json)


@pytest.mark.parametrize(
    ("phrases", "expected"),
    [
        (["left kidney"], True),
        (["liver", "the Right lung"], True),
        (["left-sided effusion"], True),
        (["kidney_left"], True),
        (["bright spot", "upright", "cleft lip", "adroit"], False),
        (["linke Niere"], True),
        ([], False),
    ],
)
def test_sides(phrases, expected):
    assert mentions_side(phrases) is expected
