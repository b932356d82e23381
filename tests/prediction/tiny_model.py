"""A model folder as nnU-Net's training leaves it, with a small network and random weights."""

import json
from pathlib import Path

import numpy as np
import torch

from refsam3d_nnunet.network.slim import backbone_tensors, slim_from_now_on
from refsam3d_nnunet.slim.backbone import backbone_content, file_name, write_backbone
from refsam3d_nnunet.text.phrases import phrase_bank
from tests.network.conftest import TEXT_DIM, TEXT_WORDS, random_text, tiny_config

FINAL = "checkpoint_final.pth"
NAME = "RefSAM3DTrainer__RefSAM3DPlans__3d_fullres"
LABELS = {"background": 0, "kidney_left": 1, "kidney_right": 2}
REGIONS = {"background": 0, "both_kidneys": [1, 2], "kidney_right": 2}
SEEDS = {"labels": 0, "regions": 20}  # whose networks show all of them
SPACING = (1.0, 1.0, 1.5)  # x, y, z
_CT = {"mean": 0, "std": 1, "median": 0, "min": -9, "max": 9}
_RESAMPLING = {"is_seg": False, "order": 1, "order_z": 0, "force_separate_z": None}


def write_model(
    root: Path,
    *,
    labels: dict | None = None,
    folds: tuple[int | str, ...] = (0,),
    channels: int = 1,
    slim: bool = False,
    seed: int = 0,
) -> Path:
    """Writes it below ``root`` and returns the model folder."""
    model = root / "Dataset901_Tiny" / NAME
    dataset, plans = _dataset(labels or LABELS, channels), _plans(channels)
    classes = phrase_bank(dataset)
    plans["refsam3d"] |= {
        "tuning": "adapter" if slim else "scratch",
        "family": "sam" if slim else None,
        "class_prompts": [one.canonical for one in classes],
        "classes": [one.to_json() for one in classes],
    }
    states = [_state(plans, dataset, seed + i) for i, _ in enumerate(folds)]
    model.mkdir(parents=True)
    if slim:
        states, entry = _slim(states, plans, dataset, model)
        plans["refsam3d"]["slim"] = entry
    for name, content in (("plans", plans), ("dataset", dataset), ("dataset_fingerprint", {})):
        (model / f"{name}.json").write_text(json.dumps(content))
    for fold, state in zip(folds, states, strict=True):
        (model / f"fold_{fold}" / "validation").mkdir(parents=True)
        (model / f"fold_{fold}" / "progress.png").write_bytes(b"png")
        torch.save(_checkpoint(state, plans), model / f"fold_{fold}" / FINAL)
    return model


def draw_image(channels: int = 1, seed: int = 0) -> list[np.ndarray]:
    """Noise with two boxes, z y x."""
    rng = np.random.default_rng(seed)
    image = rng.normal(0, 1, (channels, 9, 22, 26)).astype(np.float32)
    image[:, 2:6, 4:12, 3:10] += 4
    image[:, 4:8, 8:18, 15:23] -= 4
    return list(image)


def _state(plans: dict, dataset: dict, seed: int) -> dict[str, torch.Tensor]:
    torch.manual_seed(seed)
    network = _network(plans, dataset)
    for name, parameter in network.named_parameters():  # awake, so that it shows all labels
        if not parameter.any() or name.startswith("mask_decoder.hyper_networks"):
            torch.nn.init.normal_(parameter, std=0.2)
    total = sum(len(one["training"]) for one in plans["refsam3d"]["classes"])
    network.text.store(*random_text(total, seed))
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def _slim(
    states: list, plans: dict, dataset: dict, model: Path
) -> tuple[list[dict[str, torch.Tensor]], dict[str, str]]:
    """The same states beside one backbone, that of the first."""
    network, result = _network(plans, dataset), []
    for state in states:
        network.load_state_dict(states[0])
        names = set(backbone_tensors(network))
        content, sha256 = backbone_content(backbone_tensors(network))
        network.load_state_dict(state | {name: states[0][name] for name in names})
        slim_from_now_on(network, sha256)
        result.append({name: tensor.clone() for name, tensor in network.state_dict().items()})
        network = _network(plans, dataset)
    write_backbone(content, model)
    return result, {"backbone": file_name(sha256), "sha256": sha256}


