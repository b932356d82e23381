"""State dicts without the frozen image encoder, which one backbone file holds for all of them.

A slim state dict has every tensor but the frozen ones, and in their place the SHA-256 of the file
that holds them::

    "image_encoder.backbone_sha256": 32 bytes

It is a tensor like the others, because nnU-Net compares names and shapes when it takes over
pretrained weights. Any RefSAM3D loads a slim state dict if it was told how to find backbones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

BACKBONE_HASH = "image_encoder.backbone_sha256"
_BYTES = 32

FindBackbone = Callable[[str], Mapping[str, Tensor]]


@dataclass
class Backbone:
    """What a network knows of its frozen tensors; ``network.backbone``.

    Args:
        find: Hash of a backbone file -> its tensors. None: only whole state dicts can be loaded.
        sha256: Backbone file whose tensors the network has, None if there is none.
        names: Tensors of that file.
        slim: Whether state dicts are to be slim. As long as the file is not known they are whole.
    """

    find: FindBackbone | None = None
    sha256: str | None = None
    names: tuple[str, ...] = ()
    slim: bool = False


def support_slim(network: nn.Module) -> None:
    """Gives a network its ``backbone``, and lets it load slim state dicts."""
    network.backbone = Backbone()
    network.register_state_dict_post_hook(_leave_out)
    network.register_load_state_dict_pre_hook(_fill_in)


def backbone_tensors(network: nn.Module) -> dict[str, Tensor]:
    """The frozen tensors of a network, which a slim state dict lacks, by name; not copies."""
    return {name: p.detach() for name, p in network.named_parameters() if not p.requires_grad}


def slim_from_now_on(network: nn.Module, sha256: str) -> None:
    """Makes state dicts slim; the frozen tensors must be those of a backbone file."""
    backbone: Backbone = network.backbone
    backbone.sha256, backbone.names, backbone.slim = sha256, tuple(backbone_tensors(network)), True


def is_slim(state: Mapping[str, Tensor], prefix: str = "") -> bool:
    """Whether a state dict needs a backbone file."""
    return prefix + BACKBONE_HASH in state


def backbone_hash(state: Mapping[str, Tensor], prefix: str = "") -> str:
    """Reads from a slim state dict which backbone it needs.

    Raises:
        ValueError: If the entry is no hash.
    """
    stored = state[prefix + BACKBONE_HASH]
    if stored.dtype != torch.uint8 or stored.shape != (_BYTES,):
        raise ValueError(
            f"{BACKBONE_HASH!r} of the state dict should be the {_BYTES} bytes of a SHA-256, and "
            f"is a {stored.dtype} tensor of shape {tuple(stored.shape)}: the checkpoint is damaged."
        )
    return bytes(stored.tolist()).hex()


def hash_tensor(sha256: str) -> Tensor:
    """The entry of a slim state dict for a hash, given as 64 hexadecimal digits."""
    return torch.tensor(list(bytes.fromhex(sha256)), dtype=torch.uint8)


def _leave_out(module: nn.Module, state: dict[str, Tensor], prefix: str, _: object) -> None:
    backbone: Backbone = module.backbone
    if not backbone.slim or backbone.sha256 is None:
        return
    for name in backbone.names:
        del state[prefix + name]
    state[prefix + BACKBONE_HASH] = hash_tensor(backbone.sha256)


def _fill_in(module: nn.Module, state: dict[str, Tensor], prefix: str, *_: object) -> None:
    backbone: Backbone = module.backbone
    if not is_slim(state, prefix):
        if any(prefix + name in state for name in backbone.names):
            backbone.sha256 = None  # of unknown origin from now on
        return
    wanted = backbone_hash(state, prefix)
    tensors = _tensors(module, wanted)
    own = dict(module.named_parameters())
    taken = all(
        name in own and own[name].shape == tensor.shape and prefix + name not in state
        for name, tensor in tensors.items()
    )
    for name, tensor in tensors.items():
        state.setdefault(prefix + name, tensor)
    del state[prefix + BACKBONE_HASH]
    backbone.sha256, backbone.names = wanted if taken else None, tuple(tensors)


def _tensors(module: nn.Module, wanted: str) -> Mapping[str, Tensor]:
    """The tensors of a backbone: the network's own if they are these already."""
    backbone: Backbone = module.backbone
    if backbone.sha256 == wanted:
        own = {name: module.get_parameter(name) for name in backbone.names}
        if not any(parameter.requires_grad for parameter in own.values()):
            return own
    if backbone.slim and backbone.sha256 is not None:
        raise ValueError(
            f"These weights belong to the frozen image encoder {wanted}, and this training adapts "
            f"another one, {backbone.sha256}: what was trained beside one does not fit the other. "
            f"Start from the same pretrained weights, REFSAM3D_CHECKPOINT, or from weights that "
            f"were trained so."
        )
    if backbone.find is None:
        raise ValueError(
            f"These weights lack the frozen image encoder {wanted}, and this network was not told "
            f"how to find it: build it by RefSAM3DTrainer.build_network_architecture, or make the "
            f"checkpoint whole with `refsam3d weights merge`."
        )
    return backbone.find(wanted)
