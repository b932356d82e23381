"""Each of nnU-Net's commands that a user of the trainer meets."""

import filecmp
import json
import shutil
from pathlib import Path

import pytest

from tests.integration.conftest import TRAIN, Workspace

pytestmark = pytest.mark.integration
MODEL = "-tr RefSAM3DTrainer -p RefSAM3DPlans -c 3d_fullres"
ON_CPU = "-device cpu -npp 0 -nps 0"


def predict(space: Workspace, out: Path, options: str = "") -> str:
    images = space.raw / space.name / "imagesTs"
    return f"nnUNetv2_predict -d 901 -i {images} -o {out} -f 0 {MODEL} {ON_CPU} {options}"


def same_predictions(one: Path, other: Path) -> bool:
    names = sorted(path.name for path in one.glob("*.nii.gz"))
    assert names
    return filecmp.cmpfiles(one, other, names, shallow=False)[0] == names


def test_what_was_chosen_is_printed_and_recorded(trained):
    record = json.loads((trained.model() / "fold_0" / "refsam3d_run.json").read_text())
    assert record["class_prompts"] == ["background", "left kidney", "right kidney"]
    assert record["tuning"] == "scratch"
    assert record["text"]["encoder"] == "minilm"
    assert record["schedule"]["num_epochs"] == 1
    assert record["mirroring_axes"] == [0, 1]
    assert "NO PRETRAINED WEIGHTS" in trained.log
    assert '"preset": "vit_t"' in trained.log
    assert list((trained.model() / "fold_0" / "validation").glob("*.npz"))


def test_preprocessed_data_are_shared_with_the_default_plans(planned):
    folder = planned.preprocessed / planned.name
    assert (folder / "nnUNetPlans_3d_fullres").is_dir()
    assert not list(folder.glob("RefSAM3DPlans_*"))


def test_checkpoint_holds_no_text_encoder(trained):
    import torch

    path = trained.model() / "fold_0" / "checkpoint_final.pth"
    weights = torch.load(path, weights_only=False)["network_weights"]
    assert weights["text.seg_layers.words"].any()
    assert sum(tensor.numel() for tensor in weights.values()) < 12e6  # MiniLM alone has 22e6


def test_validation_can_be_run_again(trained):
    summary = trained.model() / "fold_0" / "validation" / "summary.json"
    before = json.loads(summary.read_text())
    shutil.rmtree(summary.parent)
    trained.run(f"nnUNetv2_train 901 3d_fullres 0 {TRAIN} --val --npz")
    assert json.loads(summary.read_text())["mean"] == before["mean"]
    assert list(summary.parent.glob("*.npz"))


def test_exported_model_predicts_the_same_elsewhere(trained, tmp_path):
    archive, elsewhere = tmp_path / "model.zip", tmp_path / "results"
    elsewhere.mkdir()
    trained.run(
        predict(trained, tmp_path / "here"),
        f"nnUNetv2_export_model_to_zip -d 901 -o {archive} -f 0 {MODEL}",
    )
    trained.run(
        f"nnUNetv2_install_pretrained_model_from_zip {archive}",
        predict(trained, tmp_path / "there"),
        nnUNet_results=str(elsewhere),
        nnUNet_preprocessed=str(tmp_path / "nothing_here"),
    )
    assert (elsewhere / trained.name).is_dir()
    assert same_predictions(tmp_path / "here", tmp_path / "there")


def test_evaluation_ensemble_and_best_configuration(trained, tmp_path):
    model = trained.model()
    truth = trained.raw / trained.name / "labelsTr"
    validation = model / "fold_0" / "validation"
    predicted = tmp_path / "predicted"
    predicted.mkdir()
    for path in validation.glob("*.nii.gz"):
        shutil.copy(path, predicted)
    one, two = tmp_path / "one", tmp_path / "two"
    trained.run(
        f"nnUNetv2_evaluate_folder {truth} {predicted} -djfile {model}/dataset.json"
        f" -pfile {model}/plans.json -np 1 --chill",
        predict(trained, one, "--save_probabilities"),
        predict(trained, two, "--save_probabilities -step_size 0.7"),
        f"nnUNetv2_ensemble -i {one} {two} -o {tmp_path / 'both'} -np 1",
        "nnUNetv2_find_best_configuration 901 -tr RefSAM3DTrainer -p RefSAM3DPlans"
        " -c 3d_fullres -f 0 -np 1",
    )
    assert (predicted / "summary.json").is_file()
    assert (tmp_path / "both" / "case_5.nii.gz").is_file()
    best = json.loads((trained.results / trained.name / "inference_information.json").read_text())
    assert best["best_model_or_ensemble"]["selected_model_or_models"][0]["trainer"] == (
        "RefSAM3DTrainer"
    )


