"""A plan as nnU-Net makes it, cut to the parts that matter, and what we make of it."""

from refsam3d_nnunet.environment import Settings
from refsam3d_nnunet.plans import complete_plans
from refsam3d_nnunet.text.phrases import ClassPhrases

CLASSES = [
    ClassPhrases("background", ("background",)),
    ClassPhrases("Liver", ("liver", "the liver")),
]


def default_plans() -> dict:
    """The parts of nnUNetPlans that matter here."""
    return {
        "configurations": {
            "3d_fullres": {
                "patch_size": [20, 56, 40],
                "spacing": [3.0, 1.0, 1.0],
                "batch_size": 2,
                "normalization_schemes": ["ZScoreNormalization"],
                "architecture": {"network_class_name": "somewhere.PlainConvUNet"},
            },
            "3d_cascade_fullres": {"inherits_from": "3d_fullres", "previous_stage": "3d_lowres"},
        }
    }


def completed(plans=None, settings=None, configuration="3d_fullres", classes=CLASSES) -> dict:
    plans = default_plans() if plans is None else plans
    complete_plans(plans, configuration, settings or Settings(), classes)
    return plans
