"""RefSAM3DTrainer: nnU-Net's hooks, and nothing that could live elsewhere."""

import json
import os
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from batchgenerators.utilities.file_and_folder_operations import load_pickle
from nnunetv2.paths import nnUNet_preprocessed, nnUNet_results
from nnunetv2.training.loss.deep_supervision import DeepSupervisionWrapper
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager
from torch import nn

from refsam3d_nnunet.asked_classes import show_asked_classes
from refsam3d_nnunet.environment import read_settings
from refsam3d_nnunet.files import remove_leftovers, replacing, write_json
from refsam3d_nnunet.loss import PromptMaskLoss
from refsam3d_nnunet.memory import validation_samples
from refsam3d_nnunet.network.refsam3d import RefSAM3D
from refsam3d_nnunet.network.tuning import apply_tuning, is_pretrained
from refsam3d_nnunet.optim import WarmupPolyLR, adamw, refuse_lost
from refsam3d_nnunet.orientation import axes_that_keep_sides, geometries
from refsam3d_nnunet.planned_model import planned_model
from refsam3d_nnunet.plans import (
    TEXT_BANK,
    family_of,
    network_config,
    text_shape,
    trained_task,
)
from refsam3d_nnunet.preprocessed import check_spacing
from refsam3d_nnunet.pretrained.load import hashes_in, load_pretrained, settled
from refsam3d_nnunet.run_record import RANDOM, run_record, told
from refsam3d_nnunet.slim.backbone import BackboneFinder
from refsam3d_nnunet.slim.training import moments_for, slim_down, wants_slim
from refsam3d_nnunet.terminal import TrainingBar
from refsam3d_nnunet.text.names import mentions_side
from refsam3d_nnunet.text.phrases import drawn_phrases
from refsam3d_nnunet.validation_parts import joined, parts_of, refuse_uneven

RECORD = "refsam3d_run.json"
# Beside the plans of a data set: how its cases lie in the patient.
GEOMETRIES = "refsam3d_geometries.json"


