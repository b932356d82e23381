"""Settings and fixtures of all tests."""

import importlib.util
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from refsam3d_nnunet import _autoload

REPO = Path(__file__).resolve().parents[1]

# nnU-Net reads these when it is imported; several pytest workers share the machine's cores.
for _name in ("nnUNet_def_n_proc", "nnUNet_n_proc_DA", "OMP_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

_autoload.install()  # for a checkout that is not installed, where no .pth file does it


def pytest_report_header() -> str:
    """Says which copy is tested: after `pip install .` it is not the checkout's."""
    return f"refsam3d_nnunet: {Path(_autoload.__file__).parent}"


@pytest.fixture(scope="session")
def repo() -> Path:
    """Root folder of the checkout."""
    return REPO


@pytest.fixture(scope="session")
def load_benchmark(repo) -> Iterator[Callable[[str], ModuleType]]:
    """Function that imports a script of benchmarks/ by its name.

    Scripts find their helpers beside them, and trainers theirs as nnU-Net sees to it.
    """

    def _load(name: str) -> ModuleType:
        path = repo / "benchmarks" / f"{name}.py"
        spec = importlib.util.spec_from_file_location(f"benchmarks_{name}", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    with pytest.MonkeyPatch.context() as patch:
        for folder in ("trainers", ""):
            patch.syspath_prepend(str(repo / "benchmarks" / folder))
        yield _load


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of labelled volumes, which lies beside the checkout where there is one."""
    path = REPO.parent / "shared" / "data"
    if not path.is_dir():
        pytest.skip(f"no labelled volumes at {path}")
    return path
