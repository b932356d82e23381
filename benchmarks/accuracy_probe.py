"""Seconds of a training step of several trainers, measured side by side.

::

    python benchmarks/accuracy_probe.py DATASET METHOD:TRAINER:PLANS ... -o FILE --rounds 10

benchmarks/accuracy.py starts it, with nnU-Net's folders in the environment. All trainers live in
one process and take their steps in turn, data loading and augmentation included; so whatever else
runs on the machine slows all of them. FILE gets every step's seconds.
"""

import argparse
import multiprocessing
import time
from pathlib import Path

import torch
from nnunetv2.run.run_training import get_trainer_from_args
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from studies import CONFIGURATION

from refsam3d_nnunet.files import write_json


def main() -> None:
    """Measures what the command line names."""
    args = _arguments()
    if args.device == "cpu":
        # As nnUNetv2_train does, before the trainers take those they were given.
        torch.set_num_threads(multiprocessing.cpu_count())
    named = [text.split(":") for text in args.methods]
    trainers = {
        method: _begun(args.dataset, trainer, plans, args.device)
        for method, trainer, plans in named
    }
    told = {name: {"seconds": [], "processor_seconds": []} for name in trainers}
    # The first round pays for compilation and caches.
    for number in range(args.rounds + 1):
        for name, trainer in trainers.items():
            began = time.perf_counter(), time.process_time()
            trainer.train_step(next(trainer.dataloader_train))
            now = time.perf_counter(), time.process_time()
            if number:
                for key, start, end in zip(told[name], began, now, strict=True):
                    told[name][key].append(end - start)
    write_json(args.out, {"methods": told, "threads": torch.get_num_threads()})


def _begun(dataset: str, trainer: str, plans: str, device: str) -> nnUNetTrainer:
    begun = get_trainer_from_args(
        dataset, CONFIGURATION, 0, trainer, plans, device=torch.device(device)
    )
    begun.on_train_start()
    begun.on_train_epoch_start()
    return begun


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("dataset")
    parser.add_argument("methods", nargs="+", metavar="METHOD:TRAINER:PLANS")
    parser.add_argument("-o", dest="out", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--device", default="cpu")
    return parser.parse_args()


if __name__ == "__main__":
    main()
