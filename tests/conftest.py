"""Settings and fixtures of all tests."""

import os
from pathlib import Path

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
def shared_data() -> Path:
    """Folder of labelled volumes, which lies beside the checkout where there is one."""
    path = REPO.parent / "shared" / "data"
    if not path.is_dir():
        pytest.skip(f"no labelled volumes at {path}")
    return path
