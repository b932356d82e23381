"""Every configuration of a data set through nnU-Net's own commands.

The tests are in two files, one per planner, so that two processes share them.
"""

import json
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from tests.integration.conftest import LABELS, SHAPE, Workspace

CONFIGURATIONS = ("2d", "3d_fullres", "3d_lowres", "3d_cascade_fullres")
CASE = "case_5"


def add_lowres_and_cascade(plans: dict) -> None:
    """nnU-Net plans these only for images much larger than ours."""
    configurations = plans["configurations"]
    configurations["3d_lowres"] = {
        "inherits_from": "3d_fullres",
        "data_identifier": f"{plans['plans_name']}_3d_lowres",
        "spacing": [1.5 * s for s in configurations["3d_fullres"]["spacing"]],
        "next_stage": "3d_cascade_fullres",
    }
    configurations["3d_cascade_fullres"] = {
        "inherits_from": "3d_fullres",
        "previous_stage": "3d_lowres",
    }


def train_validate_predict(folder: Path, variant: str, planner: str) -> None:
    """Plans a tiny set and takes all four configurations from training to a prediction.

    Args:
        folder: Where to work, empty.
        variant: Kind of labels, a key of ``LABELS``.
        planner: Class of the planner.
    """
    space = Workspace(folder, variant)
    plans = "nnUNetPlans" if planner == "ExperimentPlanner" else "RefSAM3DPlans"
    option = "" if plans == "nnUNetPlans" else f"-p {plans}"  # nnU-Net's own plans need none
    space.run(
        "nnUNetv2_extract_fingerprint -d 901 -np 1",
        f"nnUNetv2_plan_experiment -d 901 -pl {planner}",
    )
    space.edit_plans(plans, add_lowres_and_cascade)
    # Fold "all", since a cascade needs the first stage's predictions of every case.
    images, outputs = space.raw / space.name / "imagesTs", folder / "predicted"
    commands = [
        f"nnUNetv2_preprocess -d 901 -plans_name {plans} -np 1 -c 2d 3d_fullres 3d_lowres --no_pbar"
    ]
    for configuration in CONFIGURATIONS:
        commands.append(
            f"nnUNetv2_train 901 {configuration} all -tr RefSAM3DTrainer {option} -device cpu"
        )
        previous = f" -prev_stage_predictions {outputs / '3d_lowres'}"
        commands.append(
            f"nnUNetv2_predict -d 901 -i {images} -o {outputs / configuration} -f all"
            f" -tr RefSAM3DTrainer {option} -c {configuration} -device cpu -npp 0 -nps 0"
            f"{previous if 'cascade' in configuration else ''}"
        )
    space.run(*commands)

    values = {v for value in LABELS[variant].values() for v in np.atleast_1d(value)}
    for configuration in CONFIGURATIONS:
        predicted = sitk.ReadImage(str(outputs / configuration / f"{CASE}.nii.gz"))
        assert sitk.GetArrayFromImage(predicted).shape == SHAPE
        assert set(np.unique(sitk.GetArrayFromImage(predicted))) <= values - {3}
        model = space.model(configuration, plans)
        record = json.loads((model / "fold_all" / "refsam3d_run.json").read_text())
        # All variants name a side: the last axis, left to right, is never mirrored.
        assert record["mirroring_axes"] == ([0] if configuration == "2d" else [0, 1])
        trained = json.loads((model / "plans.json").read_text())
        heads = [name for name in LABELS[variant] if name != "ignore"]
        if "regions" in variant:
            heads.remove("background")
        assert len(trained["refsam3d"]["class_prompts"]) == len(heads)
        network = PlansManager(trained).get_configuration(configuration).network_arch_class_name
        assert network.startswith("refsam3d_nnunet.")
        summary = json.loads((model / "fold_all" / "validation" / "summary.json").read_text())
        assert len(summary["metric_per_case"]) == 5