def test_pretrained_weights_of_another_fold(trained):
    weights = trained.model() / "fold_0" / "checkpoint_final.pth"
    out = trained.run(f"nnUNetv2_train 901 3d_fullres 1 {TRAIN} -pretrained_weights {weights}")
    record = json.loads((trained.model() / "fold_1" / "refsam3d_run.json").read_text())
    assert record["weights"]["from"] == "another training, by -pretrained_weights"
    assert "NO PRETRAINED WEIGHTS" not in out


def test_pretrained_weights_of_another_data_set(trained):
    other, plans = "Dataset902_Other", "RefSAM3DPlansOf901"
    shutil.copytree(trained.raw / trained.name, trained.raw / other)
    path = trained.raw / other / "dataset.json"
    labels = {"labels": {"background": 0, "spleen": 1, "large vessel": 2}}
    path.write_text(json.dumps(json.loads(path.read_text()) | labels))
    weights = trained.model() / "fold_0" / "checkpoint_final.pth"
    trained.run(
        "nnUNetv2_extract_fingerprint -d 902 -np 1",
        "nnUNetv2_plan_experiment -d 902 -pl RefSAM3DPlanner",
        f"nnUNetv2_move_plans_between_datasets -s 901 -t 902 -sp RefSAM3DPlans -tp {plans}",
        f"nnUNetv2_preprocess -d 902 -plans_name {plans} -c 3d_fullres -np 1",
        f"nnUNetv2_train 902 3d_fullres 0 -tr RefSAM3DTrainer -p {plans} -device cpu"
        f" -pretrained_weights {weights}",
    )
    model = trained.results / other / f"RefSAM3DTrainer__{plans}__3d_fullres"
    record = json.loads((model / "fold_0" / "refsam3d_run.json").read_text())
    assert record["weights"]["from"] == "another training, by -pretrained_weights"
    assert record["class_prompts"] == ["background", "spleen", "large vessel"]


def test_continued_training_goes_on_where_it_stopped(trained):
    trained.run(f"nnUNetv2_train 901 3d_fullres 2 {TRAIN}")
    out = trained.run(f"nnUNetv2_train 901 3d_fullres 2 {TRAIN} --c", REFSAM3D_NUM_EPOCHS="2")
    assert "Epoch 1" in out
    assert "Epoch 0" not in out
    record = json.loads((trained.model() / "fold_2" / "refsam3d_run.json").read_text())
    assert record["started_at_epoch"] == 1
    assert record["schedule_from_environment"]["num_epochs"] == 2


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"REFSAM3D_PRESET": "vit_q"}, "Unknown preset 'vit_q'"),
        ({"REFSAM3D_PRESET": "vit_s"}, "was made for 'vit_t'"),
        ({"REFSAM3D_CHECKPOINT": "/no/sam_vit_b.pth"}, "There are no weights '/no/sam_vit_b.pth'"),
        ({"REFSAM3D_TEXT_ENCODER": "/no/encoder"}, "/no/encoder"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_wrong_settings_end_a_training_before_it_starts(trained, variables, message):
    done = trained.try_run(f"nnUNetv2_train 901 3d_fullres 3 {TRAIN}", **variables)
    assert done.returncode != 0
    assert message in done.stderr
    assert not (trained.model() / "fold_3").exists()


def test_other_network_in_the_same_model_folder_is_refused(trained):
    trained.edit_plans(
        "RefSAM3DPlans",
        lambda plans: plans["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"].update(
            adapter_dim=24
        ),
    )
    done = trained.try_run(f"nnUNetv2_train 901 3d_fullres 3 {TRAIN}")
    assert "holds folds of another RefSAM3D model (adapter_dim: 48 there, 24 here)" in done.stderr


def test_memory_target_too_small_for_one_patch(planned):
    done = planned.try_run(
        "nnUNetv2_plan_experiment -d 901 -pl RefSAM3DPlanner -gpu_memory_target 0.1"
        " -overwrite_plans_name Small"
    )
    assert "A memory target of 0.1 GB is too small" in done.stderr
    assert not list((planned.preprocessed / planned.name).glob("Small*"))


def test_label_without_a_usable_name(planned):
    description = planned.raw / planned.name / "dataset.json"
    before = description.read_text()
    description.write_text(before.replace("kidney_left", "label_1"))
    done = planned.try_run(
        "nnUNetv2_plan_experiment -d 901 -pl RefSAM3DPlanner -overwrite_plans_name Nameless"
    )
    description.write_text(before)
    assert "label_1" in done.stderr
    assert "refsam3d" in done.stderr
