"""dataset.json: labels, regions and the ignore label as nnU-Net has them; tolerances."""

import json

import pytest
from nnunetv2.utilities.label_handling.label_handling import LabelManager

from refsam3d_nnunet.evaluation.labels import find_dataset_json, read_labels, tolerances_of

REGIONS = {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "active": 3}


@pytest.fixture
def read(tmp_path):
    def read(labels, **more):
        path = tmp_path / "dataset.json"
        path.write_text(json.dumps({"labels": labels, "file_ending": ".nii.gz", **more}))
        return read_labels(path)

    return read


@pytest.mark.parametrize(
    ("labels", "order", "classes"),
    [
        ({"background": 0, "b": 2, "a": 1}, None, {"b": (2,), "a": (1,)}),
        ({"background": 0, "a": 1, "ignore": 2}, None, {"a": (1,)}),
        (REGIONS, [1, 2, 3], {"whole": (1, 2, 3), "core": (2, 3), "active": (3,)}),
        ({**REGIONS, "ignore": 4}, [1, 2, 3], {"whole": (1, 2, 3), "core": (2, 3), "active": (3,)}),
    ],
)
def test_classes_are_nnunets(read, labels, order, classes):
    found = read(labels, regions_class_order=order)
    manager = LabelManager(labels, order)
    theirs = manager.foreground_regions if manager.has_regions else manager.foreground_labels

    assert found.classes == classes
    assert list(found.classes) == list(classes)
    assert set(found.classes.values()) == {t if isinstance(t, tuple) else (t,) for t in theirs}
    assert found.ignore == manager.ignore_label
    assert found.known == set(manager.all_labels)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "dataset.json is no readable JSON"),
        ("[]", "must hold a JSON object"),
        ('{"file_ending": ".nii.gz"}', "has no 'labels'"),
        ('{"labels": {"background": 0, "a": 1}}', "has no 'file_ending'"),
        ('{"labels": {"a": 1}, "file_ending": ".nii.gz"}', "does not accept: Background label"),
        (
            '{"labels": {"background": 0, "a": 2, "ignore": 1}, "file_ending": ".nii.gz"}',
            "does not accept: .*ignore label",
        ),
        ('{"labels": 3, "file_ending": ".nii.gz"}', "does not accept"),
    ],
)
def test_labels_that_nnunet_refuses(tmp_path, content, message):
    path = tmp_path / "dataset.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=message):
        read_labels(path)


def test_dataset_json_is_looked_for_where_nnunet_leaves_it(tmp_path):
    prediction, reference = (
        tmp_path / "model" / "fold_0" / "validation",
        tmp_path / "d" / "labelsTr",
    )
    prediction.mkdir(parents=True)
    reference.mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match="no dataset.json in .*--dataset-json"):
        find_dataset_json(prediction, reference)

    for folder in (tmp_path / "d", tmp_path / "model", prediction):  # the later goes first
        (folder / "dataset.json").write_text("{}")
        assert find_dataset_json(prediction, reference) == folder / "dataset.json"


def test_tolerances(read):
    labels = read({"background": 0, "b": 2, "a": 1})

    assert tolerances_of(labels, 2, {"a": 0}) == {"b": 2.0, "a": 0.0}


@pytest.mark.parametrize(
    ("default", "exceptions", "message"),
    [
        (1, {"c": 2.0}, "no class 'c' to set a tolerance for; the classes are 'b', 'a'"),
        (1, {"a": -0.5}, "tolerance of a must be mm from 0 up, got -0.5"),
        (1, {"a": "2"}, "tolerance of a must be mm from 0 up, got '2'"),
        (1, {"a": True}, "tolerance of a must be mm"),
        (-1, {}, "tolerance of --tolerance must be mm from 0 up, got -1"),
        (float("nan"), {}, "must be mm from 0 up, got nan"),
        (float("inf"), {}, "must be mm from 0 up, got inf"),
    ],
)
def test_tolerances_that_make_no_sense(read, default, exceptions, message):
    with pytest.raises(ValueError, match=message):
        tolerances_of(read({"background": 0, "b": 2, "a": 1}), default, exceptions)
