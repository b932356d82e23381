"""Seeds and a record for trainers of benchmarks, whichever network they train."""

import json
import math
import os
import random
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from refsam3d_nnunet.files import write_json

RECORD = "benchmark_run.json"


class Seeded:
    """Mixin of nnU-Net's trainers whose random numbers follow from BENCHMARK_SEED.

    The fresh weights have a seed, and every epoch one of its own, so that a resumed training sees
    the patches that it would have seen. Validation patches have the same seed in every epoch.
    Patches follow from the seed only where they are drawn in the training's own process
    (``nnUNet_n_proc_DA=0``); then trainings of the same patch and batch that augment alike see
    the same patches in the same order.

    On a CPU nnU-Net's command takes a thread for each core of the machine. Where OMP_NUM_THREADS
    says how many, they are taken here, so that several studies can share the machine's cores.

    Each epoch's seconds, pseudo Dice and loss on the validation patches go into
    benchmark_run.json of the fold's folder.
    """

    def initialize(self) -> None:
        """Seeds what the fresh weights are drawn from, and takes the threads that were given."""
        _seed(0)
        given = os.environ.get("OMP_NUM_THREADS", "")
        if given.isdecimal() and int(given):
            torch.set_num_threads(int(given))
        super().initialize()

    def on_train_epoch_start(self) -> None:
        """Seeds what an epoch draws: cases, patches and augmentation."""
        super().on_train_epoch_start()
        _seed(1 + self.current_epoch)
        self._began = time.perf_counter(), time.process_time()

    def on_train_epoch_end(self, train_outputs: list[dict]) -> None:
        """Stops the clock: validation patches are only watched, and cost no method its time."""
        now = time.perf_counter(), time.process_time()
        self._took = [end - began for end, began in zip(now, self._began, strict=True)]
        super().on_train_epoch_end(train_outputs)

    def on_validation_epoch_start(self) -> None:
        """Seeds the patches that are watched."""
        super().on_validation_epoch_start()
        _seed(0)

    def on_epoch_end(self) -> None:
        """Records the epoch, before a checkpoint of it is written."""
        path = Path(self.output_folder) / RECORD
        # An epoch that was lost with a killed training comes again.
        before = [one for one in _epochs(path) if one["epoch"] < self.current_epoch]
        epoch = {
            "epoch": self.current_epoch,
            "steps": self.num_iterations_per_epoch,
            "seconds": self._took[0],
            "processor_seconds": self._took[1],
            "dice": self._watched("mean_fg_dice"),
            "loss": self._watched("val_losses"),
        }
        write_json(path, self._told() | {"epochs": [*before, epoch]})
        super().on_epoch_end()

    def _watched(self, name: str) -> float | None:
        """What the validation patches gave; None if, say, no class is in any of them."""
        value = float(self.logger.get_value(name, -1))
        return value if math.isfinite(value) else None

    def _told(self) -> dict[str, Any]:
        tuned = [p.numel() for p in self.network.parameters() if p.requires_grad]
        return {
            "patch": [int(size) for size in self.configuration_manager.patch_size],
            "batch": int(self.batch_size),
            "parameters": sum(p.numel() for p in self.network.parameters()),
            "parameters_tuned": sum(tuned),
            "mirroring_axes": self.inference_allowed_mirroring_axes,
            "threads": torch.get_num_threads(),
        }


def _epochs(path: Path) -> list[dict[str, Any]]:
    return json.loads(path.read_text(encoding="utf-8"))["epochs"] if path.is_file() else []


def _seed(stage: int) -> None:
    sequence = np.random.SeedSequence([int(os.environ["BENCHMARK_SEED"]), stage])
    for seed, number in zip(
        (random.seed, np.random.seed, torch.manual_seed), sequence.generate_state(3), strict=True
    ):
        seed(int(number))
