"""Prompts at prediction: some of the classes, free text, and images stored in any orientation."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from tests.integration.conftest import Workspace

pytestmark = [
    pytest.mark.integration,
    # nnU-Net's, not ours
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]
STOCK = (
    "nnUNetv2_predict -d 901 -f 0 -tr RefSAM3DTrainer -p RefSAM3DPlans -c 3d_fullres -device cpu"
    " -npp 0 -nps 0 --disable_tta"
)
CASE = "case_5"


def images(space: Workspace) -> Path:
    return space.raw / space.name / "imagesTs"


def free(space: Workspace, out: Path, *options: str, source: Path | None = None) -> list[str]:
    source = source or images(space) / f"{CASE}_0000.nii.gz"
    fixed = ["-i", str(source), "-o", str(out), "-m", str(space.model()), "-f", "0"]
    return ["refsam3d", "predict", *fixed, "-device", "cpu", "--disable-tta", *options]


def voxels(path: Path) -> np.ndarray:
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))


@pytest.fixture(scope="module")
def model(trained) -> Workspace:
    """The trained model, its parts awake that start at zero, so that it predicts all labels."""
    import torch

    path = trained.model() / "fold_0" / "checkpoint_final.pth"
    content = torch.load(path, weights_only=False)
    torch.manual_seed(0)
    for name, tensor in content["network_weights"].items():
        last = name.startswith("mask_decoder.hyper_networks.0")
        if last or (tensor.is_floating_point() and not tensor.any()):
            tensor.normal_(std=0.3)
    torch.save(content, path)
    return trained


@pytest.fixture(scope="module")
def whole(model, tmp_path_factory) -> np.ndarray:
    """The stock prediction of all classes."""
    out = tmp_path_factory.mktemp("whole")
    model.run(f"{STOCK} -i {images(model)} -o {out}")
    labels = voxels(out / f"{CASE}.nii.gz")
    assert set(np.unique(labels)) >= {1, 2}, "such a network mixes all labels"
    return labels


def test_phrases_and_orientation_are_recorded(trained):
    record = json.loads((trained.model() / "fold_0" / "refsam3d_run.json").read_text())
    plan = json.loads((trained.model() / "plans.json").read_text())["refsam3d"]
    assert record["classes"] == plan["classes"]
    assert plan["orientations"] == {"LPS": 5}
    left = plan["classes"][1]
    assert (left["label"], left["training"][0]) == ("kidney_left", "left kidney")
    assert "left nephric organ" in left["held_out"]


def test_a_subset_keeps_its_label_values(model, whole, tmp_path):
    out = model.run(
        f"{STOCK} -i {images(model)} -o {tmp_path}", REFSAM3D_PROMPTS="renal organ on the right"
    )
    assert "asks for right kidney; left out: left kidney" in out
    some = voxels(tmp_path / f"{CASE}.nii.gz")
    assert set(np.unique(some)) == {0, 2}
    # Windows are averaged after the choice, so that voxels on the border may differ.
    assert ((some == 2) != (whole == 2)).mean() < 0.02


def test_an_unknown_class_offers_the_nearest(model, tmp_path):
    done = model.try_run(f"{STOCK} -i {images(model)} -o {tmp_path}", REFSAM3D_PROMPTS="left kidny")
    assert "not trained on 'left kidny'. Did you mean 'left kidney' or" in done.stderr


def test_training_does_not_read_the_prompts_of_prediction(model):
    model.run(
        "nnUNetv2_train 901 3d_fullres 0 -tr RefSAM3DTrainer -p RefSAM3DPlans -device cpu --val",
        REFSAM3D_PROMPTS="no such thing",
    )


def test_free_text_in_the_order_asked(model, whole, tmp_path):
    """Trained phrases give the stock result; a free one its class, its masks and a record."""
    model.run(
        free(
            model,
            tmp_path / "a",
            *("--prompt", "right kidney", "--prompt", "left kidney", "--save-probabilities"),
        ),
        free(
            model,
            tmp_path / "b",
            *("--prompt", "right sided kidney", "--prompt", "left chair"),
            *("--masks", "--save-probabilities"),
        ),
    )
    labels = voxels(tmp_path / "a" / f"{CASE}.nii.gz")
    # nnU-Net's half precision makes ties, which go to the first prompt: left out.
    lower, upper = np.sort(np.load(tmp_path / "a" / f"{CASE}.npz")["probabilities"], axis=0)[-2:]
    clear = upper - lower > 2e-3
    assert clear.mean() > 0.5
    assert (labels == np.array([0, 2, 1])[whole])[clear].mean() > 0.98
    assert not (tmp_path / "a" / "refsam3d_text_embeddings.npz").exists()

    labels = voxels(tmp_path / "b" / f"{CASE}.nii.gz")
    mask = voxels(tmp_path / "b" / f"{CASE}_masks" / "1_right_sided_kidney.nii.gz")
    assert np.array_equal(labels == 1, mask)
    chances = np.load(tmp_path / "b" / f"{CASE}.npz")["probabilities"]
    assert np.array_equal(chances.argmax(0), labels)

    record = json.loads((tmp_path / "b" / "refsam3d_prompts.json").read_text())
    one, other = record["images"][CASE]["prompts"]
    assert (one["label"], one["found_by"], one["warning"]) == ("kidney_right", "name", None)
    assert one["similarity"] == 1
    assert (other["label"], other["found_by"]) == ("kidney_left", "similarity")
    assert "'left chair' is far from every phrase" in other["warning"]
    assert len(record["checkpoint_sha256"]["fold_0/checkpoint_final.pth"]) == 64
    assert record["text_encoder"]["encoder"] == "minilm"


def test_an_image_stored_otherwise_shows_the_same_anatomy(model, tmp_path):
    source, out = tmp_path / "images", tmp_path / "out"
    source.mkdir()
    first = sitk.ReadImage(str(images(model) / f"{CASE}_0000.nii.gz"))
    first.SetOrigin((3.0, -7.5, 11.25))
    endings = {"LPS": ".nii.gz", "RAS": ".mha", "PIR": ".nrrd", "SAL": ".nii"}
    for code, ending in endings.items():
        sitk.WriteImage(sitk.DICOMOrient(first, code), str(source / f"{code}{ending}"))
    model.run(
        free(model, out, "--prompt", "left kidney", "--prompt", "right kidney", source=source)
    )

    wanted = voxels(out / "LPS.nii.gz")
    assert len(np.unique(wanted)) == 3
    for code, ending in endings.items():
        image = sitk.ReadImage(str(source / f"{code}{ending}"))
        result = sitk.ReadImage(str(out / f"{code}{ending}"))
        assert result.GetSize() == image.GetSize()
        assert result.GetDirection() == pytest.approx(image.GetDirection(), abs=1e-6)
        assert result.GetOrigin() == pytest.approx(image.GetOrigin(), abs=1e-4)
        assert np.array_equal(sitk.GetArrayFromImage(sitk.DICOMOrient(result, "LPS")), wanted), code


def test_jobs_give_each_image_its_prompts(model, tmp_path):
    source, out = tmp_path / "images", tmp_path / "out"
    source.mkdir()
    for name in ("a", "b", "c"):
        shutil.copy(images(model) / f"{CASE}_0000.nii.gz", source / f"{name}_0000.nii.gz")
    jobs = tmp_path / "jobs.json"
    jobs.write_text(json.dumps({"a": ["left kidney"], "b": ["right kidney", "left kidney"]}))
    model.run(free(model, out, "--jobs", str(jobs), source=source))
    assert {p.name for p in out.glob("*.nii.gz")} == {"a.nii.gz", "b.nii.gz"}
    record = json.loads((out / "refsam3d_prompts.json").read_text())["images"]
    assert [p["prompt"] for p in record["b"]["prompts"]] == ["right kidney", "left kidney"]
    a, b = (voxels(out / f"{name}.nii.gz") for name in "ab")
    assert np.array_equal(a == 1, b == 2)


@pytest.fixture(scope="module")
def predictor(model):
    """The model, loaded once into this process."""
    from refsam3d_nnunet.prediction.run import load_predictor

    return load_predictor(model.model(), [0], "checkpoint_final.pth", device="cpu")


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        ([], "There is no prompt"),
        (["left kidney", " "], "A prompt must be a phrase such as 'left kidney', got ' '"),
        ([3], "must be a phrase .* got 3"),
        (["left kidney", "Left  Kidney"], "'Left Kidney' is there twice"),
        (["background"], "means the background"),
        (["left kidney", "left ren"], "both come nearest to 'left kidney'"),
        (["left " + "very " * 600 + "long kidney"], "has .* tokens, and the text encoder"),
    ],
)
def test_bad_prompts(predictor, prompts, message):
    with pytest.raises(ValueError, match=message):
        predictor.set_prompts(prompts)


def test_known_phrases_need_no_encoder(predictor, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("the encoder was loaded")

    monkeypatch.setattr("refsam3d_nnunet.prediction.predictor.embed", refuse)
    (match,) = predictor.set_prompts(["Segment the left kidney"])
    assert (match.nearest_phrase, match.similarity) == ("segment the left kidney", 1)


def test_a_new_phrase_is_said_with_the_nearest_trained_one(predictor):
    def said(prompt, **how):
        (match,) = predictor.set_prompts([prompt], **how)
        head = [one.label for one in predictor.classes].index("kidney_right")
        words, mask, sentences = predictor.network.text._others
        return match.nearest_phrase, words[head][mask[head]], sentences[head]

    nearest, words, sentence = said("right sided kidney")
    _, own_words, own = said("right sided kidney", verbatim=True)
    _, other_words, other = said(nearest)
    assert torch.equal(words, torch.cat([own_words, other_words]))
    assert torch.allclose(sentence, (own + other) / 2)
    assert not torch.allclose(own, other, atol=0.1)


def test_prompts_survive_the_weights_of_every_case(predictor):
    text = predictor.network.text.eval()
    predictor.set_prompts(["left kidney"])
    before = text()[2]
    predictor.set_prompts(["chair"])
    after = text()[2]
    predictor.network.load_state_dict(predictor.list_of_parameters[0])
    assert torch.equal(text()[2], after)
    assert not torch.equal(after, before)


def test_an_encoder_with_other_weights_is_refused(predictor, monkeypatch):
    monkeypatch.setitem(predictor.block["text"], "weights_sha256", "0" * 64)
    with pytest.raises(ValueError, match="trained with the text encoder 'minilm' .weights 0000"):
        predictor.set_prompts(["chair"])


@pytest.mark.parametrize(
    ("variable", "folds", "message"),
    [
        ("liver", [0], "REFSAM3D_PROMPTS is for nnUNetv2_predict"),
        ("", [7], "There is no .*fold_7"),
    ],
)
def test_models_that_cannot_be_used(model, monkeypatch, variable, folds, message):
    from refsam3d_nnunet.prediction.run import load_predictor

    monkeypatch.setenv("REFSAM3D_PROMPTS", variable)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        load_predictor(model.model(), folds, "checkpoint_final.pth", device="cpu")


def test_a_cascade_is_refused(model, monkeypatch):
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    from refsam3d_nnunet.prediction.run import load_predictor

    def load(self, *_):
        self.configuration_manager = SimpleNamespace(previous_stage_name="3d_lowres")

    monkeypatch.setattr(nnUNetPredictor, "initialize_from_trained_model_folder", load)
    with pytest.raises(ValueError, match="second stage of a cascade"):
        load_predictor(model.model(), [0], "checkpoint_final.pth", device="cpu")


def test_the_benchmark_runs(model, repo, tmp_path):
    raw = model.raw / model.name
    folders = ["--images", raw / "imagesTr", "--labels", raw / "labelsTr", "-o", tmp_path]
    short = ["--wordings", "1", "--cases", "1", "-device", "cpu"]
    script = [sys.executable, repo / "benchmarks" / "prompts.py", "-m", model.model()]
    subprocess.run(
        [str(part) for part in (*script, *folders, *short)], env=model.environment(), check=True
    )
    result = json.loads((tmp_path / "prompts.json").read_text())
    (case,) = result["dice"].values()
    held_out = ["held out", "held out, alone"]
    assert list(case) == ["canonical", "trained", *held_out, "sides exchanged", "moved on"]
    assert all(set(row) == {"left kidney", "right kidney"} for row in case.values())
    assert list(result["overlap"]) == ["left kidney / right kidney"]
    assert "| left kidney | " in (tmp_path / "prompts.md").read_text()
