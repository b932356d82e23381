"""Lets nnU-Net find our trainer, planners and export by name.

nnU-Net looks every class up with one function, which searches the files below its own folder.
A `.pth` file imports this module when Python starts. When nnU-Net defines that function, it is
wrapped to answer for the classes in `REGISTRY` and to pass every other question on.

Every Python process of the environment pays for this module, so it imports next to nothing.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False  # type checkers read it as true; typing itself is too slow to import here
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

SEARCH_MODULE = "nnunetv2.utilities.find_class_by_name"
SEARCH_FUNCTION = "recursive_find_python_class"

# package that nnU-Net searches -> class or function it asks for -> our module that defines it
REGISTRY = {
    "nnunetv2.training.nnUNetTrainer": {
        "RefSAM3DTrainer": "refsam3d_nnunet.trainers.refsam3d_trainer",
    },
    "nnunetv2.experiment_planning": {
        "RefSAM3DPlanner": "refsam3d_nnunet.planners.refsam3d_planner",
        "RefSAM3DPlannerM": "refsam3d_nnunet.planners.memory_presets",
        "RefSAM3DPlannerL": "refsam3d_nnunet.planners.memory_presets",
        "RefSAM3DPlannerXL": "refsam3d_nnunet.planners.memory_presets",
    },
    "nnunetv2.preprocessing.resampling": {
        "refsam3d_resample_logits": "refsam3d_nnunet.resampling",
    },
    "nnunetv2.utilities.label_handling": {
        "RefSAM3DLabelManager": "refsam3d_nnunet.label_manager",
    },
}


class PatchOnImport:
    """Meta path finder that wraps nnU-Net's class search as soon as its module has run."""

    @staticmethod
    def find_spec(
        fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Answers for the one module that is to be patched, and for no other."""
        if fullname != SEARCH_MODULE:
            return None
        from importlib.machinery import PathFinder

        spec = PathFinder.find_spec(fullname, path, target)
        if spec is None or spec.loader is None:
            return None
        run_module = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            run_module(module)
            patch(module)

        spec.loader.exec_module = exec_module
        return spec


def patch(module: ModuleType) -> None:
    """Wraps the search function of `module`, and copies of it that others imported before."""
    original = getattr(module, SEARCH_FUNCTION)
    if getattr(original, "knows_refsam3d", False):
        return
    wrapped = _wrap(original)
    for name, other in list(sys.modules.items()):
        if name.startswith("nnunetv2.") and getattr(other, SEARCH_FUNCTION, None) is original:
            setattr(other, SEARCH_FUNCTION, wrapped)
    setattr(module, SEARCH_FUNCTION, wrapped)


def _wrap(original: Callable[..., type | None]) -> Callable[..., type | None]:
    def recursive_find_python_class(
        folder: str, class_name: str, current_module: str | None, *args: object, **kwargs: object
    ) -> type | None:
        ours = REGISTRY.get(current_module, {}).get(class_name)
        if ours is None:
            return original(folder, class_name, current_module, *args, **kwargs)
        from importlib import import_module

        return getattr(import_module(ours), class_name)

    recursive_find_python_class.__doc__ = original.__doc__
    recursive_find_python_class.__wrapped__ = original
    recursive_find_python_class.knows_refsam3d = True
    return recursive_find_python_class


def install() -> None:
    """Puts the hook in place, once, whether nnU-Net has been imported already or not."""
    if SEARCH_MODULE in sys.modules:
        patch(sys.modules[SEARCH_MODULE])
    elif PatchOnImport not in sys.meta_path:
        sys.meta_path.insert(0, PatchOnImport)


install()
