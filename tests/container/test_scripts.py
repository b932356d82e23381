"""The shell scripts of a submission folder, with something else in Docker's place."""

import gzip
import os
import shutil
import subprocess
import tarfile

import pytest

from tests.prediction.tiny_model import FINAL

pytestmark = [
    # nnU-Net's, not ours
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]


@pytest.mark.parametrize("name", ["build.sh", "test_run.sh", "save.sh"])
def test_scripts_are_shell(written, name):
    assert (written / name).stat().st_mode & 0o111
    subprocess.run(["bash", "-n", str(written / name)], check=True)


@pytest.fixture
def docker(written, tmp_path):
    """Runs a script of a copy of the folder; returns what it would have told Docker."""
    (tmp_path / "bin").mkdir()
    stub = tmp_path / "bin" / "docker"
    stub.write_text('#!/usr/bin/env bash\necho "docker $*"\n')
    stub.chmod(0o755)
    box = shutil.copytree(written, tmp_path / "box")

    def _run(name: str, *arguments: object, status: int = 0) -> str:
        environment = {**os.environ, "PATH": f"{stub.parent}{os.pathsep}{os.environ['PATH']}"}
        command = ["bash", str(box / name), *map(str, arguments)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == status, done.stderr
        return done.stdout + done.stderr

    return _run


def test_the_image_is_built_with_and_without_the_model(docker):
    platform = "docker build --platform linux/amd64"
    assert docker("build.sh") == f"{platform} --target plain --tag my-submission .\n"
    told = docker("build.sh", "with-model", "--build-arg", "PYTHON=3.12")
    assert told == (
        f"{platform} --target with-model --tag my-submission --build-arg PYTHON=3.12 .\n"
    )


def test_the_image_is_run_offline_in_both_layouts(docker, tmp_path):
    given, out = tmp_path / "given", tmp_path / "out"
    (given / "images").mkdir(parents=True)
    told = docker("test_run.sh", given, out)
    for option in ("--network none", "--user 4242:4242", "--read-only --tmpfs /tmp"):
        assert option in told
    assert f"--volume {given}:/input:ro --volume {out}:/output " in told
    assert f"--volume {tmp_path / 'box' / 'model'}:/opt/ml/model:ro " in told
    assert told.endswith(" my-submission\n")
    (given / "images").rmdir()
    told = docker("test_run.sh", given, out, "with-model")
    assert f"--volume {given}:/workspace/inputs:ro --volume {out}:/workspace/outputs" in told
    assert "/opt/ml/model" not in told
    assert docker("test_run.sh", given, status=2).startswith("./test_run.sh INPUT OUTPUT")


def test_what_is_uploaded(docker, tmp_path):
    docker("save.sh")
    with tarfile.open(tmp_path / "box" / "model.tar.gz") as archive:
        names = {name.removeprefix("./") for name in archive.getnames()}
    assert {"plans.json", "dataset.json", f"fold_0/{FINAL}"} <= names
    with gzip.open(tmp_path / "box" / "my-submission.tar.gz", "rt") as image:
        assert image.read() == "docker save my-submission\n"
