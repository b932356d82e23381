"""Probabilities are kept, and nnU-Net is given the pairs of models to ensemble."""

import json
import os
import shutil
from pathlib import Path

import pytest

from refsam3d_nnunet.crossval import ensembles

TWO = "--trainers nnUNetTrainer Other --folds 0-1"
MODELS = ["nnUNetTrainer__nnUNetPlans__3d_fullres", "Other__nnUNetPlans__3d_fullres"]
ENSEMBLE = "___".join(["ensemble", *MODELS, "0_1"])


@pytest.fixture
def found(study, monkeypatch):
    """The calls of nnU-Net's function; a stand-in answers, and leaves the files it would."""
    pytest.importorskip("nnunetv2")
    from nnunetv2.evaluation import find_best_configuration as module

    calls = []

    def accumulate(_dataset, folds, _configuration, _logs, _display):
        merged = folds[0].model / "merged"
        merged.mkdir(exist_ok=True)
        if not (merged / "summary.json").is_file():
            (merged / "summary.json").touch()
        return merged

    def find_best_configuration(dataset, models, **options):
        if study.failing:
            raise RuntimeError("no .npz files found")
        print("***All results:***")
        calls.append((dataset, [tuple(model.values()) for model in models], options))
        names = ["__".join((m["trainer"], m["plans"], m["configuration"])) for m in models]
        folds = "_".join(map(str, options["folds"]))
        ensemble = "___".join(["ensemble", *names[:2], folds])
        folder = study.results / "ensembles" / ensemble
        study.kept = (folder / "old.nii.gz").is_file()
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "old.nii.gz").touch()
        (folder / "summary.json").touch()
        results = dict(zip(names, (0.7, 0.75, 0.1), strict=False)) | {ensemble: 0.8}
        information = {
            "folds": options["folds"],
            "considered_models": models,
            "all_results": results,
        }
        (study.results / "inference_information.json").write_text(json.dumps(information))
        return information

    study.failing = False
    monkeypatch.setattr(ensembles, "accumulate", accumulate)
    monkeypatch.setattr(module, "find_best_configuration", find_best_configuration)
    return calls


def test_a_validation_without_probabilities_is_repeated(study):
    assert study.run() == 0
    assert study.run("--npz") == 0
    assert study.calls(0) == ["cpu", "--val"]
    assert study.run("--npz") == 0
    assert study.output.count("is done already") == 2
    calls = (study.model() / "fold_0" / "calls.txt").read_text().splitlines()
    assert ["--npz" in call for call in calls] == [False, True]


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_the_best_is_found_once(study, found):
    assert study.run(f"{TWO} --ensemble -np 3") == 0
    pair = [(plans, "3d_fullres", tr) for tr, plans in (m.split("__")[:2] for m in MODELS)]
    options = {"allow_ensembling": True, "num_processes": 3, "overwrite": False, "folds": [0, 1]}
    assert found == [("Dataset902_Nothing", pair, options)]
    for line in (
        "by the validation cases of 2 of 5 folds",
        f"Best model: {MODELS[1]}, Dice 0.7500",
        f"Best ensemble: {MODELS[0]} + {MODELS[1]}, Dice 0.8000",
        f"How to predict with nnU-Net's choice: {study.results / 'inference_instructions.txt'}",
    ):
        assert f"{line}" in study.output
    assert "***All results:***" in (study.out / "jobs" / "ensemble.log").read_text()
    assert "***" not in study.output
    content = json.loads((study.out / "crossval.json").read_text())
    assert content["ensembles"][ENSEMBLE] == 0.8

    assert study.run(f"{TWO} --ensemble") == 0
    assert len(found) == 1
    assert "Best ensemble" in study.output


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_ensembles_of_older_trainings_are_made_again(study, found):
    assert study.run(f"{TWO} --ensemble") == 0
    later = (study.results / "inference_information.json").stat().st_mtime + 9
    os.utime(study.results / MODELS[0] / "merged" / "summary.json", (later, later))
    assert study.run(f"{TWO} --ensemble") == 0
    assert (len(found), study.kept) == (2, False)
    study.failing = True
    with pytest.raises(ValueError, match="nnU-Net's find_best_configuration failed: no .npz .*log"):
        study.run(f"{TWO} --ensemble")


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_with_a_model_that_is_done(study, found):
    """One of another configuration, say."""
    other = "nnUNetTrainer:nnUNetPlans:2d"
    with pytest.raises(ValueError, match=r"fold 0, 1 in \S+2d is not trained .* -c 2d .* --npz`"):
        study.run(f"--ensemble-with {other}")
    assert not study.model().exists()
    assert study.run("--npz") == 0
    shutil.copytree(study.model(), Path(str(study.model()).replace("3d_fullres", "2d")))
    assert study.run(f"--ensemble-with {other}") == 0
    ((_, models, _),) = found
    assert [configuration for _, configuration, _ in models] == ["3d_fullres", "2d"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("--ensemble", "--ensemble needs two models or more: name more --trainers, or"),
        ("--ensemble-with A:B", "--ensemble-with 'A:B' is not TRAINER:PLANS:CONFIGURATION"),
        ("--ensemble-with A:B:C:D", "'A:B:C:D' is not TRAINER:PLANS:CONFIGURATION"),
        ("--ensemble-with A:B:", "'A:B:' is not TRAINER:PLANS:CONFIGURATION"),
    ],
)
def test_refused_before_training(study, text, message):
    with pytest.raises(ValueError, match=message):
        study.run(text)
    assert not study.model().exists()
