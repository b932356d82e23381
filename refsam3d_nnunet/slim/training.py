"""Slim checkpoints while training: whether, beside which backbone, what of the optimiser."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from refsam3d_nnunet.environment import Settings
from refsam3d_nnunet.network.slim import backbone_tensors, slim_from_now_on
from refsam3d_nnunet.slim.backbone import (
    backbone_content,
    copy_backbone,
    file_name,
    write_backbone,
)

# The checkpoint that a killed training goes on from.
LATEST = "checkpoint_latest.pth"
# Resampling gives other last digits on another processor; another encoder differs in all digits.
_ROUNDING = {"rtol": 1e-4, "atol": 1e-5}


def wants_slim(settings: Settings, tuning: str, of_folder: Mapping[str, Any] | None) -> bool:
    """Whether a training writes slim checkpoints.

    Args:
        settings: What the environment asks for; if nothing, it is as with earlier folds.
        tuning: Tuning mode.
        of_folder: Entry ``slim`` of the plan in the model folder.

    Raises:
        ValueError: If it is asked for in a mode that tunes the whole image encoder.
    """
    asked = settings.slim_checkpoints
    if asked and tuning != "adapter":
        raise ValueError(
            f"REFSAM3D_SLIM_CHECKPOINTS asks for checkpoints without the frozen image encoder, but "
            f"in tuning mode {tuning!r} nothing is frozen, so nothing can be left out: unset it, "
            f"or adapt pretrained weights with REFSAM3D_TUNING=adapter and REFSAM3D_CHECKPOINT."
        )
    return of_folder is not None if asked is None else asked


def slim_down(
    network: nn.Module, folder: Path, *, of_folder: Mapping[str, Any] | None, writes: bool
) -> dict[str, Any]:
    """Makes the state dicts of a network slim from now on.

    Args:
        network: Its frozen tensors hold what the training keeps; it finds by a BackboneFinder.
        folder: Model folder, for the backbone file.
        of_folder: Entry ``slim`` of the plan there, if folds were trained before. Where their
            backbone differs in rounding only, the network takes it over.
        writes: Whether this process writes the file, if it is missing.

    Returns:
        The entry ``slim`` of the plan.

    Raises:
        ValueError: If the folds before were trained beside another backbone.
        FileNotFoundError: If that one is not there to compare with.
    """
    backbone, own = network.backbone, backbone_tensors(network)
    sha256 = backbone.sha256 if set(backbone.names) == set(own) else None
    if sha256 is None:
        content, sha256 = backbone_content(own)
        if of_folder is not None and of_folder["sha256"] != sha256:
            theirs = backbone.find(of_folder["sha256"])
            _take_over(own, theirs, f"{folder / of_folder['backbone']}, and not {sha256}")
            sha256 = of_folder["sha256"]
        elif writes:
            write_backbone(content, folder)
    elif writes and not (folder / file_name(sha256)).is_file():
        copy_backbone(backbone.find.path(sha256), folder / file_name(sha256))
    slim_from_now_on(network, sha256)
    return {"backbone": file_name(sha256), "sha256": sha256}


def _take_over(own: Mapping[str, Tensor], theirs: Mapping[str, Tensor], which: str) -> None:
    differing = [
        name
        for name, tensor in own.items()
        if name not in theirs
        or theirs[name].shape != tensor.shape
        or not torch.allclose(tensor.cpu(), theirs[name], **_ROUNDING)
    ]
    if differing:
        raise ValueError(
            f"The folds of this model folder share one frozen image encoder, {which}, which this "
            f"training starts from: {len(differing)} of {len(own)} tensors differ, the first is "
            f"{differing[0]!r}. Name the pretrained weights of those folds in REFSAM3D_CHECKPOINT, "
            f"or plan under a name of its own with 'nnUNetv2_plan_experiment -pl RefSAM3DPlanner "
            f"-overwrite_plans_name NAME'."
        )
    for name, tensor in own.items():
        tensor.copy_(theirs[name])


@contextmanager
def moments_for(path: Path, optimizer: torch.optim.Optimizer, *, slim: bool) -> Iterator[None]:
    """Leaves the optimiser's moments out of a slim checkpoint, but not out of the latest.

    They are larger than the tuned tensors, and only ``checkpoint_latest.pth`` is there to go on
    from. A state dict without them can be loaded; the moments then start anew.
    """
    if not slim or path.name == LATEST:
        yield
        return
    hook = optimizer.register_state_dict_post_hook(lambda _, state: {**state, "state": {}})
    try:
        yield
    finally:
        hook.remove()
