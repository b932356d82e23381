"""Names of tensors against literal tables.

``*`` in a table stands for a number. A name without an ending stands for its weight and its bias.
"""

import re
from collections.abc import Iterable, Mapping

_NUMBER = re.compile(r"(?<=\.)\d+(?=\.|$)")
_ENDING = re.compile(r"\.(weight|bias)$")


def entry(name: str, table: Iterable[str]) -> str | None:
    """The table's entry that a name falls under; None if there is none."""
    pattern = _NUMBER.sub("*", name)
    return next((key for key in (pattern, _ENDING.sub("", pattern)) if key in table), None)


def renamed(name: str, table: Mapping[str, str]) -> str | None:
    """The name that a table of old and new names gives; None if the old one is not in it."""
    key = entry(name, table)
    if key is None:
        return None
    numbers = iter(_NUMBER.findall(name))
    new = re.sub(r"\*", lambda _: next(numbers), table[key])
    ending = _ENDING.search(name)
    return new if ending is None or key.endswith(ending[0]) else new + ending[0]


def listed(names: list[str], most: int = 8) -> str:
    """The first few names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
