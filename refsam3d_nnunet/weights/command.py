"""`refsam3d weights`: what is here, bringing it here, and making checkpoints whole."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from refsam3d_nnunet.environment import weights_folder
from refsam3d_nnunet.weights import store
from refsam3d_nnunet.weights.registry import REGISTRY, Hub

Answer = tuple[str, int]


def run(args: argparse.Namespace) -> Answer:
    """Runs a sub-command.

    Returns:
        What goes to standard output, and the exit status.

    Raises:
        ValueError: If a file is not what it should be.
        OSError: If a file is missing or cannot be fetched or written.
    """
    return COMMANDS[args.weights_command](args)


def table(items: list[store.Item]) -> str:
    """Lists weights as a table of plain text, without reading the files."""
    rows = [("NAME", "HERE", "SIZE", "CHECKED BY", "SERVES", "LICENCE")]
    rows += [_row(item) for item in items]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)
    folder = f"Folder: {weights_folder()}. `refsam3d weights get NAME` brings what is not here."
    return "\n".join([*lines, "", folder])


def _row(item: store.Item) -> tuple[str, ...]:
    entry, state = item.entry, item.state(hashed=False)
    here = {store.MISSING: "no", store.DAMAGED: "damaged"}.get(state, "yes")
    if entry is None:
        size = item.path.stat().st_size
        by = "its first hash" if item.sha256 else "nothing"
        return item.name, here, _megabytes(size), by, "your own file", "-"
    by = "its first hash" if entry.sha256 is None else "SHA-256"
    return item.name, here, _megabytes(entry.size), by, entry.serves, entry.licence


def _megabytes(size: int | None) -> str:
    return "?" if size is None else f"{size / 1e6:.0f} MB"


def _items() -> list[store.Item]:
    return [*map(store.registered, REGISTRY.values()), *store.added()]


def _list(args: argparse.Namespace) -> Answer:
    return table(_items()), 0


def _get(args: argparse.Namespace) -> Answer:
    from refsam3d_nnunet.weights.fetch import get

    return str(get(args.name, args.from_file)), 0


def _add(args: argparse.Namespace) -> Answer:
    from refsam3d_nnunet.weights.fetch import add

    return str(add(args.file, args.name, replace=args.replace)), 0


def _verify(args: argparse.Namespace) -> Answer:
    items = [store.find(name) for name in args.names] if args.names else _items()
    lines, status = [], 0
    for item in items:
        state = item.state(hashed=True)
        if state == store.MISSING and not args.names:
            continue
        status |= state in (store.DAMAGED, store.MISSING)
        lines.append(f"{item.name}: {state}{_advice(item, state)}")
    return "\n".join(lines or ["There is nothing to verify."]), int(status)


def _advice(item: store.Item, state: str) -> str:
    if state == store.WHOLE:
        return ""
    if state == store.UNKNOWN:
        return f", as no SHA-256 of it is known ({item.path})"
    place = f" ({item.path})" if item.path else ""
    return f"{place}; {item.remedy}"


def _where(args: argparse.Namespace) -> Answer:
    if args.name is None:
        return str(weights_folder()), 0
    item = store.find(args.name)
    if item.entry is None or not item.entry.text_encoder:
        return str(store.locate(args.name)), 0
    if item.path is None:
        raise FileNotFoundError(f"{item.name} is not on this machine; get it with {item.remedy}")
    is_hub = isinstance(item.entry.source, Hub)
    return str(item.path.parent if is_hub else item.path), 0


def _merge(args: argparse.Namespace) -> Answer:
    from refsam3d_nnunet.slim.merge import run_merge

    return run_merge(args)


def _export(args: argparse.Namespace) -> Answer:
    from refsam3d_nnunet.slim.merge import run_export

    return run_export(args)


COMMANDS: dict[str, Callable[[argparse.Namespace], Answer]] = {
    "list": _list,
    "get": _get,
    "add": _add,
    "verify": _verify,
    "where": _where,
    "merge": _merge,
    "export": _export,
}
