"""RefSAM3DPlanner: patch, batch, tokens and encoder size from fingerprint and memory target."""

import json
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import (
    ExperimentPlanner,
)
from nnunetv2.paths import nnUNet_preprocessed

from refsam3d_nnunet.environment import read_settings
from refsam3d_nnunet.fit import plan_patch, smaller_batch
from refsam3d_nnunet.memory import Task
from refsam3d_nnunet.plans import (
    TEXT_BANK,
    architecture,
    network_config,
    new_block,
    same_network,
    task_of,
)
from refsam3d_nnunet.pretrained.load import hashes_of, settled
from refsam3d_nnunet.text.bank import embed
from refsam3d_nnunet.text.names import given_phrases
from refsam3d_nnunet.text.phrases import (
    background_of,
    phrase_bank,
    refuse_alike,
    training_phrases,
)


class RefSAM3DPlanner(ExperimentPlanner):
    """Plans RefSAM3D for a data set.

    nnU-Net's own planning of spacing, transposition, normalisation and resampling of images
    stays, so that the preprocessed data are those of nnUNetPlans and are shared with them. Patch,
    batch and architecture are planned by closed formulas; no network is built.

    Args:
        dataset_name_or_id: Data set, as nnU-Net names it.
        gpu_memory_target_in_gb: Memory of one training step, in GB.
        preprocessor_name: Class of the preprocessor.
        plans_name: Name of the plans file.
        overwrite_target_spacing: Spacing of 3d_fullres, in mm, instead of the planned one.
        suppress_transpose: Whether the axes keep their order.

    Raises:
        ValueError: If no patch fits the memory target, a label has no usable name, or the
            ``REFSAM3D_*`` variables are wrong.
        FileNotFoundError: If the named pretrained weights do not exist.
    """

    def __init__(
        self,
        dataset_name_or_id: str | int,
        gpu_memory_target_in_gb: float = 8,
        preprocessor_name: str = "DefaultPreprocessor",
        plans_name: str = "RefSAM3DPlans",
        overwrite_target_spacing: Sequence[float] | None = None,
        suppress_transpose: bool = False,
    ) -> None:
        super().__init__(
            dataset_name_or_id,
            gpu_memory_target_in_gb,
            preprocessor_name,
            plans_name,
            overwrite_target_spacing,
            suppress_transpose,
        )
        self.settings = settled(read_settings())
        self.classes = phrase_bank(self.dataset_json, self.settings.prompts_file)
        self.block = new_block(self.settings)
        channels = len(self.dataset_json.get("channel_names") or self.dataset_json["modality"])
        self.task = Task(
            channels,
            len(self.classes),
            self.block["tuning"],
            regions=background_of(self.classes) is None,
        )

    def get_plans_for_configuration(
        self,
        spacing: Sequence[float],
        median_shape: Sequence[float],
        data_identifier: str,
        approximate_n_voxels_dataset: float,
        _cache: dict,
    ) -> dict:
        """Plans one configuration; see nnU-Net's planner for arguments and keys."""
        median = [float(m) for m in median_shape[: len(spacing)]]
        fitted = plan_patch(
            spacing,
            median,
            preset=self.settings.preset,
            task=self.task,
            memory_gb=self.UNet_vram_target_GB,
            smallest_batch=self.UNet_min_batch_size,
        )
        most = round(
            approximate_n_voxels_dataset * self.max_dataset_covered / np.prod(fitted.patch_size)
        )
        data, data_kwargs, seg, seg_kwargs = self.determine_resampling()
        schemes, masks = self.determine_normalization_scheme_and_whether_mask_is_used_for_norm()
        return {
            "data_identifier": data_identifier,
            "preprocessor_name": self.preprocessor_name,
            "batch_size": max(min(fitted.batch_size, most), self.UNet_min_batch_size),
            "patch_size": list(fitted.patch_size),
            "median_image_size_in_voxels": median_shape,
            "spacing": spacing,
            "normalization_schemes": schemes,
            "use_mask_for_norm": masks,
            "resampling_fn_data": data.__name__,
            "resampling_fn_seg": seg.__name__,
            "resampling_fn_data_kwargs": data_kwargs,
            "resampling_fn_seg_kwargs": seg_kwargs,
            # What it returns only the label manager of save_plans understands.
            "resampling_fn_probabilities": "refsam3d_resample_logits",
            "resampling_fn_probabilities_kwargs": {},
            "architecture": architecture(
                fitted.config, decoder_checkpoint=self.block["decoder_checkpoint"]
            ),
        }

    def generate_data_identifier(self, configuration_name: str) -> str:
        """Shares nnUNetPlans' preprocessed data where they are the same to the voxel."""
        shared = (
            configuration_name in ("2d", "3d_fullres")
            and self.preprocessor_name == "DefaultPreprocessor"
            and self.overwrite_target_spacing is None
            and not self.suppress_transpose
        )
        name = "nnUNetPlans" if shared else self.plans_identifier
        return f"{name}_{configuration_name}"

    def _fit_cascade(self, configurations: dict) -> None:
        """Gives the cascade's second stage a batch that leaves room for the first one's labels."""
        if "3d_cascade_fullres" in configurations:
            cascade = configurations["3d_cascade_fullres"]
            stage = {**configurations["3d_fullres"], **cascade}
            task = task_of(stage, self.block["tuning"], self.classes)
            cascade["batch_size"] = smaller_batch(
                network_config(stage), task, stage["batch_size"], self.UNet_vram_target_GB
            )

    def _warn_of_replacing(self, configurations: dict) -> None:
        """Says so if a plan of the same name, with other patches or networks, is written over."""
        path = Path(nnUNet_preprocessed) / self.dataset_name / f"{self.plans_identifier}.json"
        if not path.is_file():
            return
        before = json.loads(path.read_text(encoding="utf-8"))["configurations"]
        keys = ("patch_size", "batch_size")
        changed = [
            name
            for name in configurations.keys() & before.keys()
            if any(configurations[name].get(key) != before[name].get(key) for key in keys)
            or not same_network(configurations[name], before[name])
        ]
        if changed:
            warnings.warn(
                f"{path} held another plan of {', '.join(sorted(changed))}, which is replaced. "
                f"To keep both, plan under a name of its own with -overwrite_plans_name.",
                stacklevel=2,
            )

    def save_plans(self, plans: dict) -> None:
        """Adds our block, encodes the prompts once, and writes the plan."""
        bank = Path(nnUNet_preprocessed) / self.dataset_name / TEXT_BANK
        phrases = training_phrases(self.classes)
        text = embed(phrases, encoder=self.block["text_encoder"], bank=bank)
        refuse_alike(self.classes, text.embedding.sentence, text.encoder_id)
        self.block["text_encoder"] = text.encoder_id
        given = given_phrases(self.dataset_json, self.settings.prompts_file)
        self.block["given_prompts"] = {"dataset": self.dataset_name, "prompts": given}
        files = self.block["checkpoint"], self.block["decoder_checkpoint"]
        self.block["weights_sha256"] = hashes_of(*files)
        plans["refsam3d"] = self.block
        plans["label_manager"] = "RefSAM3DLabelManager"
        self._fit_cascade(plans["configurations"])
        self._warn_of_replacing(plans["configurations"])
        super().save_plans(plans)
        print(  # noqa: T201 - as nnU-Net's planners do
            f"RefSAM3D: prompts {[one.canonical for one in self.classes]}, {len(phrases)} phrases "
            f"in all; text encoder {text.encoder_id}, embeddings in "
            f"{text.path}; tuning mode {self.block['tuning']}; "
            f"pretrained weights "
            f"{self.block['checkpoint'] or 'NONE, name some in REFSAM3D_CHECKPOINT'}"
        )