def _network(plans: dict, dataset: dict) -> torch.nn.Module:
    # Inside, as importing nnU-Net warns.
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
    from refsam3d_nnunet.trainers.refsam3d_trainer import RefSAM3DTrainer

    manager = PlansManager(plans)
    configuration = manager.get_configuration("3d_fullres")
    return RefSAM3DTrainer.build_network_architecture(
        manager,
        configuration,
        len(dataset["channel_names"]),
        manager.get_label_manager(dataset).num_segmentation_heads,
        enable_deep_supervision=False,
    )


def _checkpoint(state: dict, plans: dict) -> dict:
    return {
        "network_weights": state,
        "optimizer_state": {"state": {0: torch.zeros(9)}, "param_groups": []},
        "grad_scaler_state": None,
        "logging": {"mean_fg_dice": [np.float64(0.5)]},
        "_best_ema": np.float64(0.25),
        "current_epoch": 1,
        "init_args": {
            "plans": plans,
            "configuration": "3d_fullres",
            "device": torch.device("cpu"),
        },
        "trainer_name": "RefSAM3DTrainer",
        "inference_allowed_mirroring_axes": (0, 1),
    }


def _dataset(labels: dict, channels: int) -> dict:
    dataset = {
        "channel_names": {str(i): f"CT {i}" for i in range(channels)},
        "labels": labels,
        "numTraining": 5,
        "file_ending": ".nii.gz",
    }
    if any(isinstance(value, list) for value in labels.values()):
        dataset["regions_class_order"] = [1, 2]
    return dataset


def _plans(channels: int) -> dict:
    configuration = {
        "data_identifier": "nnUNetPlans_3d_fullres",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "patch_size": [6, 20, 24],
        "median_image_size_in_voxels": [9, 22, 26],
        "spacing": [1.5, 1.0, 1.0],
        "normalization_schemes": ["ZScoreNormalization"] * channels,
        "use_mask_for_norm": [False] * channels,
        "resampling_fn_data": "resample_data_or_seg_to_shape",
        "resampling_fn_seg": "resample_data_or_seg_to_shape",
        "resampling_fn_data_kwargs": _RESAMPLING,
        "resampling_fn_seg_kwargs": {**_RESAMPLING, "is_seg": True},
        "resampling_fn_probabilities": "refsam3d_resample_logits",
        "resampling_fn_probabilities_kwargs": {},
        "architecture": {
            "network_class_name": "refsam3d_nnunet.network.refsam3d.RefSAM3D",
            # SEEDS were chosen for these parts; plans of before have them so.
            "arch_kwargs": tiny_config(
                residual_class_tokens=False,
                stem_tokens=False,
                stem_convolutions=1,
                decoder_convolutions=1,
            ).to_json(),
            "_kw_requires_import": [],
        },
        "batch_dice": False,
    }
    return {
        "dataset_name": "Dataset901_Tiny",
        "plans_name": "RefSAM3DPlans",
        "original_median_spacing_after_transp": [1.5, 1.0, 1.0],
        "original_median_shape_after_transp": [9, 22, 26],
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "configurations": {"3d_fullres": configuration},
        "experiment_planner_used": "RefSAM3DPlanner",
        "label_manager": "RefSAM3DLabelManager",
        "foreground_intensity_properties_per_channel": {str(i): _CT for i in range(channels)},
        "refsam3d": {
            "format": 1,
            "checkpoint": None,
            "decoder_checkpoint": None,
            "text_encoder": "minilm",
            "schedule": {},
            "text": {
                "encoder": "minilm",
                "weights_sha256": "0" * 64,
                "dim": TEXT_DIM,
                "words": TEXT_WORDS,
            },
            "orientations": {"LPS": 5},
        },
    }
