"""A store of weights in a temporary folder, and a server that can do everything wrong."""

import logging

import pytest

from refsam3d_nnunet.weights import transfer
from tests.weights.loopback import Server


@pytest.fixture
def store_folder(tmp_path, monkeypatch):
    folder = tmp_path / "store"
    monkeypatch.setenv("REFSAM3D_WEIGHTS", str(folder))
    return folder


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(transfer, "BACKOFF", 0)
    with Server() as server:
        yield server


@pytest.fixture
def told(caplog):
    caplog.set_level(logging.INFO, logger="refsam3d_nnunet")
    return caplog


def files(folder):
    """Names of what lies in a folder, locks left out."""
    return sorted(file.name for file in folder.iterdir() if file.suffix != ".lock")
