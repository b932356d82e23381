"""RefSAM3DTrainer with seeds, for benchmarks whose runs differ in one thing only.

nnU-Net finds it with ``nnUNet_extTrainer`` set to this file's folder.
"""

from refsam3d_nnunet.trainers.refsam3d_trainer import RefSAM3DTrainer
from seeded import Seeded


class RefSAM3DTrainerSeeded(Seeded, RefSAM3DTrainer):
    """RefSAM3DTrainer whose random numbers follow from BENCHMARK_SEED."""
