"""RefSAM3DPlanner for GPUs of 11, 24 and 40 GB, the sizes of nnU-Net's ResEnc presets."""

import warnings
from collections.abc import Sequence
from typing import ClassVar

from refsam3d_nnunet.planners.refsam3d_planner import RefSAM3DPlanner

# The rest is for what the formulas do not count, such as fragments and cuDNN's workspaces.
# nnU-Net's ResEnc L and XL leave about as much of 24 and 40 GB.
SHARE_OF_GPU = 0.9


class MemoryPreset(RefSAM3DPlanner):
    """Plans for nine tenths of a GPU's memory, under a name of its own.

    A memory target that is asked for wins. It is then best to ask for another plans name too;
    without one the preset's is kept, as by nnU-Net's ResEnc presets, and a warning says so.

    Args:
        dataset_name_or_id: Data set, as nnU-Net names it.
        gpu_memory_target_in_gb: Memory of one training step, in GB; the preset's if None.
        preprocessor_name: Class of the preprocessor.
        plans_name: Name of the plans file; the preset's if None.
        overwrite_target_spacing: Spacing of 3d_fullres, in mm, instead of the planned one.
        suppress_transpose: Whether the axes keep their order.

    Raises:
        ValueError: As RefSAM3DPlanner.
        FileNotFoundError: As RefSAM3DPlanner.
    """

    size: ClassVar[str]
    gpu_gb: ClassVar[int]

    def __init__(
        self,
        dataset_name_or_id: str | int,
        gpu_memory_target_in_gb: float | None = None,
        preprocessor_name: str = "DefaultPreprocessor",
        plans_name: str | None = None,
        overwrite_target_spacing: Sequence[float] | None = None,
        suppress_transpose: bool = False,
    ) -> None:
        memory_gb = self.memory_gb()
        usual_name = f"RefSAM3DPlans{self.size}"
        asked = gpu_memory_target_in_gb
        if asked not in (None, memory_gb) and plans_name in (None, usual_name):
            warnings.warn(
                f"{type(self).__name__} plans for {memory_gb:g} GB, and {asked:g} GB are asked "
                f"for: {usual_name} will not be what others expect of that name. Give it another "
                f"with -overwrite_plans_name.",
                stacklevel=2,
            )
        super().__init__(
            dataset_name_or_id,
            memory_gb if asked is None else asked,
            preprocessor_name,
            plans_name or usual_name,
            overwrite_target_spacing,
            suppress_transpose,
        )

    @classmethod
    def memory_gb(cls) -> float:
        """Memory target of the preset, in GB."""
        return round(SHARE_OF_GPU * cls.gpu_gb, 1)


class RefSAM3DPlannerM(MemoryPreset):
    """For GPUs of 11 GB, such as an RTX 2080 Ti; writes RefSAM3DPlansM."""

    size, gpu_gb = "M", 11


class RefSAM3DPlannerL(MemoryPreset):
    """For GPUs of 24 GB, such as an RTX 4090; writes RefSAM3DPlansL."""

    size, gpu_gb = "L", 24


class RefSAM3DPlannerXL(MemoryPreset):
    """For GPUs of 40 GB, such as an A100; writes RefSAM3DPlansXL."""

    size, gpu_gb = "XL", 40
