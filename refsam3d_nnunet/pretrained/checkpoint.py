"""Reading published checkpoints without running code from them."""

from __future__ import annotations

import pickle
import re
import struct
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from refsam3d_nnunet.pretrained.onnx_file import read_onnx

PICKLED = (".pth", ".pt")
WRAPPERS = ("model", "state_dict", "teacher")

# How torch words its refusal of a well-formed pickle that asks for more than tensors.
_MORE_THAN_TENSORS = re.compile("GLOBAL|unsupported class|unrecognized function|Can only build")
_DAMAGE = (
    RuntimeError,
    EOFError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    OverflowError,
    AssertionError,
    struct.error,
    OSError,  # torch's archive reader looks for a zip's end before the start of a short file
)


def read_checkpoint(path: str | Path) -> dict[str, Tensor]:
    """Reads a state dict onto the CPU.

    Args:
        path: A .pth or .pt file as ``torch.save`` writes it, a .safetensors file, or an .onnx
            file (see :func:`read_onnx`). A state dict inside {"model": ...}, {"state_dict": ...}
            or {"teacher": ...} is taken out.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is of another kind, damaged, holds anything but tensors, or holds
            no state dict.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no checkpoint {path}; check the path, or fetch the file")
    if path.suffix == ".safetensors":
        content = _read_safetensors(path)
    elif path.suffix in PICKLED:
        content = _read_pickled(path)
    elif path.suffix == ".onnx":
        content = read_onnx(path)
    else:
        raise ValueError(
            f"{path} does not end in .pth, .pt, .safetensors or .onnx, so it is not clear how to "
            f"read it; rename it if it is one of these"
        )
    while isinstance(content, Mapping) and (wrapper := _wrapper_in(content)):
        content = content[wrapper]
    return _state_dict(content, path)


def _read_safetensors(path: Path) -> object:
    try:
        return load_file(path, device="cpu")
    except (SafetensorError, ValueError) as error:
        raise _damaged(path, error) from error


def _read_pickled(path: Path) -> object:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if _MORE_THAN_TENSORS.search(str(error)):
            raise ValueError(
                f"{path} holds objects other than tensors, and reading them could run code from "
                f"the file, so it is refused. If you trust it, load it yourself and save the "
                f"tensors alone: torch.save(model.state_dict(), 'weights.pth')."
            ) from error
        raise _damaged(path, error) from error
    except PermissionError:
        raise
    except _DAMAGE as error:
        raise _damaged(path, error) from error


def _wrapper_in(content: Mapping[object, object]) -> str | None:
    return next((name for name in WRAPPERS if isinstance(content.get(name), Mapping)), None)


def _state_dict(content: object, path: Path) -> dict[str, Tensor]:
    if not isinstance(content, Mapping) or not content:
        found = "an empty dict" if isinstance(content, Mapping) else f"a {type(content).__name__}"
        raise ValueError(
            f"{path} holds {found}, wanted is a state dict: names and their tensors, as "
            f"model.state_dict() gives them"
        )
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise ValueError(
                f"{path} holds no state dict: its entry {name!r} is a {type(value).__name__}, "
                f"wanted are names and their tensors, bare or under "
                f"{' or '.join(map(repr, WRAPPERS))}"
            )
    return dict(content)


def _damaged(path: Path, error: Exception) -> ValueError:
    return ValueError(
        f"{path} ({path.stat().st_size:,} bytes) cannot be read as a checkpoint: it is damaged, "
        f"cut short, or something else under that name. Fetch it again and compare its size or "
        f"sha256 with the source. ({type(error).__name__})"
    )
