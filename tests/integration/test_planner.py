"""Plans for fingerprints of many shapes; no image is read and no network built."""

import json

import numpy as np
import pytest
import SimpleITK as sitk

from refsam3d_nnunet.design import MOST_TOKENS

pytestmark = pytest.mark.integration
ORGANS = {"background": 0, "liver": 1, "left kidney": 2}


@pytest.fixture
def plan(tmp_path, monkeypatch):
    """Plans a data set of three equal cases and returns the content of the plans file."""
    for name in ("raw", "preprocessed", "results"):
        (tmp_path / name).mkdir()
        monkeypatch.setenv(f"nnUNet_{name}", str(tmp_path / name))
    from refsam3d_nnunet.planners import memory_presets
    from refsam3d_nnunet.planners.refsam3d_planner import RefSAM3DPlanner

    def _plan(
        shape, spacing, *, labels=ORGANS, description=None, memory_preset="", **options
    ) -> dict:
        raw, preprocessed = (tmp_path / n / "Dataset001_Any" for n in ("raw", "preprocessed"))
        for folder in (raw / "imagesTr", raw / "labelsTr", preprocessed):
            folder.mkdir(parents=True, exist_ok=True)
        description = description or {"channel_names": {"0": "CT"}}
        channels = len(description.get("channel_names") or description["modality"])
        voxel = sitk.GetImageFromArray(np.zeros((1, 1, 1), np.float32))
        for name in [f"imagesTr/a_{c:04d}" for c in range(channels)] + ["labelsTr/a"]:
            sitk.WriteImage(voxel, str(raw / f"{name}.nii.gz"))
        description |= {"labels": labels, "numTraining": 100, "file_ending": ".nii.gz"}
        (raw / "dataset.json").write_text(json.dumps(description))
        statistics = dict.fromkeys(
            ("max", "mean", "median", "min", "percentile_00_5", "percentile_99_5", "std"), 1.0
        )
        fingerprint = {
            "shapes_after_crop": [shape] * 3,
            "spacings": [spacing] * 3,
            "median_relative_size_after_cropping": 1.0,
            "foreground_intensity_properties_per_channel": {
                str(c): statistics for c in range(channels)
            },
        }
        (preprocessed / "dataset_fingerprint.json").write_text(json.dumps(fingerprint))
        name = f"RefSAM3DPlanner{memory_preset}"
        planner = getattr(memory_presets, name) if memory_preset else RefSAM3DPlanner
        planner(1, **options).plan_experiment()
        name = options.get("plans_name", f"RefSAM3DPlans{memory_preset}")
        return json.loads((preprocessed / f"{name}.json").read_text())

    return _plan


def network(plans: dict, configuration: str = "3d_fullres") -> dict:
    return plans["configurations"][configuration]["architecture"]["arch_kwargs"]


def test_a_large_ct_gets_fine_tokens_and_a_cascade(plan):
    plans = plan([600, 512, 512], [1.0, 0.8, 0.8])
    configurations = plans["configurations"]
    assert set(configurations) == {"2d", "3d_fullres", "3d_lowres", "3d_cascade_fullres"}
    assert network(plans)["token_size"] == [8, 8, 8]
    patch = configurations["3d_fullres"]["patch_size"]
    assert 0.8 * 128**3 < np.prod(patch) < 1.3 * 128**3
    tokens = np.prod([p / t for p, t in zip(patch, network(plans)["token_size"], strict=True)])
    assert tokens <= MOST_TOKENS["vit_s"]
    assert configurations["3d_fullres"]["data_identifier"] == "nnUNetPlans_3d_fullres"
    assert configurations["3d_lowres"]["data_identifier"] == "RefSAM3DPlans_3d_lowres"


def test_more_memory_means_a_larger_batch(plan, tmp_path):
    small = plan([600, 512, 512], [1.0, 0.8, 0.8], gpu_memory_target_in_gb=3.0)
    small_stage = small["configurations"]["3d_fullres"]
    assert small_stage["batch_size"] == 2
    assert np.prod(small_stage["patch_size"]) < 128**3


def test_slices_stored_last_are_transposed_and_thick_ones_get_flat_tokens(plan):
    plans = plan([300, 320, 40], [0.8, 0.8, 5.0])
    assert plans["transpose_forward"] == [2, 0, 1]
    depth, height, width = network(plans)["token_size"]
    assert depth * 4 <= height == width


def test_a_pure_2d_set_has_a_2d_plan_alone(plan):
    plans = plan([1, 700, 600], [999.0, 1.0, 1.0])
    assert list(plans["configurations"]) == ["2d"]
    assert network(plans, "2d")["token_size"][0] == 1


