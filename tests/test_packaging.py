"""What the wheels carry, and what an install leaves behind."""

import shutil
import subprocess
import sys
import venv
import zipfile
from collections import namedtuple

import pytest

from refsam3d_nnunet import __version__

SOURCES = ("setup.py", "pyproject.toml", "LICENSE", "refsam3d_nnunet", "planners", "trainers")
PTH = "refsam3d_nnunet.pth"
INFO = f"refsam3d_nnunet-{__version__}.dist-info"

Environment = namedtuple("Environment", "python site_packages")


def _run(*command, cwd):
    """Runs a command that must succeed and returns all it wrote."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def _text(wheel, name):
    with zipfile.ZipFile(wheel) as archive:
        return archive.read(name).decode()


@pytest.fixture(scope="module")
def checkout(repo, tmp_path_factory):
    """A copy of the sources, as a build leaves files behind in the folder it runs in."""
    copy = tmp_path_factory.mktemp("checkout")
    for source in (repo / name for name in SOURCES):
        if source.is_dir():
            shutil.copytree(source, copy / source.name, ignore=lambda *_: {"__pycache__"})
        else:
            shutil.copy(source, copy)
    return copy


@pytest.fixture(scope="module")
def regular_wheel(checkout, tmp_path_factory):
    """What `pip install .` installs."""
    folder = tmp_path_factory.mktemp("regular")
    options = ("--no-deps", "--no-build-isolation", "--wheel-dir", folder)
    _run(sys.executable, "-m", "pip", "wheel", *options, checkout, cwd=folder)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module", params=["regular", "lenient", "strict"])
def wheel(request, checkout, tmp_path_factory):
    """The regular wheel, and what `pip install -e .` installs in its two modes."""
    if request.param == "regular":
        return request.getfixturevalue("regular_wheel")
    folder = tmp_path_factory.mktemp("editable")
    arguments = f"{str(folder)!r}, {{'editable_mode': {request.param!r}}}"
    build = f"from setuptools.build_meta import build_editable; build_editable({arguments})"
    _run(sys.executable, "-c", build, cwd=checkout)
    return next(folder.glob("*.whl"))


@pytest.fixture
def environment(tmp_path):
    """A virtual environment with nothing in it."""
    builder = venv.EnvBuilder(symlinks=sys.platform != "win32")
    context = builder.ensure_directories(tmp_path / "venv")
    builder.create(context.env_dir)
    site_packages = next((tmp_path / "venv").rglob("site-packages"))
    return Environment(context.env_exe, site_packages)


def test_the_regular_wheel_carries_every_source_file(regular_wheel, checkout):
    expected = {PTH, "refsam3d_nnunet/py.typed"}
    for folder, target in [
        ("refsam3d_nnunet", "refsam3d_nnunet"),
        ("planners", "refsam3d_nnunet/planners"),
        ("trainers", "refsam3d_nnunet/trainers"),
    ]:
        root = checkout / folder
        sources = [file for file in root.rglob("*") if file.is_file()]
        expected |= {f"{target}/{file.relative_to(root).as_posix()}" for file in sources}

    with zipfile.ZipFile(regular_wheel) as archive:
        packed = {name for name in archive.namelist() if not name.startswith(INFO)}

    assert packed == expected


def test_the_wheel_declares_what_it_needs_and_its_command(regular_wheel):
    metadata = _text(regular_wheel, f"{INFO}/METADATA").splitlines()

    assert {"Name: refsam3d_nnunet", "License: Apache-2.0", "Requires-Python: >=3.10"} < {*metadata}
    assert {"Requires-Dist: nnunetv2<3,>=2.8", "Requires-Dist: torch>=2.6"} < {*metadata}
    scripts = _text(regular_wheel, f"{INFO}/entry_points.txt")
    assert "refsam3d = refsam3d_nnunet.cli:main" in scripts


def test_every_wheel_carries_the_hook(wheel):
    line, end, rest = _text(wheel, PTH).partition("\n")

    assert line.startswith("import ")  # or Python takes the line for the name of a folder
    assert "refsam3d_nnunet._autoload" in line
    assert (end, rest) == ("\n", "")
    assert PTH in _text(wheel, f"{INFO}/RECORD")


def test_an_install_works_and_an_uninstall_leaves_nothing(wheel, environment, tmp_path):
    pip = (sys.executable, "-m", "pip", "--python", environment.python)
    started = "import sys; print('refsam3d_nnunet._autoload' in sys.modules)"
    imported = "import refsam3d_nnunet.planners, refsam3d_nnunet.trainers"

    _run(*pip, "install", "--no-deps", "--no-index", wheel, cwd=tmp_path)
    assert _run(environment.python, "-c", started, cwd=tmp_path) == "True\n"
    assert _run(environment.python, "-c", imported, cwd=tmp_path) == ""

    _run(*pip, "uninstall", "--yes", "refsam3d_nnunet", cwd=tmp_path)
    assert list(environment.site_packages.glob("*refsam3d*")) == []
    assert _run(environment.python, "-c", started, cwd=tmp_path) == "False\n"


def test_the_hook_is_silent_where_the_package_is_gone(regular_wheel, environment, tmp_path):
    """As after an editable install whose checkout was deleted."""
    (environment.site_packages / PTH).write_text(_text(regular_wheel, PTH), encoding="utf-8")

    assert _run(environment.python, "-c", "pass", cwd=tmp_path) == ""
