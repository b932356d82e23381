"""Numbers of a hand-made summary.json, and the picture."""

import json
import math

import numpy as np
import pytest
import SimpleITK
from matplotlib.image import imread

from refsam3d_nnunet.demo import report
from refsam3d_nnunet.demo.figure import PANEL_INCHES, HeldOut, _best_slice, _draw, save_slices

LABELS = {"labels": {"background": 0, "left lung": 1, "tumour": 3, "ignore": 4}}


def write_summary(folder, dice):
    """A summary.json as nnU-Net writes it; ``dice`` maps a case to Dice by key."""
    cases = [
        {
            "prediction_file": f"/out/{name}.nii.gz",
            "reference_file": f"/raw/{name}.nii.gz",
            "metrics": {key: {"Dice": value, "TP": 7} for key, value in scores.items()},
        }
        for name, scores in dice.items()
    ]
    path = folder / "summary.json"
    path.write_text(json.dumps({"metric_per_case": cases, "mean": {}, "foreground_mean": {}}))
    return path


def test_scores_by_class(tmp_path):
    summary = write_summary(
        tmp_path,
        {
            "a": {"1": 0.5, "3": math.nan},  # no tumour, and none predicted
            "b": {"1": 1.0, "3": 0.25},
            "c": {"1": 0.75, "3": 0.0},
        },
    )
    lung, tumour, mean = report.read_scores(summary, LABELS)

    assert lung == report.Score("left lung", 0.75, 0.5, 1.0, 3)
    assert tumour == report.Score("tumour", 0.125, 0.0, 0.25, 2)
    assert mean == report.Score("mean of the classes", 0.4375, 0.25, 0.625, 3)
    assert report.case_means(summary, ".nii.gz") == {"a": 0.5, "b": 0.625, "c": 0.375}


def test_class_that_no_case_has(tmp_path):
    summary = write_summary(tmp_path, {"a": {"1": 0.5, "3": math.nan}})
    _, tumour, mean = report.read_scores(summary, LABELS)

    assert math.isnan(tumour.mean)
    assert tumour.cases == 0
    assert mean.mean == 0.5
    assert "| tumour              |         - |     - |     - |     0 |" in report.score_table(
        [tumour, mean]
    )


def test_regions_have_keys_of_their_own():
    labels = {"background": 0, "whole": [1, 2], "core": [2], "edge": 1, "ignore": 3}

    assert report.class_keys({"labels": labels}) == {"whole": "(1, 2)", "core": "(2,)", "edge": "1"}
    assert report.class_keys({"labels": {"background": [0], "core": [2]}}) == {"core": "2"}


def test_summary_of_other_labels(tmp_path):
    summary = write_summary(tmp_path, {"a": {"1": 0.5}})

    with pytest.raises(ValueError, match="no scores for 'tumour' .key '3'"):
        report.read_scores(summary, LABELS)
    with pytest.raises(ValueError, match="has no case"):
        report.read_scores(write_summary(tmp_path, {}), LABELS)


def test_report_file(tmp_path):
    scores = [report.Score("liver", 0.9, 0.8, 1.0, 4), report.Score("mean", 0.9, 0.8, 1.0, 4)]
    path = tmp_path / "report.md"
    report.write_report(
        path,
        scores,
        facts={"device": "cpu"},
        seconds={"Train": 61.2, "Evaluate": 3.9},
        commands=["nnUNetv2_train 1 3d_fullres 0"],
        picture="slices.png",
    )
    lines = path.read_text().splitlines()

    assert "| liver |     0.900 | 0.800 | 1.000 |     4 |" in lines
    assert "|-------|----------:|------:|------:|------:|" in lines
    assert "| device  | cpu   |" in lines
    assert "| sum      |      65 |" in lines
    assert "nnUNetv2_train 1 3d_fullres 0" in lines
    assert "![Truth and prediction](slices.png)" in lines
    assert [p.name for p in tmp_path.iterdir()] == ["report.md"]


def test_facts_of_the_trainer(tmp_path):
    assert report.model_facts(tmp_path) == {}
    (tmp_path / "fold_0").mkdir()
    record = {"preset": "vit_t", "text": {"encoder": "minilm"}, "parameters": 1234, "weights": None}
    (tmp_path / "fold_0/refsam3d_run.json").write_text(json.dumps(record))

    assert report.model_facts(tmp_path) == {
        "image encoder": "vit_t",
        "text encoder": "minilm",
        "parameters": "1234",
    }


def test_versions_name_what_is_missing(monkeypatch):
    monkeypatch.setattr(report, "PACKAGES", ("numpy", "no_such_package"))
    facts = report.versions("cpu")

    assert facts["numpy"] == np.__version__
    assert facts["no_such_package"] == "not installed"


def test_slice_shows_most_classes_near_the_centre():
    truth = np.zeros((9, 4, 4), dtype=np.uint8)
    truth[1:8, 0] = 1
    truth[4:9, 3] = 2

    assert _best_slice(truth, 0, {"a": 1, "b": 2}) in (4, 5)
    assert _best_slice(truth, 0, {"b": 2}) == 6
    assert _best_slice(truth, 0, {"absent": 7}) == 4


@pytest.fixture
def held_out(tmp_path):
    """A case stored from right to left, with an object at the patient's left."""
    array = np.zeros((5, 11, 7), dtype=np.uint8)
    array[1:4, 4:7, 1:3] = 1
    files = []
    for name in ("image", "truth", "prediction"):
        image = SimpleITK.GetImageFromArray(array * (200 if name == "image" else 1))
        image.SetSpacing((1.0, 2.0, 4.0))
        image.SetDirection((-1, 0, 0, 0, 1, 0, 0, 0, 1))
        files.append(tmp_path / f"{name}.nii.gz")
        SimpleITK.WriteImage(image, str(files[-1]))
    return HeldOut("case, Dice 1.00", *files)


def test_planes_show_the_patient_as_radiologists_see_him(held_out):
    panels = _draw([held_out], {"heart": 1}).axes

    for panel, (x, y), aspect in zip(panels, ((4.5, 5), (4.5, 2), (5, 2)), (2, 4, 2), strict=True):
        outlines = [c for c in panel.collections if c.get_paths()]
        assert len(outlines) == 2  # truth and prediction
        for outline in outlines:
            corners = np.vstack([path.vertices for path in outline.get_paths()])
            np.testing.assert_allclose((corners.min(0) + corners.max(0)) / 2, (x, y))
        assert panel.get_aspect() == aspect  # height of a voxel over its width
        left, right = panel.get_xlim()
        assert left < right
    assert [panel.get_title() for panel in panels] == ["axial", "coronal", "sagittal"]
    assert [[text.get_text() for text in panel.texts] for panel in panels] == [
        ["R", "L"],
        ["R", "L"],
        ["A", "P"],
    ]
    downwards = [panel.get_ylim()[0] > panel.get_ylim()[1] for panel in panels]
    assert downwards == [True, False, False]  # posterior below, but superior above


def test_picture_has_four_rows_at_most(tmp_path, held_out):
    save_slices(tmp_path / "slices.png", [held_out] * 5, {"heart": 1})

    height, width, _ = imread(tmp_path / "slices.png").shape
    assert height / width == pytest.approx(
        (4 * PANEL_INCHES + 0.9) / (3 * PANEL_INCHES + 0.5), 0.01
    )
    assert not list(tmp_path.glob("*.partial"))
    assert not list(tmp_path.glob(".tmp.*"))


def test_no_case_no_picture(tmp_path):
    with pytest.raises(ValueError, match="no held-out case"):
        save_slices(tmp_path / "slices.png", [], {"heart": 1})
