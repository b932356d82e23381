"""RefSAM3D beside nnU-Net: what makes the comparison fair."""

import json

import pytest
import torch

from refsam3d_nnunet.config import NetworkConfig
from refsam3d_nnunet.design import design_network
from refsam3d_nnunet.plans import architecture

# nnU-Net's and its dependencies', when they are first imported
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

LABELS = {"background": 0, "kidney_left": 1, "kidney_right": 2}


@pytest.fixture(scope="module")
def plans(load_benchmark):
    return load_benchmark("accuracy_plans")


@pytest.fixture
def dataset(tmp_path, monkeypatch):
    """As much of a data set as nnU-Net's planner reads."""
    name = "Dataset901_Tiny"
    for variable in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        (tmp_path / variable / name).mkdir(parents=True)
        monkeypatch.setenv(variable, str(tmp_path / variable))
    raw = tmp_path / "nnUNet_raw" / name
    (raw / "imagesTr").mkdir()
    described = {"channel_names": {"0": "CT"}, "labels": LABELS, "numTraining": 0}
    (raw / "dataset.json").write_text(json.dumps(described | {"file_ending": ".nii.gz"}))
    fingerprint = tmp_path / "nnUNet_preprocessed" / name / "dataset_fingerprint.json"
    fingerprint.write_text(json.dumps({"median_relative_size_after_cropping": 1.0}))
    return name


def _base(patch, spacing=(1.0, 1.0, 1.0)):
    """A plan of RefSAM3DPlanner, as far as it matters here."""
    configuration = {
        "data_identifier": "nnUNetPlans_3d_fullres",
        "batch_size": 3,
        "patch_size": list(patch),
        "spacing": list(spacing),
        "architecture": architecture(design_network(patch, spacing, "vit_t")),
    }
    return {
        "plans_name": "Base",
        "configurations": {"2d": {}, "3d_fullres": configuration},
        "refsam3d": {"format": 1, "tuning": "scratch"},
    }


@pytest.mark.parametrize(
    ("wanted", "spacing", "common", "strides"),
    [
        # nnU-Net's own plan for the hippocampus
        ((40, 56, 40), (1, 1, 1), [40, 56, 40], [[1, 1, 1], *3 * [[2, 2, 2]]]),
        # three poolings do not divide 36
        ((36, 56, 40), (1, 1, 1), [40, 56, 40], [[1, 1, 1], *3 * [[2, 2, 2]]]),
        # the first axis is pooled where its voxels are about as long as the others
        (
            (12, 64, 64),
            (4, 1, 1),
            [12, 64, 64],
            [[1, 1, 1], [1, 2, 2], [1, 2, 2], [2, 2, 2], [1, 2, 2]],
        ),
    ],
)
def test_all_methods_have_one_patch_and_batch(plans, dataset, wanted, spacing, common, strides):
    unet, patch = plans.unet_architecture(dataset, spacing, wanted)
    assert patch == common
    assert unet["arch_kwargs"]["strides"] == strides
    features = unet["arch_kwargs"]["features_per_stage"]
    assert features == [32, 64, 128, 256, 320][: len(strides)]
    base = _base(wanted, spacing)
    before = json.dumps(base)
    ours, theirs = plans.plans_of_both(base, unet, patch)
    assert json.dumps(base) == before
    configurations = [plan["configurations"]["3d_fullres"] for plan in (ours, theirs)]
    networks = [one.pop("architecture") for one in configurations]
    assert configurations[0] == configurations[1]
    assert configurations[0]["patch_size"] == common
    assert configurations[0]["batch_size"] == 3
    assert configurations[0]["data_identifier"] == "nnUNetPlans_3d_fullres"
    assert networks[1] == unet
    assert NetworkConfig.from_json(networks[0]["arch_kwargs"]).patch_size == tuple(common)
    assert "refsam3d" in ours
    assert "refsam3d" not in theirs
    json.dumps(theirs)


def test_the_unet_takes_the_common_patch(plans, dataset):
    from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

    unet, patch = plans.unet_architecture(dataset, (1, 1, 1), (12, 16, 10))
    names = [unet[key] for key in ("network_class_name", "arch_kwargs", "_kw_requires_import")]
    network = get_network_from_plans(*names, 1, 3, deep_supervision=False)
    assert network(torch.zeros(1, 1, *patch)).shape == (1, 3, *patch)


def test_budgets(plans):
    speeds = {"refsam3d": 2.0, "nnunet": 3.0}
    equal, timed = plans.parse_budget("steps:400"), plans.parse_budget("seconds:1801")
    assert (equal.name, timed.text) == ("steps400", "seconds:1801")
    assert equal.steps(speeds) == {"refsam3d": 400, "nnunet": 400}
    assert timed.steps(speeds) == {"refsam3d": 900, "nnunet": 600}
    with pytest.raises(ValueError, match="seconds:2 is shorter than one step of nnunet"):
        plans.parse_budget("seconds:2").steps(speeds)


@pytest.mark.parametrize("text", ["steps", "steps:0", "minutes:3", "steps:1.5", "seconds:-4"])
def test_a_budget_that_is_none(plans, text):
    with pytest.raises(ValueError, match="neither steps:NUMBER nor seconds:NUMBER"):
        plans.parse_budget(text)


def test_schedules_take_up_nearly_all_steps(plans):
    assert plans.schedule_of(400) == (20, 20)
    assert plans.schedule_of(264) == (22, 12)
    assert plans.schedule_of(1) == (1, 1)
    assert plans.schedule_of(17) == (17, 1)
    for steps in range(1, 2000):
        epochs, iterations = plans.schedule_of(steps)
        assert 0.94 * steps <= epochs * iterations <= steps or steps < 100
        assert min(16, steps) <= epochs <= 24


def test_a_baseline_that_would_repeat_another_is_left_out(plans):
    methods = list(plans.TRAINERS)
    assert plans.methods_for(methods, {"labels": LABELS}) == methods
    plain = {"labels": {"background": 0, "liver": 1}}
    assert plans.methods_for(methods, plain) == methods[:3]
    assert plans.methods_for([plans.SIDES], plain) == [plans.SIDES]


def test_the_first_seed_of_everything_comes_first(load_benchmark, plans):
    accuracy = load_benchmark("accuracy")
    budgets = [plans.parse_budget(text) for text in ("steps:4", "seconds:9")]
    runs = list(accuracy.in_order({"A": ["x", "y"], "B": ["x"]}, budgets, 2, 2))
    assert [run.seed for run in runs] == 2 * [*6 * [0], *6 * [1]]
    assert [run.fold for run in runs] == [*12 * [0], *12 * [1]]
    assert [run.dataset + run.method for run in runs[:3]] == ["Ax", "Ay", "Bx"]
    assert len({(run.dataset, run.method, run.plans, run.fold) for run in runs}) == len(runs)
    assert len({run.title for run in runs}) == len(runs)
    assert accuracy.plans_name("nnunet", "p") == accuracy.plans_name("nnunet_adamw", "p")
    assert accuracy.plans_name("refsam3d", "p") != accuracy.plans_name("nnunet", "p")
