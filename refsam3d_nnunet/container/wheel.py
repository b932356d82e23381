"""A wheel of this package as it is installed here."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
import zipfile
from importlib.metadata import Distribution, distributions
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from refsam3d_nnunet.container.requirements import PACKAGE

# What installers write themselves.
_OF_THE_INSTALL = ("INSTALLER", "REQUESTED", "RECORD", "direct_url.json")
_SOURCES = (
    "setup.py",
    "pyproject.toml",
    "README.md",
    "LICENSE",
    "refsam3d_nnunet",
    "planners",
    "trainers",
)
# setuptools alone, not pip: nothing is fetched.
_BUILD = "import sys; from setuptools.build_meta import build_wheel; build_wheel(sys.argv[1])"


def write_wheel(folder: Path) -> Path:
    """Writes the wheel into a folder: repacked, or built if the install is editable.

    Raises:
        ValueError: If the package is not installed, a file of it is missing or changed kind, or
            the build fails.
        OSError: If a file cannot be read or written.
    """
    # A checkout that was built from holds metadata too, but no record of an install.
    one = next((d for d in distributions(name=PACKAGE) if d.read_text("RECORD")), None)
    if one is None:
        raise ValueError(
            f"{PACKAGE} is not installed here, so there is nothing to make a wheel of: run it "
            f"from an environment where `pip install` has installed it."
        )
    source = editable_source(one)
    return _repack(one, folder) if source is None else _build(source, folder)


def editable_source(one: Distribution) -> Path | None:
    """Folder of the sources of an editable install; None for a normal one."""
    origin = json.loads(one.read_text("direct_url.json") or "{}")
    if not origin.get("dir_info", {}).get("editable"):
        return None
    return Path(url2pathname(urlsplit(origin["url"]).path))


def _repack(one: Distribution, folder: Path) -> Path:
    """A wheel is a zip of the files that were installed; commands are made from entry points."""
    names = [str(file.as_posix()) for file in one.files or () if _is_packed(file.as_posix())]
    missing = [name for name in names if not Path(one.locate_file(name)).is_file()]
    tag = _tag(one.read_text("WHEEL") or "")
    if missing or not names or tag is None:
        raise ValueError(
            f"The install of {PACKAGE} is not whole: {missing[0] if missing else 'its record'} is "
            f"missing. Install it again."
        )
    info = next(name for name in names if name.endswith(".dist-info/METADATA")).partition("/")[0]
    path = folder / f"{PACKAGE}-{one.version}-{tag}.whl"
    record = []
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            content = Path(one.locate_file(name)).read_bytes()
            archive.writestr(name, content)
            digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=")
            record.append(f"{name},sha256={digest.decode()},{len(content)}")
        record.append(f"{info}/RECORD,,")
        archive.writestr(f"{info}/RECORD", "\n".join(record) + "\n")
    return path


def _is_packed(name: str) -> bool:
    """Whether a file of an install came out of the wheel."""
    parts = name.split("/")
    if parts[0] in ("..", "", "bin") or "__pycache__" in parts:
        return False
    return not (parts[0].endswith(".dist-info") and parts[-1] in _OF_THE_INSTALL)


def _tag(wheel: str) -> str | None:
    tags = [line.partition(":")[2].strip() for line in wheel.splitlines() if line[:4] == "Tag:"]
    return tags[0] if tags else None


def _build(source: Path, folder: Path) -> Path:
    """Builds a copy of the sources, as a build leaves files behind that the next one packs."""
    with tempfile.TemporaryDirectory() as temporary:
        copy = Path(temporary, "source")
        copy.mkdir()
        for path in (source / name for name in _SOURCES):
            if path.is_dir():
                shutil.copytree(path, copy / path.name, ignore=lambda *_: {"__pycache__"})
            elif path.is_file():
                shutil.copy(path, copy)
        command = [sys.executable, "-c", _BUILD, str(folder.resolve())]
        done = subprocess.run(command, cwd=copy, capture_output=True, text=True, check=False)
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or ["it gave no reason"]
        raise ValueError(
            f"No wheel could be built of {source}, where {PACKAGE} is installed from (editable): "
            f"{last[0]}. `pip install 'setuptools>=70.1'`, or install {PACKAGE} without -e."
        )
    return next(folder.glob(f"{PACKAGE}-*.whl"))
