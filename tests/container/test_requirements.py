"""Pins of all packages below ours, as they are installed."""

import logging
from importlib.metadata import PackageNotFoundError
from types import SimpleNamespace

import pytest

from refsam3d_nnunet.container import requirements
from refsam3d_nnunet.container.requirements import pinned

HERE = {
    "refsam3d-nnunet": ("0.1", ["torch>=2.6", "Scipy", "transformers>=4", "pytest; extra == 'x'"]),
    "torch": ("2.14.0+cpu", ["nvidia-cublas==13", "triton; platform_system=='Linux'", "sympy"]),
    "sympy": ("1.14", ["scipy"]),
    "scipy": ("1.17", ["Win.Only ; sys_platform == 'win32'", "sympy"]),
    "transformers": ("5.0", ["tokenizers"]),
    "tokenizers": ("0.2", []),
    "pytest": ("9.0", []),
    "nvidia-cublas": ("13", []),
    "triton": ("3.8", []),
}


@pytest.fixture
def origins(monkeypatch) -> dict[str, str]:
    """Stands in for what is installed; a test says where a package came from."""
    known = {}

    def distribution(name):
        name = name.replace("_", "-")
        if name not in HERE:
            raise PackageNotFoundError(name)
        version, requires = HERE[name]
        return SimpleNamespace(
            version=version, requires=requires, read_text=lambda _: known.get(name)
        )

    monkeypatch.setattr(requirements, "distribution", distribution)
    return known


def test_all_that_is_needed_is_pinned(origins):
    assert pinned() == ["scipy==1.17", "sympy==1.14", "torch==2.14.0"]


def test_a_package_from_elsewhere_is_named(origins, caplog):
    origins["scipy"] = "{}"
    with caplog.at_level(logging.WARNING):
        assert "scipy==1.17" in pinned()
    assert "scipy was installed from a file or an address" in caplog.text
    assert "torch" not in caplog.text
