"""Backbone files: the frozen image encoder that the slim checkpoints of a model share.

A backbone file has the frozen tensors as they stand in the network, resampled to the plan's token
grid, and is named by its own SHA-256. Whatever folder it is found in, it is the right one, or it
is refused.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path

from safetensors.torch import load_file
from safetensors.torch import save as serialised
from torch import Tensor

from refsam3d_nnunet.environment import read_settings, weights_folder
from refsam3d_nnunet.files import replacing
from refsam3d_nnunet.weights.hashes import hash_once

_DIGITS = 16  # of the hash, in the name of a file

_named_folder: ContextVar[Path | None] = ContextVar("_named_folder", default=None)


def file_name(sha256: str) -> str:
    """Name of the backbone file with that hash."""
    return f"refsam3d_backbone_{sha256[:_DIGITS]}.safetensors"


def backbone_content(tensors: Mapping[str, Tensor]) -> tuple[bytes, str]:
    """Content of a backbone file, and its hash.

    Args:
        tensors: Frozen tensors of a network, see ``network.slim.backbone_tensors``.
    """
    # safetensors orders tensors itself, so that the same ones give the same bytes.
    content = serialised({name: tensor.cpu().contiguous() for name, tensor in tensors.items()})
    return content, hashlib.sha256(content).hexdigest()


def write_backbone(content: bytes, folder: Path) -> Path:
    """Writes a backbone file into a folder, unless it is there.

    Several trainings may do so at once: the file appears whole, and all write the same.

    Args:
        content: See :func:`backbone_content`.
        folder: Made if missing.

    Raises:
        OSError: If it cannot be written.
    """
    sha256 = hashlib.sha256(content).hexdigest()
    path = folder / file_name(sha256)
    if not (path.is_file() and hash_once(path) == sha256):
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            temporary.write_bytes(content)
    return path


def copy_backbone(source: Path, path: Path) -> None:
    """Copies a backbone file, whole or not at all.

    Raises:
        OSError: If it cannot be read or written.
    """
    with replacing(path) as temporary:
        shutil.copyfile(source, temporary)


def read_backbone(path: Path, sha256: str) -> dict[str, Tensor]:
    """Reads a backbone file onto the CPU; its hash is taken once per process and file.

    Raises:
        ValueError: If the file is not the one with that hash.
        OSError: If it cannot be read.
    """
    found = hash_once(path)
    if found != sha256:
        raise ValueError(
            f"{path} ({path.stat().st_size:,} bytes) has the SHA-256 {found}, and the checkpoint "
            f"was trained beside the frozen image encoder {sha256}: the file is damaged, cut "
            f"short, or another one. Put the right one there, from the model folder of the "
            f"training, or name it in REFSAM3D_BACKBONE."
        )
    return load_file(path, device="cpu")


@contextmanager
def looking_first_in(folder: Path) -> Iterator[None]:
    """Networks that are built meanwhile look for their backbones in a model folder first."""
    token = _named_folder.set(folder)
    try:
        yield
    finally:
        _named_folder.reset(token)


@dataclass(frozen=True)
class BackboneFinder:
    """Finds backbone files, and reads them when called with a hash.

    It looks at REFSAM3D_BACKBONE (a file or a folder), then in the model folder if one was named,
    in the model folders below nnUNet_results, those of the data set first, and last in
    ``backbones`` below the folder of weights.

    Args:
        dataset: Name of the data set, such as Dataset004_Hippocampus.
        folder: A model folder, see :func:`looking_first_in`.
    """

    dataset: str | None = None
    folder: Path | None = field(default_factory=_named_folder.get)

    def __call__(self, sha256: str) -> dict[str, Tensor]:
        """The tensors of a backbone.

        Raises:
            FileNotFoundError: See :meth:`path`.
            ValueError: If the file that was found is not the one with that hash.
        """
        return read_backbone(self.path(sha256), sha256)

    def path(self, sha256: str) -> Path:
        """Where the file lies.

        Raises:
            FileNotFoundError: If it is at none of the places; the message names them.
        """
        name = file_name(sha256)
        places = self._places()
        for place in places:
            found = place if place.is_file() else next(iter(_below(place, name)), None)
            if found is not None:
                return found
        raise FileNotFoundError(
            f"The checkpoint is slim: it needs the frozen image encoder it was trained beside, "
            f"the file {name} (SHA-256 {sha256}), which is not there. Looked at: "
            f"{', '.join(map(str, places))}. Copy the file from the model folder of the training "
            f"into one of these, or name it in REFSAM3D_BACKBONE. Whoever has the model can "
            f"make it self-contained: `refsam3d weights export MODELFOLDER -o FILE.zip`, or "
            f"`refsam3d weights merge MODELFOLDER`."
        )

    def _places(self) -> list[Path]:
        """Files, folders, and patterns of folders."""
        places = [read_settings().backbone, self.folder]
        if results := os.environ.get("nnUNet_results"):
            places += [Path(results, self.dataset or "*", "*"), Path(results, "*", "*")]
        places.append(weights_folder() / "backbones")
        return list(dict.fromkeys(place for place in places if place is not None))


def _below(place: Path, name: str) -> list[Path]:
    parts = place.parts
    first = next((i for i, part in enumerate(parts) if part == "*"), len(parts))
    return sorted(Path(*parts[:first]).glob("/".join([*parts[first:], name])))
