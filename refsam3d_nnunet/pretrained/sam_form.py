"""A checkpoint of any family, put into the form of SAM's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

SAM = "SAM"
PATCH_KERNEL = "image_encoder.patch_embed.proj.weight"
POSITIONS = "image_encoder.pos_embed"


@dataclass(frozen=True)
class SamForm:
    """What every loader hands on: tensors under SAM's names, and how they came about.

    Args:
        family: SAM, or which plain ViT.
        state: Tensors under the names of SAM's checkpoints, positions as [1, h, w, e].
        made_of: For tensors that were renamed, their names in the file.
        changed: For tensors that do not hold the file's numbers, how they were made.
        ignored: Tensors of the file that have no place in SAM's form, and why.
    """

    family: str
    state: Mapping[str, Tensor]
    made_of: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    changed: Mapping[str, str] = field(default_factory=dict)
    ignored: Mapping[str, str] = field(default_factory=dict)

    @property
    def has_relative_positions(self) -> bool:
        """Whether attention in the file's encoder has SAM's tables of relative positions."""
        return any(".attn.rel_pos_" in name for name in self.state)

    def names_in_file(self, name: str) -> tuple[str, ...]:
        """What the file calls a tensor."""
        return self.made_of.get(name, (name,))
