"""Which image encoder a SAM checkpoint holds, and whether it is the one planned."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from refsam3d_nnunet.config import PRESETS
from refsam3d_nnunet.environment import Settings
from refsam3d_nnunet.weights.checkpoint import read_checkpoint

PUBLISHED = ("vit_b", "vit_l", "vit_h")
PATCH_KERNEL = "image_encoder.patch_embed.proj.weight"


def with_preset_of_checkpoint(settings: Settings) -> Settings:
    """Settles the size of the encoder by the named checkpoint, before anything is planned.

    Args:
        settings: What the environment asks for.

    Returns:
        The settings as they are without a checkpoint, else with the preset of the file.

    Raises:
        FileNotFoundError: If the named file does not exist.
        ValueError: If it cannot be read, has no image encoder of SAM's kind, or is of another
            size than the preset asked for.
    """
    if settings.checkpoint is None:
        return settings
    state = official_names(read_checkpoint(Path(settings.checkpoint).expanduser()))
    _refuse_other_encoders(state)
    found = _size(state)
    fitting = [n for n, p in PRESETS.items() if (p.embed_dim, p.depth) == found[:2]]
    if not fitting or settings.preset not in (None, fitting[0]):
        raise ValueError(
            f"{settings.checkpoint} holds {_described(*found)}, but "
            f"{settings.preset or 'one of the presets'} is asked for. {_wanted()}"
        )
    return replace(settings, preset=fitting[0])


def official_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Undoes what training in parallel, or saving the image encoder alone, does to names."""
    if all(name.startswith("module.") for name in state):
        state = {name.removeprefix("module."): tensor for name, tensor in state.items()}
    if PATCH_KERNEL.removeprefix("image_encoder.") in state:
        state = {f"image_encoder.{name}": tensor for name, tensor in state.items()}
    return dict(state)


def same_encoder(state: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> str:
    """Describes the image encoder in the file, having made sure that it is the network's."""
    _refuse_other_encoders(state)
    found, here = _size(state), _size(target)
    heads_differ = found[2] != here[2] and None not in (found[2], here[2])
    if found[:2] != here[:2] or heads_differ:
        raise ValueError(
            f"The file holds {_described(*found)}{_global_blocks(state)}, but the network is "
            f"planned with {_described(*here)}. {_wanted()}"
        )
    return _described(*found)


def _refuse_other_encoders(state: Mapping[str, Tensor]) -> None:
    if PATCH_KERNEL not in state or not _blocks(state):
        raise ValueError(
            f"The file holds no ViT image encoder of SAM: {PATCH_KERNEL!r} is not among its "
            f"{len(state)} tensors ({', '.join(list(state)[:3])}, ...). Encoders of another kind, "
            f"such as the TinyViT of MobileSAM and LiteMedSAM, do not fit. {_wanted()}"
        )


def _blocks(state: Iterable[str]) -> list[int]:
    prefix = "image_encoder.blocks."
    numbers = {name.removeprefix(prefix).split(".")[0] for name in state if name.startswith(prefix)}
    return sorted(int(number) for number in numbers if number.isdecimal())


def _size(state: Mapping[str, Tensor]) -> tuple[int, int, int | None]:
    """Channels, blocks and heads; the heads show in the tables of relative positions alone."""
    channels = state[PATCH_KERNEL].shape[0]
    table = state.get("image_encoder.blocks.0.attn.rel_pos_w")
    heads = None if table is None else channels // table.shape[-1]
    return channels, len(_blocks(state)), heads


def _described(channels: int, blocks: int, heads: int | None) -> str:
    of_size = [name for name, p in PRESETS.items() if (p.embed_dim, p.depth) == (channels, blocks)]
    name = of_size[0] if of_size else "a ViT of no known preset"
    return f"{name} ({channels} channels, {blocks} blocks, {heads or '?'} heads)"


def _global_blocks(state: Mapping[str, Tensor]) -> str:
    """Which blocks of the file attend globally, told by their larger tables."""
    tables = {i: state.get(f"image_encoder.blocks.{i}.attn.rel_pos_w") for i in _blocks(state)}
    rows = {i: len(table) for i, table in tables.items() if table is not None}
    if len(set(rows.values())) < 2:
        return ""
    return f" with global attention at {[i for i, n in rows.items() if n == max(rows.values())]}"


def _wanted() -> str:
    presets = ", ".join(
        f"{name} ({p.embed_dim} channels, {p.depth} blocks, {p.num_heads} heads, global attention "
        f"at {list(p.global_blocks)})"
        for name, p in PRESETS.items()
        if name in PUBLISHED
    )
    return (
        f"SAM's encoders are {presets}: name a checkpoint of the planned preset, or plan with the "
        f"preset of the checkpoint (REFSAM3D_PRESET)."
    )
