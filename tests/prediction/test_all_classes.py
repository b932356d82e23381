"""`refsam3d predict` without prompts is nnU-Net's predictor, on images stored anyhow."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from refsam3d_nnunet import cli
from refsam3d_nnunet.prediction.images import Case
from tests.prediction.tiny_model import (
    FINAL,
    LABELS,
    REGIONS,
    SEEDS,
    SPACING,
    draw_image,
    write_model,
)

pytestmark = [
    # nnU-Net's, not ours
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]


@pytest.fixture(scope="module", params=["labels", "regions"])
def model(request, tmp_path_factory) -> Path:
    labels = {"labels": LABELS, "regions": REGIONS}[request.param]
    folder, seed = tmp_path_factory.mktemp("model"), SEEDS[request.param]
    return write_model(folder, labels=labels, folds=(0, 1), seed=seed)


def image(code: str = "LPS") -> sitk.Image:
    result = sitk.GetImageFromArray(draw_image()[0])
    result.SetSpacing(SPACING)
    result.SetOrigin((3.0, -7.5, 11.25))
    return sitk.DICOMOrient(result, code)


def saved(path: Path, code: str = "LPS") -> Path:
    sitk.WriteImage(image(code), str(path))
    return path


def voxels(path: Path) -> np.ndarray:
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))


def run(model: Path, source: Path, out: Path, *options: str) -> int:
    fixed = ["-i", str(source), "-o", str(out), "-m", str(model), "-device", "cpu"]
    return cli.main(["predict", *fixed, *options])


def predict(model: Path, source: Path, out: Path, *options: str) -> dict:
    assert run(model, source, out, *options) == 0
    return json.loads((out / "refsam3d_prompts.json").read_text())


def stock(model: Path, **how) -> np.ndarray:
    """What nnU-Net's own predictor makes of the image, in all folds."""
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    predictor = nnUNetPredictor(device=torch.device("cpu"), allow_tqdm=False, **how)
    predictor.initialize_from_trained_model_folder(str(model), (0, 1), FINAL)
    properties = {"spacing": list(SPACING[::-1])}
    return predictor.predict_single_npy_array(draw_image()[0][None], properties)


def test_all_classes_are_those_of_nnunet(model, tmp_path):
    """Labels, masks and the record of an image as it was trained."""
    record = predict(model, saved(tmp_path / "x.mha"), tmp_path / "out", "--masks")
    labels = voxels(tmp_path / "out" / "x.mha")
    wanted = stock(model)
    assert set(np.unique(wanted)) == {0, 1, 2}, "such a network mixes all labels"
    assert np.array_equal(labels, wanted)

    assert record["asked"] == "all trained classes"
    assert "similarity_threshold" not in record
    entries = record["images"]["x"]["classes"]
    names = list(json.loads((model / "dataset.json").read_text())["labels"])[1:]
    assert [(one["value"], one["label"]) for one in entries] == [(1, names[0]), (2, names[1])]
    assert [one["voxels"] for one in entries] == [(wanted == value).sum() for value in (1, 2)]
    assert [set(one) for one in entries] == [{"value", "label", "canonical", "voxels"}] * 2

    masks = sorted((tmp_path / "out" / "x_masks").iterdir())
    first, right = (voxels(path) for path in masks)
    assert masks[1].name == "2_right_kidney.mha"
    assert np.array_equal(right == 1, wanted == 2)
    region = "both_kidneys" in names
    assert masks[0].name == ("1_both_kidneys.mha" if region else "1_left_kidney.mha")
    assert ((first == 1) >= (wanted == 1)).all()
    assert region == bool((first & right).any()), "regions overlap, labels do not"


@pytest.mark.parametrize("model", ["regions"], indirect=True)
def test_a_part_is_not_lost_below_the_whole_whatever_the_order_of_the_prompts(model, tmp_path):
    prompts = ["both kidneys", "right kidney"]
    found = []
    for number, order in enumerate((prompts, prompts[::-1])):
        options = [word for prompt in order for word in ("--prompt", prompt)]
        out = tmp_path / str(number)
        predict(model, saved(tmp_path / "x.mha"), out, *options, "--save-probabilities")
        labels = voxels(out / "x.mha")
        chances = np.load(out / "x.npz")["probabilities"]
        found.append({prompt: labels == i for i, prompt in enumerate(order, 1)})
        right = chances[order.index("right kidney")] > 0.5
        assert np.array_equal(found[-1]["right kidney"], right), "the part lies on top"
    for prompt in prompts:
        assert found[0][prompt].any()
        assert np.array_equal(found[0][prompt], found[1][prompt])


@pytest.mark.parametrize(
    ("options", "how", "recorded"),
    [
        (["-step_size", "0.3"], {"tile_step_size": 0.3}, (0.3, [0, 1])),
        (["--disable-tta"], {"use_mirroring": False}, (0.5, False)),
    ],
    ids=["step", "mirroring"],
)
def test_speed_options_are_those_of_nnunet(model, tmp_path, options, how, recorded):
    record = predict(model, saved(tmp_path / "x.mha"), tmp_path / "out", *options)
    labels = voxels(tmp_path / "out" / "x.mha")
    assert np.array_equal(labels, stock(model, **how))
    assert not np.array_equal(labels, stock(model)), "the option does something"
    assert (record["step_size"], record["mirroring"]) == recorded


