"""nnU-Net's trainer as a baseline: its own recipe, and its network with RefSAM3D's recipe.

nnU-Net finds them with ``nnUNet_extTrainer`` set to this file's folder.
"""

from pathlib import Path

import torch
from batchgenerators.utilities.file_and_folder_operations import load_pickle
from nnunet_short import nnUNetTrainerShort
from refsam3d_nnunet.trainers.refsam3d_trainer import GEOMETRIES
from seeded import Seeded

from refsam3d_nnunet.optim import WarmupPolyLR, adamw
from refsam3d_nnunet.orientation import axes_that_keep_sides, geometries
from refsam3d_nnunet.plans import DEFAULT_SCHEDULE
from refsam3d_nnunet.text.names import mentions_side
from refsam3d_nnunet.text.phrases import phrase_bank


class nnUNetTrainerSeeded(Seeded, nnUNetTrainerShort):  # noqa: N801 - nnU-Net's way to name
    """nnU-Net's own trainer, SGD and polynomial decay, with a short schedule and seeds."""


class nnUNetTrainerAdamW(nnUNetTrainerSeeded):  # noqa: N801 - nnU-Net's way to name trainers
    """nnU-Net's U-Net with RefSAM3DTrainer's optimiser and schedule, and the same constants."""

    def configure_optimizers(self) -> tuple[torch.optim.Optimizer, WarmupPolyLR]:
        """AdamW with warm-up and polynomial decay."""
        self.initial_lr = DEFAULT_SCHEDULE["initial_lr"]
        self.weight_decay = DEFAULT_SCHEDULE["weight_decay"]
        optimizer = adamw(self.network, lr=self.initial_lr, weight_decay=self.weight_decay)
        schedule = WarmupPolyLR(
            optimizer,
            initial_lr=self.initial_lr,
            num_epochs=self.num_epochs,
            warmup_epochs=DEFAULT_SCHEDULE["warmup_fraction"] * self.num_epochs,
            step=1 / self.num_iterations_per_epoch,
        )
        return optimizer, schedule

    def on_train_epoch_start(self) -> None:
        """Starts counting iterations for the learning rate."""
        super().on_train_epoch_start()
        self._iteration = 0

    def train_step(self, batch: dict) -> dict:
        """One step at the learning rate of its iteration."""
        elapsed = self._iteration / self.num_iterations_per_epoch
        self.lr_scheduler.step(self.current_epoch + elapsed)
        self._iteration += 1
        return super().train_step(batch)


class nnUNetTrainerAdamWSides(nnUNetTrainerAdamW):  # noqa: N801 - nnU-Net's way to name trainers
    """The same, mirroring only where RefSAM3DTrainer does: not across the patient's midline.

    With labels that name no side it is nnUNetTrainerAdamW.
    """

    def configure_rotation_dummyDA_mirroring_and_inital_patch_size(self) -> tuple:  # noqa: N802
        """nnU-Net's augmentation, without the mirroring that would swap left and right."""
        rotation, dummy_2d, initial_patch_size, axes = (
            super().configure_rotation_dummyDA_mirroring_and_inital_patch_size()
        )
        if mentions_side(one.canonical for one in phrase_bank(self.dataset_json)):
            cache = Path(self.preprocessed_dataset_folder_base) / GEOMETRIES
            stored = geometries(Path(self.preprocessed_dataset_folder), cache, load_pickle)
            transposed = self.plans_manager.transpose_forward[3 - len(initial_patch_size) :]
            axes = axes_that_keep_sides(axes, transposed, stored["axes"])
            self.inference_allowed_mirroring_axes = axes
        return rotation, dummy_2d, initial_patch_size, axes
