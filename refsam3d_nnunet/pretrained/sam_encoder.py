"""Which image encoder a checkpoint holds, and whether it is the one planned."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torch import Tensor

from refsam3d_nnunet.config import PRESETS
from refsam3d_nnunet.pretrained.sam_form import PATCH_KERNEL


def preset_of(state: Mapping[str, Tensor], wanted: str | None) -> str:
    """The preset of a file's image encoder.

    Args:
        state: State dict in SAM's form.
        wanted: The preset asked for; None for any.

    Raises:
        ValueError: If no preset has that size, or another one is asked for.
    """
    found = _size(state)
    fitting = [name for name, p in PRESETS.items() if (p.embed_dim, p.depth) == found[:2]]
    if not fitting or wanted not in (None, fitting[0]):
        raise ValueError(
            f"The file holds {_described(*found)}, but {wanted or 'one of the presets'} is asked "
            f"for. {_wanted()}"
        )
    return fitting[0]


def same_encoder(state: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> str:
    """Describes the image encoder in the file, having made sure that it is the network's.

    Raises:
        ValueError: If it is of another size.
    """
    found, here = _size(state), _size(target)
    heads_differ = found[2] != here[2] and None not in (found[2], here[2])
    if found[:2] != here[:2] or heads_differ:
        raise ValueError(
            f"The file holds {_described(*found)}{_global_blocks(state)}, but the network is "
            f"planned with {_described(*here)}. {_wanted()}"
        )
    heads = "" if found[2] else f", taken to have the plan's {here[2]} heads"
    return _described(*found) + heads


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
    )
    return (
        f"The presets are {presets}; SAM's are vit_b, vit_l and vit_h. Name a checkpoint of the "
        f"planned preset, or plan with the preset of the checkpoint (REFSAM3D_PRESET)."
    )
