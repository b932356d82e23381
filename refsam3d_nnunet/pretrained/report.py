"""What a loader of weights says it did."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class LoadReport:
    """What became of every tensor, on both sides.

    Args:
        encoder: Size of the image encoder in the file.
        loaded: Tensors of the network that hold the file's numbers as they are.
        adapted: Tensors of the network made from the file's, and how.
        fresh: Tensors of the network that kept their numbers, and why.
        ignored: Tensors of the file that were not used, and why.
    """

    encoder: str
    loaded: tuple[str, ...]
    adapted: dict[str, str]
    fresh: dict[str, str]
    ignored: dict[str, str]

    def summary(self) -> str:
        """A line per kind of fate and reason, for logs."""
        lines = [f"Weights of {self.encoder}: {len(self.loaded)} tensors loaded as they are"]
        for title, fates in (
            ("adapted", self.adapted),
            ("fresh", self.fresh),
            ("ignored", self.ignored),
        ):
            for reason, count in Counter(fates.values()).items():
                first = next(name for name, why in fates.items() if why == reason)
                more = f" and {count - 1} more" if count > 1 else ""
                lines.append(f"  {title}: {first}{more} ({reason})")
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """The report as plain dicts, lists and strings."""
        return {**asdict(self), "loaded": list(self.loaded)}
