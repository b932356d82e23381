"""Locks end with their process."""

import os
import subprocess
import sys

import pytest

from refsam3d_nnunet.crossval.locks import exclusive, is_held
from tests.crossval.conftest import wait_for

HOLD = """
import sys, time
from pathlib import Path
from refsam3d_nnunet.crossval.locks import exclusive
with exclusive(Path(sys.argv[1]), "it"):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path, repo):
    path = tmp_path / "new" / "lock"
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True, cwd=repo
    )
    assert process.stdout.readline() == "held\n"
    yield path, process
    process.kill()
    process.communicate()


def test_a_second_holder_is_refused_and_told_who_is_first(holder):
    path, process = holder
    assert is_held(path)
    with pytest.raises(BlockingIOError, match=rf"the study is in use by process {process.pid} on"):
        with exclusive(path, "the study"):
            pass


def test_the_lock_of_a_killed_process_is_free(holder):
    path, process = holder
    process.kill()
    process.wait()
    assert path.read_text()  # the file has stayed
    wait_for(lambda: not is_held(path), 5)
    with exclusive(path, "the study"):
        assert is_held(path)
        assert f"process {os.getpid()} " in path.read_text()
    assert not is_held(path)


def test_a_lock_that_nobody_ever_held(tmp_path):
    assert not is_held(tmp_path / "lock")
