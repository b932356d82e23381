"""Reading nnU-Net's checkpoints without running code from them."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

# What they hold besides tensors and plain values: numbers that numpy made, in the logs.
_SCALAR = np._core.multiarray.scalar if hasattr(np, "_core") else np.core.multiarray.scalar
_SAFE = [
    np.dtype,
    # Under the names that NumPy 1 and 2 give it: a model may be read on another machine.
    *((_SCALAR, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),
    *(type(np.dtype(kind)) for kind in (np.float16, np.float32, np.float64, np.int32, np.int64)),
]
_DAMAGE = (RuntimeError, EOFError, ValueError, LookupError, TypeError, AttributeError, OSError)


def read_nnunet_checkpoint(
    path: Path, parts: Sequence[str] = ("network_weights", "init_args")
) -> dict[str, Any]:
    """Reads a checkpoint that nnU-Net's trainer wrote; its tensors stay on the disk until used.

    Args:
        path: The file.
        parts: Dicts that it must hold.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is damaged, asks for objects that could run code, or is no checkpoint
            of nnU-Net.
    """
    if not path.is_file():
        raise FileNotFoundError(f"There is no checkpoint {path}.")
    try:
        with torch.serialization.safe_globals(_SAFE):
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{path} holds objects that nnU-Net's checkpoints do not have, and reading them could "
            f"run code from the file, so it is refused: {str(error).splitlines()[0]}"
        ) from error
    except _DAMAGE as error:
        raise ValueError(
            f"{path} ({path.stat().st_size:,} bytes) cannot be read: it is damaged, cut short, or "
            f"something else under that name ({type(error).__name__})."
        ) from error
    for part in parts:
        if not isinstance(content, dict) or not isinstance(content.get(part), dict):
            raise ValueError(f"{path} is no checkpoint of nnU-Net: it has no {part!r}.")
    return content