def test_data_with_another_spacing_are_not_shared(plan):
    plans = plan([120, 300, 320], [2.0, 0.8, 0.8], overwrite_target_spacing=[3.0, 1.0, 1.0])
    identifier = plans["configurations"]["3d_fullres"]["data_identifier"]
    assert identifier == "RefSAM3DPlans_3d_fullres"


def test_old_descriptions_and_two_channels(plan):
    plans = plan([60, 300, 320], [5.0, 0.8, 0.8], description={"modality": {"0": "T2", "1": "ADC"}})
    assert len(plans["configurations"]["3d_fullres"]["normalization_schemes"]) == 2


def test_a_cascade_leaves_room_for_the_labels_of_its_first_stage(plan):
    labels = {"background": 0} | {f"organ {chr(97 + i)}": i + 1 for i in range(25)}
    plans = plan([400, 400, 400], [1.0, 1.0, 1.0], labels=labels, gpu_memory_target_in_gb=30.0)
    stages = plans["configurations"]
    assert stages["3d_cascade_fullres"]["batch_size"] < stages["3d_fullres"]["batch_size"]


LARGE = ([600, 512, 512], [1.0, 0.8, 0.8])


def test_presets_of_memory_plan_more_and_more(plan):
    planned = [plan(*LARGE, memory_preset=size) for size in ("", "M", "L", "XL")]
    stages = [plans["configurations"]["3d_fullres"] for plans in planned]
    voxels = [np.prod(stage["patch_size"]) for stage in stages]
    assert voxels[0] == voxels[1] < voxels[2] == voxels[3]
    samples = [stage["batch_size"] * v for stage, v in zip(stages, voxels, strict=True)]
    assert samples == sorted(set(samples))
    assert [network(plans)["token_size"] for plans in planned] == [[8, 8, 8]] * 4
    assert {stage["data_identifier"] for stage in stages} == {"nnUNetPlans_3d_fullres"}
    lowres = planned[2]["configurations"]["3d_lowres"]
    assert lowres["data_identifier"] == "RefSAM3DPlansL_3d_lowres"
    assert [plans["experiment_planner_used"][15:] for plans in planned] == ["", "M", "L", "XL"]


def test_the_memory_asked_for_wins_over_the_preset(plan):
    plan(*LARGE, memory_preset="M", gpu_memory_target_in_gb=9.9)  # the preset's own: no warning
    with pytest.warns(UserWarning, match="PlannerL plans for 21.6 GB, and 12 GB"):
        less = plan(*LARGE, memory_preset="L", gpu_memory_target_in_gb=12)
    named = plan(
        *LARGE, memory_preset="L", gpu_memory_target_in_gb=12.0, plans_name="RefSAM3DPlans12G"
    )
    usual = plan(*LARGE, gpu_memory_target_in_gb=12, plans_name="Other")
    for plans in (less, named):
        assert plans["configurations"]["3d_fullres"] == usual["configurations"]["3d_fullres"]


def test_a_plan_that_replaces_another_one_says_so(plan):
    plan(*LARGE)
    plan(*LARGE)  # the same again: no warning
    message = "RefSAM3DPlans.json held another plan of 2d, .*3d_fullres.*-overwrite_plans_name"
    with pytest.warns(UserWarning, match=message):
        plan(*LARGE, gpu_memory_target_in_gb=5)


def test_little_memory_gets_the_small_encoder(plan, monkeypatch):
    plans = plan(*LARGE, gpu_memory_target_in_gb=1)
    assert {network(plans, name)["preset"] for name in ("2d", "3d_fullres")} == {"vit_t"}
    monkeypatch.setenv("REFSAM3D_PRESET", "vit_s")
    with pytest.raises(ValueError, match="memory target of 1 GB is too small for vit_s"):
        plan(*LARGE, gpu_memory_target_in_gb=1)


def test_nnunets_commands_know_the_presets(planned):
    """Planned by name, trained on the data that RefSAM3DPlans left."""
    plan = "nnUNetv2_plan_experiment -d 901 -pl RefSAM3DPlannerL"
    train = "nnUNetv2_train 901 3d_fullres 0 -tr RefSAM3DTrainer -p RefSAM3DPlansL -device cpu"
    planned.run(plan, train)
    assert (planned.model(plans="RefSAM3DPlansL") / "fold_0" / "checkpoint_final.pth").is_file()
    assert not list((planned.preprocessed / planned.name).glob("RefSAM3DPlansL_*"))
    again = planned.try_run(f"{plan} -gpu_memory_target 12")
    assert again.returncode == 0
    assert "RefSAM3DPlannerL plans for 21.6 GB, and 12 GB are asked for" in again.stderr