class RefSAM3DTrainer(nnUNetTrainer):
    """Trains RefSAM3D inside nnU-Net.

    Works with plans of RefSAM3DPlanner and with any other plan: what is missing is added to the
    plan before nnU-Net saves it into the model folder, so that the model folder alone determines
    the network. nnU-Net's loss, sampling, augmentation, validation and prediction stay.

    Args:
        plans: Content of plans.json.
        configuration: 2d, 3d_fullres, 3d_lowres or 3d_cascade_fullres.
        fold: Fold of the cross-validation.
        dataset_json: Content of dataset.json.
        device: Where to train.

    Raises:
        ValueError: If plan, environment, labels or earlier folds contradict each other.
        FileNotFoundError: If the named pretrained weights do not exist.
    """

    def __init__(
        self,
        plans: dict,
        configuration: str,
        fold: int,
        dataset_json: dict,
        device: torch.device = torch.device("cuda"),  # noqa: B008 - nnU-Net's signature
    ) -> None:
        plans.setdefault("continue_training", False)
        name = f"{type(self).__name__}__{plans['plans_name']}__{configuration}"
        self._settings = settled(read_settings())
        model = planned_model(
            plans,
            configuration,
            dataset_json=dataset_json,
            settings=self._settings,
            folder=Path(nnUNet_results) / plans["dataset_name"] / name,
            bank=Path(nnUNet_preprocessed) / plans["dataset_name"] / TEXT_BANK,
            ranks=dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1,
        )
        self.refsam3d: dict[str, Any] = model.block
        self._text, self._slim_before = model.text, model.slim
        self._slim = wants_slim(self._settings, self.refsam3d["tuning"], self._slim_before)
        self.refsam3d.pop("slim", None)
        super().__init__(plans, configuration, fold, dataset_json, device)
        for note in model.notes:
            self.print_to_log_file(note)
        self._restoring = False
        self._iteration = 0
        self._weights: dict[str, Any] = {"from": RANDOM}
        self._follow(self.refsam3d["schedule"])

    def _follow(self, schedule: dict[str, Any]) -> None:
        self.num_epochs = schedule["num_epochs"]
        self.num_iterations_per_epoch = schedule["iterations_per_epoch"]
        self.num_val_iterations_per_epoch = schedule["val_iterations"]
        self.initial_lr = schedule["initial_lr"]
        self.weight_decay = schedule["weight_decay"]
        # Nothing above a tenth of a run is lost when it is killed.
        self.save_every = max(1, min(50, self.num_epochs // 10))
        steps = self.num_iterations_per_epoch
        self._bar = TrainingBar(self.num_epochs, steps, rank=self.local_rank)

    @staticmethod
    def build_network_architecture(
        plans_manager: PlansManager,
        configuration_manager: ConfigurationManager,
        num_input_channels: int,
        num_output_channels: int,
        enable_deep_supervision: bool = True,
    ) -> nn.Module:
        """Builds the network that a plan of this trainer describes, weights still random.

        Without deep supervision, that is for nnU-Net's predictor, REFSAM3D_PROMPTS may choose
        some of the classes.

        Raises:
            ValueError: If it names a class that the model does not have.
        """
        block = plans_manager.plans.get("refsam3d", {})
        config = network_config(configuration_manager.configuration)
        modalities = len(configuration_manager.normalization_schemes)
        network = RefSAM3D(
            num_input_channels,
            num_output_channels,
            **text_shape(block),
            label_channels=num_input_channels - modalities,
            deep_supervision=enable_deep_supervision,
            **config.to_json(),
        )
        apply_tuning(network, block["tuning"], block.get("family"))
        network.backbone.find = BackboneFinder(plans_manager.dataset_name)
        if not enable_deep_supervision:
            show_asked_classes(
                network, block, next_stage=configuration_manager.configuration.get("next_stage")
            )
        return network

    def initialize(self) -> None:
        """Builds everything, then fills in text embeddings and pretrained weights."""
        super().initialize()
        configuration = self.configuration_manager.configuration
        self._samples_at_once = validation_samples(
            network_config(configuration),
            trained_task(configuration, self.refsam3d),
            self.batch_size,
        )
        network = self._bare_network()
        network.masks_as_products = True
        if self.is_ddp:  # constants, and phrases that all ranks draw alike: nothing to hand out
            self.network.broadcast_buffers = False
        network.text.store(*(torch.from_numpy(array) for array in self._text.arrays()))
        files = self.refsam3d["checkpoint"], self.refsam3d["decoder_checkpoint"]
        if any(files) and not self._restoring:
            family = self.refsam3d.get("family") or "sam"
            planned = self.refsam3d.get("weights_sha256")
            self._weights, summary = load_pretrained(network, *files, family, planned=planned)
            self.refsam3d["weights_sha256"] = hashes_in(self._weights)
            self.print_to_log_file(summary)
            self._slim_down()
        network.register_load_state_dict_post_hook(self._weights_taken_over)

    def _slim_down(self) -> None:
        """Leaves the frozen image encoder out of checkpoints from now on, if that is wanted."""
        entry = self._slim_before
        if self._slim and not self.disable_checkpointing:
            entry = slim_down(
                self._bare_network(),
                Path(self.output_folder_base),
                of_folder=self._slim_before,
                writes=self.local_rank == 0,
            )
        if not self._slim or entry is None:
            return
        self.refsam3d["slim"] = self.my_init_kwargs["plans"]["refsam3d"]["slim"] = entry

    def save_checkpoint(self, filename: str) -> None:
        """As nnU-Net does, but whole or not at all: a kill leaves the one that was there.

        Among slim ones only the latest has the moments of the optimiser.
        """
        path, slim = Path(filename), self._bare_network().backbone.slim
        if self.local_rank != 0 or self.disable_checkpointing:
            super().save_checkpoint(filename)
            return
        remove_leftovers(path)
        with moments_for(path, self.optimizer, slim=slim), replacing(path) as temporary:
            super().save_checkpoint(str(temporary))

    def _weights_taken_over(self, *_: object) -> None:
        """Notes that other weights replaced those of the start: -pretrained_weights did it."""
        self._weights = {"from": "another training, by -pretrained_weights"}

    def load_checkpoint(self, filename_or_checkpoint: str) -> None:
        """Restores a run with its own schedule, unless the environment asks for another.

        Its weights make the pretrained ones unnecessary.
        """
        self._restoring = True
        super().load_checkpoint(filename_or_checkpoint)
        trained = self.my_init_kwargs["plans"]["refsam3d"]["schedule"]
        schedule = {**trained, **self._settings.schedule()}
        # The next checkpoint has to know it too, or the next --c would fall back to the old one.
        self.my_init_kwargs["plans"]["refsam3d"]["schedule"] = schedule
        self.refsam3d["schedule"] = schedule
        self._follow(self.refsam3d["schedule"])
        self.lr_scheduler = self._schedule_of(self.optimizer)
        record = Path(self.output_folder) / RECORD
        if record.is_file():
            self._weights = json.loads(record.read_text(encoding="utf-8"))["weights"]

    def _do_i_compile(self) -> bool:
        """Compiles only when asked to: nnU-Net's default takes minutes before the first step."""
        return "nnUNet_compile" in os.environ and super()._do_i_compile()

    def configure_optimizers(self) -> tuple[torch.optim.Optimizer, WarmupPolyLR]:
        """AdamW over what is tuned, with warm-up and polynomial decay."""
        scale = self.refsam3d["schedule"]["pretrained_lr_scale"]
        optimizer = adamw(
            self.network,
            lr=self.initial_lr,
            weight_decay=self.weight_decay,
            slow=partial(is_pretrained, family=family_of(self.refsam3d)) if scale != 1 else None,
            slow_scale=scale,
        )
        return optimizer, self._schedule_of(optimizer)

    def _schedule_of(self, optimizer: torch.optim.Optimizer) -> WarmupPolyLR:
        return WarmupPolyLR(
            optimizer,
            initial_lr=self.initial_lr,
            num_epochs=self.num_epochs,
            warmup_epochs=self.refsam3d["schedule"]["warmup_fraction"] * self.num_epochs,
            step=1 / self.num_iterations_per_epoch,
        )

    def _build_loss(self) -> nn.Module:
        """nnU-Net's loss; each auxiliary mask weighs half of the next finer one."""
        deep, self.enable_deep_supervision = self.enable_deep_supervision, False
        loss = PromptMaskLoss(super()._build_loss())
        self.enable_deep_supervision = deep
        scales = self._get_deep_supervision_scales()
        if scales is None:
            return loss
        weights = [0.5**i for i in range(len(scales))]
        return DeepSupervisionWrapper(loss, [w / sum(weights) for w in weights])

    def _get_deep_supervision_scales(self) -> list[list[float]] | None:
        if not self.enable_deep_supervision:  # a trainer derived from this one may do without
            return None
        config = network_config(self.configuration_manager.configuration)
        dims = len(self.configuration_manager.patch_size)
        levels = range(config.auxiliary_masks + 1)
        return [[1 / s for s in config.stride_of(level)[-dims:]] for level in levels]

    def set_deep_supervision_enabled(self, enabled: bool) -> None:
        """Switches the auxiliary masks."""
        self._bare_network().deep_supervision = enabled

    def _bare_network(self) -> RefSAM3D:
        """The network without the wrappers of DDP and torch.compile."""
        network = self.network.module if self.is_ddp else self.network
        return getattr(network, "_orig_mod", network)

    def _set_batch_size_and_oversample(self) -> None:
        """nnU-Net's, for batches that all GPUs share evenly."""
        if self.is_ddp and self.configuration_manager.batch_dice:
            refuse_uneven(self.configuration_manager.batch_size, dist.get_world_size())
        super()._set_batch_size_and_oversample()

    def configure_rotation_dummyDA_mirroring_and_inital_patch_size(self) -> tuple:  # noqa: N802
        """nnU-Net's augmentation, without the mirroring that would swap left and right."""
        rotation, dummy_2d, initial_patch_size, axes = (
            super().configure_rotation_dummyDA_mirroring_and_inital_patch_size()
        )
        if mentions_side(self.refsam3d["class_prompts"]):
            slices = 3 - len(initial_patch_size)  # a 2D patch lacks the first axis
            transposed = self.plans_manager.transpose_forward[slices:]
            axes = axes_that_keep_sides(axes, transposed, self._geometries()["axes"])
            self.print_to_log_file(
                f"Labels name a side: mirroring, in training and prediction, along {axes} only."
            )
            self.inference_allowed_mirroring_axes = axes
        else:
            self.print_to_log_file(
                f"No label names a side: mirroring, in training and prediction, along {axes}. If "
                f"one does, give it a phrase that says left or right, and plan again."
            )
        return rotation, dummy_2d, initial_patch_size, axes

    def _geometries(self) -> dict[str, Any]:
        cache = Path(self.preprocessed_dataset_folder_base) / GEOMETRIES
        return geometries(Path(self.preprocessed_dataset_folder), cache, load_pickle)

    def on_train_start(self) -> None:
        """Starts as nnU-Net does, then says and records what was chosen.

        Raises:
            ValueError: If the preprocessed data are not of the plan's spacing.
        """
        check_spacing(self)
        self.refsam3d["orientations"] = self._geometries()["orientations"]
        if self._restoring:
            self._slim_down()
        super().on_train_start()
        record = self._record()
        if self.local_rank == 0:
            write_json(Path(self.output_folder) / RECORD, record)
        for message in told(record):
            self.print_to_log_file(message)
        if self._restoring and not self.optimizer.state and self.current_epoch < self.num_epochs:
            self.print_to_log_file(
                "RefSAM3D: the checkpoint has no moments of the optimiser; they start anew."
            )

    def _record(self) -> dict[str, Any]:
        return run_record(
            self,
            self._bare_network(),
            block=self.refsam3d,
            weights=self._weights,
            asked=self._settings.schedule(),
            orientations=self._geometries()["orientations"],
            compiled=self._do_i_compile(),
        )

    def on_train_epoch_start(self) -> None:
        """Starts counting iterations for the learning rate."""
        super().on_train_epoch_start()
        self._iteration = 0
        self._bar.start_epoch(self.current_epoch, self.logger.get_value("mean_fg_dice", None))

    def train_step(self, batch: dict) -> dict:
        """One step at the learning rate of its iteration."""
        elapsed = self._iteration / self.num_iterations_per_epoch
        self.lr_scheduler.step(self.current_epoch + elapsed)
        self._draw_phrases()
        self._iteration += 1
        result = super().train_step(batch)
        self._bar.step(result["loss"])
        return result

    def on_train_epoch_end(self, train_outputs: list[dict]) -> None:
        """As nnU-Net does, unless the training is lost.

        Raises:
            FloatingPointError: If it is.
        """
        losses = [float(one["loss"]) for one in train_outputs]
        refuse_lost(losses, scaled=self.grad_scaler is not None)
        super().on_train_epoch_end(train_outputs)

    def validation_step(self, batch: dict) -> dict:
        """nnU-Net's, in parts that take no more memory than a training step."""
        step = super().validation_step
        parts = list(parts_of(batch, self._samples_at_once))
        return joined([step(part) for part in parts], [len(part["data"]) for part in parts])

    def _draw_phrases(self) -> None:
        """One phrase per class, another at every step."""
        text = self._bare_network().text
        text.draw(drawn_phrases(text.num_phrases, self.fold, self.current_epoch, self._iteration))

    def plot_network_architecture(self) -> None:
        """nnU-Net's plot needs a package that no longer runs; the plan is the description."""
