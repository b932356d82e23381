"""Plain ViTs, of timm's or transformers' spelling, in the form of SAM's image encoder."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping

import torch
from torch import Tensor

from refsam3d_nnunet.pretrained.keys import listed, renamed
from refsam3d_nnunet.pretrained.sam_form import POSITIONS, SamForm
from refsam3d_nnunet.pretrained.vit_keys import PLAIN_VITS, VitKeys

ENCODER = "image_encoder."
OUTSIDE = "not part of the image encoder"


def plain_vit(state: Mapping[str, Tensor]) -> SamForm | None:
    """Puts a plain ViT into SAM's form.

    Queries, keys and values become one layer. LayerScale is folded into the layer that it
    scales, exactly: ``g * (W x + b) = (g W) x + g b``. The class token and others of its kind are
    left aside, so the image tokens see each other alone.

    Args:
        state: State dict of the ViT, or of a model of which it is a part; float32.

    Returns:
        The encoder in SAM's form; None if the file holds no plain ViT of a known spelling.

    Raises:
        ValueError: If there are several ViTs, or the one has tensors that SAM's encoder has no
            place for, half of a layer, or a table of positions that is not square.
    """
    found = _spelling(state)
    if found is None:
        return None
    keys, prefix = found
    bare = {n.removeprefix(prefix): t for n, t in state.items() if n.startswith(prefix)}
    ignored = {n: OUTSIDE for n in state if not n.startswith(prefix)}
    ignored |= {prefix + name: why for name in bare if (why := _why_not_used(name, keys))}
    places = {name: ENCODER + new for name in bare if (new := renamed(name, keys.keys))}
    thirds = {name: ENCODER + new for name in bare if (new := renamed(name, keys.joined))}
    scales = {name: ENCODER + new for name in bare if (new := renamed(name, keys.scales))}
    known = {*places, *thirds, *scales, keys.positions}
    unknown = [n for n in bare if n not in known and prefix + n not in ignored]
    if unknown:
        raise ValueError(
            f"The file's image encoder is a ViT as {keys.library} spells it, but has "
            f"{len(unknown)} tensors that a plain ViT has not: {listed(unknown)}. Nothing was "
            f"copied. ViTs with gated MLPs, rotary positions or convolutions do not fit."
        )

    made = {new: bare[name] for name, new in places.items()}
    changed: dict[str, str] = {}
    for new, names in _inverted(thirds).items():
        made[new] = _joined(names, bare, keys)
        changed[new] = "queries, keys and values joined"
    for name, layer in scales.items():
        for tensor in (f"{layer}.weight", f"{layer}.bias"):
            made[tensor] = _scaled(made, tensor, bare[name])
            changed[tensor] = "LayerScale folded in"
    if keys.positions in bare:
        others = sum(t.shape[1] for name, t in bare.items() if name in keys.other_tokens)
        made[POSITIONS], changed[POSITIONS] = _square_table(bare[keys.positions], others)
        places[keys.positions] = POSITIONS
    return SamForm(
        family=f"plain ViT ({keys.library}{', LayerScale' if scales else ''})",
        state=made,
        made_of={
            new: tuple(prefix + name for name in names)
            for new, names in _inverted(places | thirds).items()
        },
        changed={name: how for name, how in changed.items() if how},
        ignored=ignored,
    )


def _spelling(state: Mapping[str, Tensor]) -> tuple[VitKeys, str] | None:
    """Which spelling, and what stands in front of the encoder's names."""
    found = [
        (keys, prefix)
        for keys in PLAIN_VITS
        for name in state
        if (prefix := name.removesuffix(keys.patch_kernel)) != name
        and any(prefix + mark in state for mark in keys.first_block)
    ]
    if len(found) > 1:
        raise ValueError(
            f"The file holds {len(found)} image encoders, {listed([p for _, p in found])}. "
            f"Nothing was copied. Save the tensors of the one you want alone."
        )
    return found[0] if found else None


def _why_not_used(name: str, keys: VitKeys) -> str | None:
    return next((why for start, why in keys.not_used.items() if name.startswith(start)), None)


def _inverted(names: Mapping[str, str]) -> dict[str, list[str]]:
    inverted: dict[str, list[str]] = defaultdict(list)
    for name, new in names.items():
        inverted[new].append(name)
    return inverted


def _joined(names: list[str], state: Mapping[str, Tensor], keys: VitKeys) -> Tensor:
    """Queries, keys and values one below the other, in the order of the table."""
    order = [renamed_stem.rpartition(".")[2] for renamed_stem in keys.joined]
    parts = sorted(names, key=lambda name: order.index(name.rpartition(".")[0].rpartition(".")[2]))
    if len(parts) != 3:
        raise ValueError(
            f"The file has {len(parts)} of queries, keys and values of one layer: "
            f"{listed(parts)}. Nothing was copied; use an unaltered checkpoint."
        )
    return torch.cat([state[name] for name in parts])


def _scaled(made: Mapping[str, Tensor], name: str, scale: Tensor) -> Tensor:
    if name not in made or made[name].shape[0] != len(scale):
        raise ValueError(
            f"The file has a LayerScale of {list(scale.shape)} for {name}, which is "
            f"{list(made[name].shape) if name in made else 'not in the file'}. Nothing was copied."
        )
    return made[name] * (scale[:, None] if made[name].ndim == 2 else scale)


def _square_table(table: Tensor, others: int) -> tuple[Tensor, str]:
    """Positions [1, h, w, e] of the image tokens, from a table [1, extra + h * w, e].

    The extra rows belong to some or all of the ``others`` tokens: models differ there.
    """
    if table.ndim != 3 or table.shape[0] != 1:
        raise ValueError(
            f"The file's table of positions is {list(table.shape)}, wanted is [1, tokens, "
            f"channels]. Nothing was copied."
        )
    side = math.isqrt(table.shape[1])
    extra = table.shape[1] - side**2
    if extra > others:
        raise ValueError(
            f"The file's table of positions has {table.shape[1]} rows, which are no square of "
            f"image tokens with at most the {others} other tokens of the file in front. Nothing "
            f"was copied."
        )
    how = f"without the {extra} in front of the image's" if extra else ""
    if others and not extra:
        how = f"taken as {side}x{side}, with none of the {others} other tokens in it"
    return table[:, extra:].unflatten(1, (side, side)), how
