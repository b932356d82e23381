"""Model folders of networks that were never trained, for nnU-Net's predictor to load.

::

    python benchmarks/untrained.py -o OUT --network vit_s-scratch --patch 64 64 64 --prompts 3

writes OUT/plans.json, OUT/dataset.json and OUT/fold_0/checkpoint_final.pth, as nnU-Net's trainers
do. What such a model predicts is noise; what the prediction costs is that of a trained one.
"""

import argparse
from pathlib import Path
from typing import Any

import torch
from contenders import OURS, TEXT_DIM, WORDS, planned
from contest import Problem, extent
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from refsam3d_nnunet.trainers.refsam3d_trainer import RefSAM3DTrainer
from rivals import RESENC, UNET, unet_architecture
from torch import nn

from refsam3d_nnunet.files import replacing, write_json
from refsam3d_nnunet.plans import DEFAULT_SCHEDULE, FORMAT, architecture, text_shape
from refsam3d_nnunet.text.phrases import phrase_bank

CONFIGURATION = "3d_fullres"


def main() -> None:
    """Makes the model folder that the command line asks for."""
    args = _arguments()
    problem = Problem(extent(args.patch), prompts=args.prompts, spacing=(args.spacing,) * 3)
    make_model(args.network, problem, args.output)


def make_model(name: str, problem: Problem, folder: Path) -> None:
    """Writes the model folder of an untrained network.

    Args:
        name: One of contenders.OURS, UNET or RESENC.
        problem: Patch, classes and spacing.
        folder: Where to.
    """
    torch.manual_seed(0)
    dataset = {
        "channel_names": {"0": "CT"},
        "labels": {"background": 0, **{f"organ {i}": i for i in range(1, problem.prompts)}},
        "numTraining": 1,
        "file_ending": ".nii.gz",
    }
    plans = _plans(name, problem, dataset)
    trainer = RefSAM3DTrainer if name in OURS else nnUNetTrainer
    network = _network(trainer, plans, problem)
    (folder / "fold_0").mkdir(parents=True, exist_ok=True)
    write_json(folder / "dataset.json", dataset)
    write_json(folder / "plans.json", plans)
    checkpoint = {
        "network_weights": network.state_dict(),
        "trainer_name": trainer.__name__,
        "init_args": {"configuration": CONFIGURATION},
        "inference_allowed_mirroring_axes": (0, 1, 2),
    }
    with replacing(folder / "fold_0" / "checkpoint_final.pth") as temporary:
        torch.save(checkpoint, temporary)


def _network(trainer: type, plans: dict[str, Any], problem: Problem) -> nn.Module:
    manager = PlansManager(plans)
    network = trainer.build_network_architecture(
        manager,
        manager.get_configuration(CONFIGURATION),
        problem.channels,
        problem.prompts,
        enable_deep_supervision=False,
    )
    if trainer is RefSAM3DTrainer:
        phrases = sum(network.text.num_phrases)
        words = torch.randn(phrases, WORDS, TEXT_DIM)
        network.text.store(words, torch.ones(phrases, WORDS, dtype=torch.bool), words[:, 0])
    return network


def _plans(name: str, problem: Problem, dataset: dict[str, Any]) -> dict[str, Any]:
    numbers = ("mean", "median", "std", "min", "max", "percentile_00_5", "percentile_99_5")
    plans: dict[str, Any] = {
        "dataset_name": "Dataset999_Untrained",
        "plans_name": "Untrained",
        "original_median_spacing_after_transp": list(problem.spacing),
        "original_median_shape_after_transp": list(problem.patch),
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {
            "0": dict(zip(numbers, (0.0, 0.0, 1.0, -4.0, 4.0, -3.0, 3.0), strict=True))
        },
    }
    if name in OURS:
        plans["refsam3d"] = _block(name, dataset)
        plans["label_manager"] = "RefSAM3DLabelManager"
    plans["configurations"] = {CONFIGURATION: _configuration(name, problem)}
    return plans


def _block(name: str, dataset: dict[str, Any]) -> dict[str, Any]:
    classes = phrase_bank(dataset)
    block = {
        "format": FORMAT,
        "tuning": name.split("-")[1],
        "checkpoint": None,
        "text_encoder": "random numbers",
        "schedule": DEFAULT_SCHEDULE,
        "class_prompts": [one.canonical for one in classes],
        "classes": [one.to_json() for one in classes],
        "text": {"encoder": "random numbers", "dim": TEXT_DIM, "words": WORDS},
    }
    text_shape(block)  # refuses what the trainer would not read
    return block


def _configuration(name: str, problem: Problem) -> dict[str, Any]:
    resampling = {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None}
    common = {
        "data_identifier": "Untrained",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": problem.batch,
        "patch_size": list(problem.patch),
        "median_image_size_in_voxels": list(problem.patch),
        "spacing": list(problem.spacing),
        "normalization_schemes": ["CTNormalization"],
        "use_mask_for_norm": [False],
        "resampling_fn_data": "resample_data_or_seg_to_shape",
        "resampling_fn_data_kwargs": resampling,
        "resampling_fn_seg": "resample_data_or_seg_to_shape",
        "resampling_fn_seg_kwargs": {**resampling, "is_seg": True, "order": 1},
        "batch_dice": False,
    }
    if name not in OURS:
        return {
            **common,
            "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
            "resampling_fn_probabilities_kwargs": {**resampling, "order": 1},
            "architecture": unet_architecture(name, problem),
        }
    config = planned(name, problem)
    return {
        **common,
        "resampling_fn_probabilities": "refsam3d_resample_logits",  # as RefSAM3DPlanner plans
        "resampling_fn_probabilities_kwargs": {},
        "architecture": architecture(config),
    }


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add("-o", dest="output", type=Path, required=True, metavar="OUT")
    add("--network", required=True, choices=[*OURS, UNET, RESENC], metavar="NAME")
    add("--patch", type=int, nargs=3, default=[64, 64, 64])
    add("--prompts", type=int, default=3)
    add("--spacing", type=float, default=1.0)
    return parser.parse_args()


if __name__ == "__main__":
    main()
