"""What a user can get wrong is told in a sentence, before anything is trained."""

import json
import os

import pytest

from refsam3d_nnunet.cli import main
from refsam3d_nnunet.crossval import dataset, run
from refsam3d_nnunet.crossval.folds import Method
from tests.crossval.conftest import NAME


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("--folds 0-9", "--folds asks for 5, 6, 7, 8, 9, but splits_final.json has 5: 0 to 4"),
        ("--folds x", "--folds x: 'x' is no fold; give 0-4 or 0 2 3"),
        ("--trainers ../x", "is not TRAINER or TRAINER:PLANS"),
        ("-c 3d_lowers", r"-c '3d_lowers' is not in .*nnUNetPlans.json; it has 3d_fullres, 2d"),
        ("--trainers nnUNetTrainer:Mine", "no planner is known to make them; run nnUNetv2_plan"),
        ("--baseline Other", "--baseline Other is none of --trainers"),
        ("--parallel 0", "--parallel must be 1 or more, got 0"),
        ("--retries -1", "--retries must be 0 or more, got -1"),
        ("-num_gpus 2", "-num_gpus 2 needs -device cuda, got cpu"),
        ("--partition short", "--partition is for --executor slurm"),
        ("--executor slurm", "--executor slurm needs --time MIN"),
        ("--memory 8", "--memory is for --executor slurm"),
    ],
)
def test_arguments(study, text, message):
    with pytest.raises(ValueError, match=message):
        study.run(text)
    assert not study.model().exists()


def test_slurm_without_slurm(study, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ValueError, match="--executor slurm needs sbatch, srun, squeue, not found"):
        study.run("--executor slurm --time 60")


@pytest.mark.parametrize("name", ["903", "Dataset903_Gone", "liver"])
def test_unknown_data_set(study, name):
    arguments = study.arguments()
    arguments.dataset = name
    with pytest.raises(ValueError, match=rf"there is no .*{name}"):
        run.run(arguments)


@pytest.mark.parametrize("number", ["902", "0902"])
def test_a_data_set_by_number(study, number):
    assert dataset.find_dataset(number).name == NAME


def test_folders_of_nnunet_not_set(study, monkeypatch):
    monkeypatch.delenv("nnUNet_results")
    with pytest.raises(ValueError, match="nnUNet_results not set"):
        study.run()


def test_folds_before_there_are_splits(study):
    (study.preprocessed / "splits_final.json").unlink()
    with pytest.raises(ValueError, match="--folds asks for 5, but nnU-Net makes 5: 0 to 4"):
        study.run("--folds 5")


def test_damaged_splits(study):
    (study.preprocessed / "splits_final.json").write_text("[{")
    with pytest.raises(ValueError, match=r"splits_final.json is damaged"):
        study.run()


def test_output_that_is_a_file(study):
    (study.root / "file").touch()
    with pytest.raises(OSError, match="file cannot be used: .*; choose another folder"):
        study.run(f"-o {study.root / 'file'}")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_output_that_may_not_be_written(study):
    (study.root / "closed").mkdir(mode=0o500)
    with pytest.raises(OSError, match="no permission to write"):
        study.run(f"-o {study.root / 'closed'}")


def test_output_below_a_file_system_that_takes_nothing(study):
    with pytest.raises(OSError, match="/proc/x cannot be used"):
        study.run("-o /proc/x")


def test_output_of_another_data_set(study):
    study.out.mkdir()
    other = {"dataset": "Dataset001_Other", "configuration": "2d", "methods": []}
    (study.out / "crossval.json").write_text(json.dumps(other))
    with pytest.raises(ValueError, match="holds a cross-validation of Dataset001_Other 2d, not of"):
        study.run()


def test_the_command_tells_it_in_one_line(study, capsys):
    assert main(["crossval", NAME, "--folds", "7", "-device", "cpu"]) == 2
    error = capsys.readouterr().err
    assert error == ("refsam3d: error: --folds asks for 7, but splits_final.json has 5: 0 to 4\n")


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_unknown_trainer():
    dataset.check_trainers([Method("nnUNetTrainer", "nnUNetPlans")])
    with pytest.raises(ValueError, match="nnU-Net finds no trainer 'nnUNetTrianer'; check"):
        dataset.check_trainers([Method("nnUNetTrianer", "nnUNetPlans")])


def test_a_package_that_is_missing(study, monkeypatch):
    monkeypatch.setattr(run, "find_spec", lambda name: None if name == "statsmodels" else name)
    with pytest.raises(OSError, match=r"needs statsmodels, .* 'refsam3d_nnunet\[crossval\]'"):
        study.run()


def test_no_gpu(study, monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(ValueError, match="torch sees 0 GPUs; give -device cpu"):
        study.run("-device cuda")
