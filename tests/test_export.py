"""nnU-Net's export finds our two names in a plan and writes what it would write without them."""

import numpy as np
import pytest
import torch
from nnunetv2.inference.export_prediction import (
    convert_predicted_logits_to_segmentation_with_correct_shape as export,
)
from nnunetv2.inference.export_prediction import resample_and_save
from nnunetv2.utilities.label_handling.label_handling import LabelManager
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from refsam3d_nnunet.label_manager import RefSAM3DLabelManager
from refsam3d_nnunet.resampling import refsam3d_resample_logits
from tests.random_logits import KINDS, make_logits


@pytest.fixture
def plans():
    """Function that makes the parts of a plan that matter to the export."""

    def _plans(function, label_manager, spacing=(2.0, 1.0, 1.0), **kwargs):
        return PlansManager(
            {
                "label_manager": label_manager,
                "transpose_forward": [1, 0, 2],
                "transpose_backward": [1, 0, 2],
                "configurations": {
                    "any": {
                        "spacing": list(spacing),
                        "patch_size": [8] * len(spacing),
                        "architecture": {},
                        "resampling_fn_probabilities": function,
                        "resampling_fn_probabilities_kwargs": kwargs,
                    }
                },
            }
        )

    return _plans


OURS = ("refsam3d_resample_logits", "RefSAM3DLabelManager")
THEIRS = ("resample_torch_fornnunet", "LabelManager")
NO_Z = {"is_seg": False, "force_separate_z": False, "memefficient_seg_resampling": False}


def test_nnunet_finds_both_names(plans):
    manager = plans(*OURS)

    assert (
        manager.get_configuration("any").resampling_fn_probabilities.func
        is refsam3d_resample_logits
    )
    assert manager.label_manager_class is RefSAM3DLabelManager
    assert plans(*THEIRS, **NO_Z).label_manager_class is LabelManager


@pytest.mark.parametrize("spacing", [(2.0, 1.0, 1.0), (1.5, 1.5)], ids=["3D", "2D"])
@KINDS
@pytest.mark.parametrize("probabilities", [False, True])
def test_exported_is_what_nnunet_exports(plans, spacing, labels, order, probabilities):
    depth = 5 if len(spacing) == 3 else 7
    logits = make_logits(depth, 8, 6, dtype=torch.float16)
    properties = {
        "spacing": [1.0, 1.0, 1.0],
        "shape_after_cropping_and_before_resampling": (7, 9, 10),
        "shape_before_cropping": (8, 12, 11),
        "bbox_used_for_cropping": [[1, 8], [2, 11], [0, 10]],
    }
    dataset = {"labels": labels, "regions_class_order": order}

    def exported(manager):
        return export(
            logits,
            manager,
            manager.get_configuration("any"),
            manager.get_label_manager(dataset),
            properties,
            return_probabilities=probabilities,
            num_threads_torch=1,
        )

    ours, theirs = exported(plans(*OURS, spacing)), exported(plans(*THEIRS, spacing, **NO_Z))

    if probabilities:
        np.testing.assert_allclose(ours[1], theirs[1], rtol=0, atol=1e-5)
        ours, theirs = ours[0], theirs[0]
    assert ours.shape == (12, 8, 11)
    assert ours.dtype == theirs.dtype
    assert (ours != theirs).mean() < 0.01


@KINDS
def test_the_next_stage_of_a_cascade_gets_what_nnunet_saves(plans, labels, order, tmp_path):
    logits = make_logits(5, 8, 6, dtype=torch.float16)
    saved = {}

    class Files:
        @staticmethod
        def save_seg(segmentation, output_file):
            saved[output_file] = segmentation

    for name, manager in (("ours", plans(*OURS)), ("theirs", plans(*THEIRS, **NO_Z))):
        resample_and_save(
            logits,
            [7, 9, 10],
            name,
            manager,
            manager.get_configuration("any"),
            {"spacing": [1.0] * 3, "shape_after_cropping_and_before_resampling": (7, 9, 10)},
            {"labels": labels, "regions_class_order": order},
            num_threads_torch=1,
            dataset_class=Files,
        )

    assert saved["ours"].dtype == saved["theirs"].dtype
    assert (saved["ours"] != saved["theirs"]).mean() < 0.01


@KINDS
@pytest.mark.parametrize("probabilities", [False, True])
def test_our_function_without_our_label_manager_is_refused(plans, labels, order, probabilities):
    manager = plans(OURS[0], THEIRS[1])
    logits = refsam3d_resample_logits(make_logits(3, 4, 5), (6, 8, 10), (2, 2, 2), (1, 1, 1))
    theirs = manager.get_label_manager({"labels": labels, "regions_class_order": order})
    convert = (
        theirs.apply_inference_nonlin if probabilities else (theirs.convert_logits_to_segmentation)
    )
    with pytest.raises((TypeError, RuntimeError), match="RefSAM3DLabelManager|DeferredLogits"):
        convert(logits)
    with pytest.raises(TypeError, match="must name 'RefSAM3DLabelManager'"):
        np.asarray(logits)
