"""Parts of ``segment_anything`` that know no dimension, imported without its image tools.

``import segment_anything`` needs torchvision, which must fit torch exactly and often does not.
Its modelling files need torch alone, so they are imported as a package of their own.
"""

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

_PACKAGE = "refsam3d_nnunet.network._segment_anything_modeling"


def _modeling(name: str) -> ModuleType:
    """Imports ``segment_anything.modeling.<name>`` and nothing around it."""
    if _PACKAGE not in sys.modules:
        spec = importlib.util.find_spec("segment_anything")
        if spec is None or spec.origin is None:
            raise ImportError(
                "The package 'segment-anything' is missing: pip install segment-anything"
            )
        package = ModuleType(_PACKAGE)
        package.__path__ = [str(Path(spec.origin).parent / "modeling")]
        sys.modules[_PACKAGE] = package
    return importlib.import_module(f"{_PACKAGE}.{name}")


TwoWayTransformer = _modeling("transformer").TwoWayTransformer
