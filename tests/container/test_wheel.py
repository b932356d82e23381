"""A wheel of what is installed: repacked by its record, or built where it is editable."""

import base64
import hashlib
import json
import subprocess
import sys
import zipfile
from importlib.metadata import PathDistribution
from pathlib import Path

import pytest

from refsam3d_nnunet.container import wheel as module
from refsam3d_nnunet.container.wheel import write_wheel

INFO = "refsam3d_nnunet-1.2.dist-info"
PACKED = {
    "refsam3d_nnunet.pth": "import sys\n",
    "refsam3d_nnunet/__init__.py": "X = 'ä'\n",
    "refsam3d_nnunet/container/files/Dockerfile": "FROM python\n",
    f"{INFO}/METADATA": "Metadata-Version: 2.1\nName: refsam3d_nnunet\nVersion: 1.2\n",
    f"{INFO}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    f"{INFO}/entry_points.txt": "[console_scripts]\nrefsam3d = refsam3d_nnunet.cli:main\n",
    f"{INFO}/licenses/LICENSE": "Apache\n",
}
LEFT_BEHIND = {
    "../../../bin/refsam3d": "#!/home/me/bin/python\n",
    "refsam3d_nnunet/__pycache__/__init__.cpython-311.pyc": "code",
    f"{INFO}/INSTALLER": "pip\n",
    f"{INFO}/REQUESTED": "",
    f"{INFO}/direct_url.json": json.dumps({"url": "file:///home/me/x", "dir_info": {}}),
}


@pytest.fixture
def installed(tmp_path, monkeypatch) -> Path:
    """An environment's site-packages, as pip leaves it."""
    site = tmp_path / "lib" / "python3" / "site-packages"
    for name, content in {**PACKED, **LEFT_BEHIND}.items():
        path = site / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    lines = [f"{name},sha256=x,1" for name in (*PACKED, *LEFT_BEHIND)]
    (site / INFO / "RECORD").write_text("\n".join([*lines, f"{INFO}/RECORD,,"]) + "\n")
    use(monkeypatch, site / INFO)
    return site


def use(monkeypatch, *infos: Path) -> None:
    found = [PathDistribution(info) for info in infos]
    monkeypatch.setattr(module, "distributions", lambda name: iter(found))


@pytest.fixture
def out(tmp_path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


def test_a_normal_install_is_repacked(installed, out):
    wheel = write_wheel(out)
    assert [wheel] == list(out.iterdir())
    assert wheel.name == "refsam3d_nnunet-1.2-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    record = content.pop(f"{INFO}/RECORD").decode().splitlines()
    assert content == {name: text.encode() for name, text in PACKED.items()}
    assert record.pop() == f"{INFO}/RECORD,,"
    for line in record:
        name, digest, size = line.split(",")
        binary = base64.urlsafe_b64decode(digest.removeprefix("sha256=") + "=")
        assert binary == hashlib.sha256(content[name]).digest()
        assert int(size) == len(content[name])
    assert len(record) == len(content)


def test_pip_installs_it_with_hook_and_command(installed, out, tmp_path):
    pip = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--quiet"]
    subprocess.run([*pip, "--target", str(tmp_path / "new"), str(write_wheel(out))], check=True)
    for name, text in PACKED.items():
        assert (tmp_path / "new" / name).read_text(encoding="utf-8") == text
    command = (tmp_path / "new" / "bin" / "refsam3d").read_text()
    assert "refsam3d_nnunet.cli" in command
    assert "/home/me" not in command


def test_what_a_build_left_in_a_checkout_is_no_install(installed, out, tmp_path, monkeypatch):
    egg = tmp_path / "checkout" / "refsam3d_nnunet.egg-info"
    egg.mkdir(parents=True)
    (egg / "PKG-INFO").write_text("Metadata-Version: 2.1\nName: refsam3d_nnunet\nVersion: 9\n")
    use(monkeypatch, egg, installed / INFO)
    assert write_wheel(out).name == "refsam3d_nnunet-1.2-py3-none-any.whl"


def test_an_install_that_lost_a_file_is_refused(installed, out):
    (installed / "refsam3d_nnunet" / "__init__.py").unlink()
    with pytest.raises(ValueError, match="not whole: refsam3d_nnunet/__init__.py is missing"):
        write_wheel(out)
    assert list(out.iterdir()) == []


def editable(monkeypatch, site: Path, source: Path) -> None:
    origin = {"url": source.as_uri(), "dir_info": {"editable": True}}
    (site / INFO / "direct_url.json").write_text(json.dumps(origin))


@pytest.fixture
def source(tmp_path) -> Path:
    """A checkout whose path needs quoting, with what an earlier build left."""
    folder = tmp_path / "my checkout"
    files = {
        "setup.py": "from setuptools import setup\n"
        "setup(name='refsam3d_nnunet', version='3.4', packages=['refsam3d_nnunet'])\n",
        "refsam3d_nnunet/__init__.py": "Y = 1\n",
        "refsam3d_nnunet/__pycache__/x.pyc": "",
        "build/lib/refsam3d_nnunet/stale.py": "",
    }
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    return folder


def test_an_editable_install_is_built_from_a_copy(installed, source, out, monkeypatch):
    editable(monkeypatch, installed, source)
    before = sorted(source.rglob("*"))
    wheel = write_wheel(out)
    assert wheel.name == "refsam3d_nnunet-3.4-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as archive:
        code = [name for name in archive.namelist() if name.endswith((".py", ".pyc"))]
    assert code == ["refsam3d_nnunet/__init__.py"]
    assert sorted(source.rglob("*")) == before


def test_a_build_that_fails_says_why(installed, source, out, monkeypatch):
    editable(monkeypatch, installed, source)
    (source / "setup.py").write_text("raise RuntimeError('no compiler')")
    with pytest.raises(ValueError, match=r"No wheel .*my checkout.*no compiler\. `pip install"):
        write_wheel(out)


def test_a_package_that_is_not_installed_is_refused(out, monkeypatch):
    use(monkeypatch)
    with pytest.raises(ValueError, match="refsam3d_nnunet is not installed here"):
        write_wheel(out)
