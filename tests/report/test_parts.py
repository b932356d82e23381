"""Curves, charts and volumes."""

import base64
import gzip
import re

import numpy as np
import pandas as pd
import pytest
import SimpleITK
import torch

from refsam3d_nnunet.report import volumes
from refsam3d_nnunet.report.charts import distribution
from refsam3d_nnunet.report.chosen import choose, classes_of
from refsam3d_nnunet.report.curves import read_curves
from refsam3d_nnunet.report.facts import method_facts, prompts
from refsam3d_nnunet.report.study import read_study
from refsam3d_nnunet.report.svg import drawing, to_svg
from tests.report.conftest import EPOCHS, METHODS, SHAPE, log_text


def test_curves_of_checkpoints_and_of_a_log(built):
    curves = read_curves(built.model(METHODS[1]))

    assert [c.fold for c in curves] == list("01234")
    assert [c.source.suffix for c in curves] == [".pth"] * 4 + [".txt"]
    for curve in curves:
        assert len(curve.train) == len(curve.validation) == len(curve.dice) == EPOCHS
        # 60 s an epoch: the 40 s between two epochs are no training
        np.testing.assert_allclose(curve.hours, np.arange(1, EPOCHS + 1) / 60)
    # The log rounds to four digits and holds unsmoothed Dice; smoothing brings back the other.
    logged, stored = curves[4], curves[3]
    assert abs(np.subtract(logged.dice, stored.dice)).max() < 0.02
    assert np.all(np.diff(logged.dice) > 0)


def test_log_of_a_resumed_training(tmp_path):
    """Epoch 1 was repeated, and epoch 2 stopped in its middle."""
    values = {"train_losses": [0.5, 0.4], "val_losses": [0.6, 0.5], "mean_fg_dice": [0.1, 0.2]}
    fold = tmp_path / "fold_0"
    fold.mkdir()
    (fold / "training_log_2026_1.txt").write_text(log_text(values))
    second = log_text(values).replace("Epoch 0", "Epoch 2")
    second = second.replace("train_loss 0.4000", "train_loss -0.2500").split("\n")[6:]
    (fold / "training_log_2026_2.txt").write_text("\n".join([*second, "x y: Epoch 2 "]))
    (curve,) = read_curves(tmp_path)

    assert curve.train == [0.5, -0.25]
    assert curve.dice == pytest.approx([0.1, 0.9 * 0.1 + 0.1 * 0.2])


def test_damaged_checkpoint_is_passed_over(tmp_path):
    fold = tmp_path / "fold_0"
    fold.mkdir()
    (fold / "checkpoint_final.pth").write_bytes(b"PK\x03\x04 no zip")

    assert read_curves(tmp_path) == []


def test_checkpoint_that_would_run_code_is_not_loaded(tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    fold = tmp_path / "fold_0"
    fold.mkdir()
    torch.save({"logging": {"train_losses": [Evil()]}}, fold / "checkpoint_final.pth")

    assert read_curves(tmp_path) == []
    assert not (tmp_path / "ran").exists()


def test_every_finite_case_is_a_dot_with_a_name():
    values = {
        "a": pd.Series({"x<y": 0.25, "two": 0.5, "three": np.nan}),
        "b": pd.Series({"x<y": 0.75, "two": np.inf, "three": 0.5}),
    }
    svg = distribution(values, title="$liver", axis="Dice", limits=(0, 1))

    assert re.findall("<title>(.*?)</title>", svg) == [
        "x&lt;y: 0.25",
        "two: 0.5",
        "x&lt;y: 0.75",
        "three: 0.5",
    ]
    assert "2 undefined or infinite not drawn" in svg
    assert "$liver" in svg
    assert "var(--method-1)" in svg


def test_no_defined_case_at_all():
    values = {"a": pd.Series({"one": np.nan})}

    assert "<title>" not in distribution(values, title="t", axis="Dice", limits=(0, 1))


def test_dots_and_tooltips_must_match():
    from matplotlib.figure import Figure

    with drawing():
        figure = Figure()
        figure.subplots().scatter([1, 2], [1, 2]).set_gid("dots")
        with pytest.raises(ValueError, match="dots has 2 dots and 1 tooltips"):
            to_svg(figure, "label", {"dots": ["one"]})


def test_worst_and_median_cases(built):
    study = read_study(built.folder)
    chosen = choose(study)

    for item in chosen:
        for reason in item.reasons:
            rank, _, label = reason.partition(" of ")
            method = next(m for m in study.methods if m.label == label)
            scores = method.evaluation.values("dice").mean(axis=1).sort_values()
            place = {"worst": 0, "median": (len(scores) - 1) // 2}[rank]
            assert scores[item.case] == scores.iloc[place]
    assert sum(len(item.reasons) for item in chosen) == 4


def unpack(text, shape):
    return np.frombuffer(gzip.decompress(base64.b64decode(text)), np.uint8).reshape(shape)


def test_volumes_are_the_files(built):
    study = read_study(built.folder)
    chosen = choose(study)[0]
    data = volumes.viewer_volumes(chosen, classes_of(study))
    truth = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(chosen.truth)))

    assert tuple(data["shape"]) == SHAPE  # the margin is wider than what is around
    assert data["spacing"] == [2.0, 1.25, 1.0]
    assert data["thinned"] == [1, 1, 1]
    np.testing.assert_array_equal(unpack(data["labels"]["truth"], SHAPE), truth)
    assert list(data["labels"]) == ["truth", "RefSAM3DTrainer", "nnUNetTrainer"]
    assert [c["values"] for c in data["classes"]] == [[1], [2]]
    image = unpack(data["image"], SHAPE)
    assert image[truth > 0].mean() > image[truth == 0].mean() + 50