@pytest.mark.parametrize("model", ["labels"], indirect=True)
def test_images_are_not_written_over(model, tmp_path, capsys):
    path = saved(tmp_path / "x.mha")
    before = path.read_bytes()
    for source in (path, tmp_path):
        assert run(model, source, tmp_path) == 2
        assert "take the place of an image" in capsys.readouterr().err
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("model", ["labels"], indirect=True)
def test_a_second_run_adds_to_the_record(model, tmp_path, capsys):
    out = tmp_path / "out"
    x, y = (saved(tmp_path / f"{name}.mha") for name in "xy")
    asked = ["--prompt", "left kidney", "--masks", "--save-probabilities"]
    first = predict(model, x, out, *asked)
    both = predict(model, y, out, *asked)
    assert both["images"]["x"] == first["images"]["x"]
    assert set(both["images"]) == {"x", "y"}
    assert run(model, y, out, *asked, "-step_size", "1") == 2
    message = capsys.readouterr().err
    assert "tells of 1 images that this run does not predict, 'x' for one" in message
    assert "other settings (step_size)" in message
    predict(model, x, tmp_path / "alone", *asked)
    (tmp_path / "alone" / "x_masks" / "1_left_kidney_corrected.mha").touch()  # by the user
    record = predict(
        model, x, tmp_path / "alone", "--prompt", "right kidney", "--masks", "-step_size", "1"
    )
    assert record["step_size"] == 1, "nothing of the first run stays"
    masks = {file.name for file in (tmp_path / "alone" / "x_masks").iterdir()}
    assert masks == {"1_right_kidney.mha", "1_left_kidney_corrected.mha"}

    again = ["--prompt", "right kidney", "--masks", "-step_size", "1"]
    source = tmp_path / "images"
    source.mkdir()
    for path in (x, y):
        path.rename(source / path.name)
    predict(model, source, out, *again)
    for name in "xy":
        assert [file.name for file in (out / f"{name}_masks").iterdir()] == ["1_right_kidney.mha"]


def test_an_image_stored_otherwise_shows_the_same_anatomy(model, tmp_path):
    source, out = tmp_path / "images", tmp_path / "out"
    source.mkdir()
    endings = {"LPS": ".nii.gz", "RAS": ".mha", "PIR": ".nrrd", "SAL": ".mha"}
    files = {code: saved(source / f"{code}{ending}", code) for code, ending in endings.items()}
    record = predict(model, source, out)
    wanted = stock(model)
    for code, file in files.items():
        result, original = sitk.ReadImage(str(out / file.name)), sitk.ReadImage(str(file))
        for get in ("GetSize", "GetOrigin", "GetDirection", "GetSpacing"):
            assert getattr(result, get)() == pytest.approx(getattr(original, get)(), abs=1e-5)
        back = sitk.GetArrayFromImage(sitk.DICOMOrient(result, "LPS"))
        assert np.array_equal(back, wanted), code
        assert record["images"][code]["predicted_in_orientation"] == "LPS"


def test_one_image_for_other_programs(model, tmp_path):
    from refsam3d_nnunet.prediction.run import channels_of, load_predictor, segment_image

    predictor = load_predictor(model, None, FINAL, device="cpu")
    assert channels_of(predictor) == 1
    case = Case("x", (saved(tmp_path / "x.mha", "RAS"),), ".mha")
    result = segment_image(predictor, case)
    assert result.GetPixelID() == sitk.sitkUInt8
    assert result.GetDirection() == image("RAS").GetDirection()
    assert np.array_equal(sitk.GetArrayFromImage(sitk.DICOMOrient(result, "LPS")), stock(model))


def test_it_works_where_pth_files_do_not_count(model, repo):
    """As after `pip install --target`: nnU-Net is told of the trainer all the same."""
    code = (
        "import sys; assert 'refsam3d_nnunet._autoload' not in sys.modules\n"
        "from pathlib import Path; from refsam3d_nnunet.prediction.run import load_predictor\n"
        f"load_predictor(Path({str(model)!r}), [0], {FINAL!r}, device='cpu')"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(repo), *sys.path])}
    subprocess.run([sys.executable, "-S", "-c", code], env=environment, check=True)


def test_steps_that_leave_gaps_are_refused(tmp_path, capsys):
    from refsam3d_nnunet.prediction.run import load_predictor

    for text in ("0", "-0.5", "1.01", "nan", "half"):
        with pytest.raises(SystemExit):
            cli.main(["predict", "-i", "x", "-o", "y", "-m", "z", "-step_size", text])
        assert f"must be above 0 and at most 1, got {text!r}" in capsys.readouterr().err
    with pytest.raises(ValueError, match="step size must be above 0 and at most 1, got 2"):
        load_predictor(tmp_path, None, FINAL, device="cpu", step_size=2)


@pytest.mark.parametrize("option", [["--verbatim"], ["--similarity", "0.9"]])
def test_options_of_new_phrases_want_phrases(tmp_path, capsys, option):
    command = ["predict", "-i", str(tmp_path), "-o", str(tmp_path / "out"), "-m", str(tmp_path)]
    assert cli.main([*command, *option]) != 0
    assert "name some with --prompt or --jobs" in capsys.readouterr().err
