"""nnU-Net's own trainer with a short schedule, for benchmarks on little hardware.

nnU-Net finds it with ``nnUNet_extTrainer`` set to this file's folder.
"""

import os

import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer


class nnUNetTrainerShort(nnUNetTrainer):  # noqa: N801 - nnU-Net's way to name trainers
    """nnUNetTrainer with the schedule that the environment gives to RefSAM3DTrainer.

    Everything else is nnU-Net's: network, loss, optimiser, learning rate and augmentation.

    Args:
        plans: Content of plans.json.
        configuration: Name of a configuration.
        fold: Fold of the cross-validation.
        dataset_json: Content of dataset.json.
        device: Where to train.
    """

    def __init__(
        self,
        plans: dict,
        configuration: str,
        fold: int,
        dataset_json: dict,
        device: torch.device = torch.device("cuda"),  # noqa: B008 - nnU-Net's signature
    ) -> None:
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.num_epochs = int(os.environ["REFSAM3D_NUM_EPOCHS"])
        self.num_iterations_per_epoch = int(os.environ["REFSAM3D_ITERATIONS_PER_EPOCH"])
        self.num_val_iterations_per_epoch = int(os.environ["REFSAM3D_VAL_ITERATIONS"])
        # As RefSAM3DTrainer: a killed training loses a tenth at most.
        self.save_every = max(1, self.num_epochs // 10)