def test_large_volumes_are_cut_and_thinned(tmp_path, monkeypatch):
    """The finest axes are thinned, and image and labels stay together."""
    monkeypatch.setattr(volumes, "MAX_VOXELS", 1000)
    monkeypatch.setattr(volumes, "MARGIN_MM", 4.0)
    truth = np.zeros((20, 60, 60), np.int16)
    truth[8:12, 20:50, 20:50] = 700  # not a byte
    truth[8:12, 40:50, 20:50] = 900
    files = []
    for name, array in (("image", truth.astype(np.float32)), ("truth", truth)):
        image = SimpleITK.GetImageFromArray(array)
        image.SetSpacing((0.5, 1.0, 4.0))
        files.append(tmp_path / f"{name}.nii.gz")
        SimpleITK.WriteImage(image, str(files[-1]))
    chosen = volumes.Chosen("c", ["worst"], {}, *files, {"m": files[1]})
    data = volumes.viewer_volumes(chosen, {"all": (700, 900), "part": 900})
    labels = unpack(data["labels"]["truth"], data["shape"])

    assert np.prod(data["shape"]) <= 1000
    assert data["thinned"][0] == 1
    assert data["thinned"][2] > data["thinned"][1]
    assert max(data["spacing"]) / min(data["spacing"]) <= 2
    assert data["shape"][0] == 4 + 2  # four labelled slices and a margin of one on each side
    assert [c["values"] for c in data["classes"]] == [[1, 2], [2]]
    np.testing.assert_array_equal(unpack(data["image"], data["shape"]) > 0, labels > 0)


def test_volumes_that_do_not_fit(built, tmp_path):
    study = read_study(built.folder)
    chosen = choose(study)[0]
    SimpleITK.WriteImage(SimpleITK.Image(4, 5, 6, SimpleITK.sitkUInt8), str(tmp_path / "o.nii.gz"))
    other = chosen._replace(truth=tmp_path / "o.nii.gz")

    with pytest.raises(ValueError, match=r"truth has the size \(6, 5, 4\), its image"):
        volumes.viewer_volumes(other, classes_of(study))


def test_facts(built):
    method = read_study(built.folder).methods[0]
    facts = method_facts(method, "3d_fullres")
    run = dict(facts["refsam3d_run.json of the folds"])

    assert run["weights.sha256"] == "ab" * 32
    assert run["seed"] == "; ".join(f"fold {i}: {1000 + i}" for i in range(5))
    assert dict(facts["plans.json"])["patch_size"] == "16, 16, 16"
    assert "_text" not in dict(facts["debug.json of the folds"])
    hashes = dict(facts["SHA-256 of the files"])
    assert len(hashes) == 7
    assert all(re.fullmatch("[0-9a-f]{64}", value) for value in hashes.values())
    assert prompts(method)[1] == ("1", "head & <b>neck</b>")
