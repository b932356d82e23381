"""What the benchmarks of speed share: clocks, memory, counts, and how results are written."""

import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from page_text import facts
from torch import nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from refsam3d_nnunet.files import replacing, write_json

Run = Callable[[], Any]
PACKAGES = ("refsam3d_nnunet", "nnunetv2", "dynamic_network_architectures", "torch")


def seconds(run: Run, device: torch.device, clock: str = "wall") -> float:
    """Time of one call; on a GPU by its own events.

    Args:
        run: What to time.
        device: Where it computes.
        clock: On a CPU, ``wall`` or ``process``, the time that this process computes, which
            other work on the machine changes less; with more than one thread it is their sum.
    """
    if device.type != "cuda":
        now = time.perf_counter if clock == "wall" else time.process_time
        start = now()
        run()
        return now() - start
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    run()
    end.record()
    torch.cuda.synchronize(device)
    return start.elapsed_time(end) / 1000


def interleaved(
    runs: Mapping[str, Run], *, repeats: int, device: torch.device, clock: str = "wall"
) -> dict[str, list[float]]:
    """Seconds of each run, one after the other in every round, so that all see the same machine.

    Args:
        runs: What to time, by name.
        repeats: Rounds.
        device: Where it computes.
        clock: See :func:`seconds`.
    """
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            taken[name].append(seconds(run, device, clock))
    return taken


def summary(values: Sequence[float], base: Sequence[float]) -> dict[str, Any]:
    """Median of a run, and of its ratios to another run of the same round, with their spread.

    Args:
        values: Seconds of each round.
        base: Seconds of the run to compare with, of the same rounds.
    """
    ratios = [value / other for value, other in zip(values, base, strict=True)]
    return {
        "seconds": statistics.median(values),
        "ratio": statistics.median(ratios),
        "ratio_spread": [min(ratios), max(ratios)],
        "all_seconds": list(values),
    }


class _Storages(TorchDispatchMode):
    """Remembers every storage that operations return, without keeping it alive."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: dict[int, tuple[StorageWeakRef, int, int]] = {}

    def __torch_dispatch__(
        self, func: Run, types: object, args: tuple = (), kwargs: dict | None = None
    ) -> object:
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                self.seen[storage._cdata] = (  # noqa: SLF001 - its only name
                    StorageWeakRef(storage),
                    storage.data_ptr(),
                    storage.nbytes(),
                )
        return result


def saved_bytes(network: nn.Module, forward: Run) -> int:
    """Bytes that live between forward and backward, each storage once.

    What is alive counts, whoever keeps it: autograd, or a function that makes a tensor again.
    Parameters and buffers are the network's own and do not count.
    """
    own = {t.untyped_storage().data_ptr() for t in [*network.parameters(), *network.buffers()]}
    with _Storages() as storages:
        graph = forward()
    alive = [
        size
        for reference, address, size in storages.seen.values()
        if not reference.expired() and address not in own
    ]
    del graph
    return sum(alive)


def flops(run: Run) -> int:
    """Floating-point operations of the matrix products, convolutions and attentions of a call."""
    # torch counts the attention of GPUs only.
    on_cpu = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention_flops}
    with FlopCounterMode(display=False, custom_mapping=on_cpu) as counter:
        run()
    return counter.get_total_flops()


def _attention_flops(q: Any, k: Any, v: Any, *_: Any, **__: Any) -> int:  # noqa: ANN401 - shapes
    return sdpa_flop_count(q, k, v)


def peak_on_gpu(run: Run, device: torch.device) -> int:
    """Most bytes of a GPU's memory that tensors held during a call, what was there before too."""
    torch.cuda.reset_peak_memory_stats(device)
    run()
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device)


def allocated(device: torch.device) -> int:
    """Bytes of a GPU's memory that tensors hold now; 0 for a CPU."""
    return torch.cuda.memory_allocated(device) if device.type == "cuda" else 0


def peak_of_process() -> int:
    """Most bytes of memory that this process ever held.

    Linux only: ``getrusage`` would count what the parent process held before this one started.
    """
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def growth(x: Sequence[float], y: Sequence[float]) -> float:
    """Exponent p of the power law y = a x^p that fits best, by least squares on logarithms."""
    import numpy as np

    return float(np.polyfit(np.log(x), np.log(y), 1)[0])


def machine(device: torch.device) -> dict[str, Any]:
    """Where a result comes from: processor, versions."""
    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else None
    return {
        "device": gpu or _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "precision": "float16 autocast" if gpu else "float32",
        "python": platform.python_version(),
        **{name: version(name) for name in PACKAGES},
    }


def command() -> str:
    """The command line as one would type it, from the root of the checkout."""
    return " ".join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]])


def write_result(folder: Path, name: str, result: dict[str, Any], text: str) -> None:
    """Writes FOLDER/NAME.json and FOLDER/NAME.md, and shows the latter."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / f"{name}.json", result)
    with replacing(folder / f"{name}.md") as temporary:
        temporary.write_text(text, encoding="utf-8")
    print(text)


def footer(result: Mapping[str, Any]) -> list[str]:
    """Lines that say how a result was made."""
    return ["", f"    {result['command']}", "", f"Machine: {facts(result['machine'])}.", ""]


def times(value: float | None) -> str:
    """A ratio as text."""
    return "" if value is None else f"{value:.2f}x"


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "cpu"
