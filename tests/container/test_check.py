"""`refsam3d container DIR --check`: the folder's inference.py, run as a platform runs it."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from refsam3d_nnunet import cli
from refsam3d_nnunet.container import runtime
from refsam3d_nnunet.container.check import check, label_names
from tests.prediction.tiny_model import LABELS, REGIONS

SCRIPT = Path(runtime.__file__).with_name("files") / "inference.py"
HEAD = """
import os, sys
from pathlib import Path
import SimpleITK as sitk
INPUTS = ["ct"]
names = [f"REFSAM3D_CONTAINER_{name}" for name in ("INPUT", "OUTPUT", "MODEL")]
given, out, model = (Path(os.environ[name]) for name in names)
image = sitk.ReadImage(str(given / "images" / "ct" / "x.mha"))
labels = sitk.Cast(image > 1000, sitk.sitkUInt8)
target = out / "images" / "kidneys"
target.mkdir(parents=True)
"""
WRITE = "sitk.WriteImage(labels, str(target / 'x.mha'))\n"


@pytest.fixture
def folder(tmp_path) -> Path:
    """A folder whose inference.py a test writes."""
    (tmp_path / "box" / "model").mkdir(parents=True)
    dataset = {"labels": LABELS, "channel_names": {"0": "CT"}}
    (tmp_path / "box" / "model" / "dataset.json").write_text(json.dumps(dataset))
    return tmp_path / "box"


@pytest.fixture
def file(image, tmp_path) -> Path:
    path = tmp_path / "x.nii.gz"
    sitk.WriteImage(sitk.DICOMOrient(image, "RAS"), str(path))
    return path


def run(folder: Path, file: Path, script: str) -> tuple[str, int]:
    (folder / "inference.py").write_text(HEAD + script)
    return check(folder, [file])


def test_the_real_thing_one_case_and_a_folder(written, image, tmp_path, capsys):
    """What is written is found again by both layouts; seconds, labels, geometry are told."""
    for code in ("RAS", "PIR"):
        sitk.WriteImage(sitk.DICOMOrient(image, code), str(tmp_path / f"{code}_0000.nii.gz"))
    assert cli.main(["container", str(written), "--check", str(tmp_path / "RAS_0000.nii.gz")]) == 0
    one = capsys.readouterr().out
    assert re.match(
        r"1 case in \d+\.\d s, start of Python and loading of the model included\n", one
    )
    assert "images/kidneys/RAS_0000.mha: size, spacing, origin and direction are the input's" in one

    assert cli.main(["container", str(written), "--check", str(tmp_path)]) == 0
    both = capsys.readouterr().out
    assert "2 cases in " in both
    assert "\nRAS.nii.gz: size, spacing, origin and direction are the input's" in both
    assert "\nPIR.nii.gz: size, spacing, origin and direction are the input's" in both
    counts = re.findall(r"(\d)  (\w+): (\d+) voxels", both)
    assert counts[:3] == counts[3:] == re.findall(r"(\d)  (\w+): (\d+) voxels", one)
    assert [name for _, name, _ in counts[:3]] == ["background", "kidney_left", "kidney_right"]
    assert sum(int(count) for _, _, count in counts[:3]) == np.prod(image.GetSize())
    assert sum(int(count) > 0 for _, _, count in counts[:3]) > 1


def test_places_and_surroundings(folder, file, monkeypatch):
    """The script of the package reads what the check sets; the user's settings stay outside."""
    for name in ("INPUT", "OUTPUT", "MODEL"):
        assert f'place("{name}", ' in SCRIPT.read_text()
        assert getattr(runtime, name) == f"REFSAM3D_CONTAINER_{name}"
    monkeypatch.setenv("REFSAM3D_PROMPTS", "liver")
    monkeypatch.setenv("nnUNet_results", "/mine")
    monkeypatch.setenv("HOME", "/home/me")
    text, status = run(
        folder,
        file,
        WRITE + "e = os.environ; tmp = e['XDG_CACHE_HOME']\n"
        "assert 'HOME' not in e and 'REFSAM3D_PROMPTS' not in e and e['HF_HUB_OFFLINE'] == '1'\n"
        "assert e['nnUNet_results'] != '/mine' and Path(tmp).parent.is_dir()\n"
        "assert (Path.cwd() / 'tmp' / 'cache') == Path(tmp)\n",
    )
    assert status == 0, text


def test_a_lost_geometry_is_told(folder, file):
    text, status = run(folder, file, "labels.SetOrigin((0, 0, 0))\n" + WRITE)
    assert "kidneys/x.mha: size, spacing, origin and direction are NOT THE INPUT'S" in text
    assert status == 1


def test_an_unknown_label_is_told(folder, file):
    text, status = run(folder, file, "labels = labels + 7\n" + WRITE)
    assert re.search(r"7  NO LABEL: \d+ voxels", text)
    assert status == 1


def test_a_missing_output_is_told(folder, file):
    assert run(folder, file, "")[0].endswith("x.nii.gz: NO OUTPUT images/*/x.mha")
    assert run(folder, file, "\n")[1] == 1


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("raise KeyError('weights')", "failed with exit status 1: KeyError: 'weights'"),
        (WRITE + "sys.exit(3)", "failed with exit status 3: it gave no reason"),
        (WRITE + "(model / 'x').touch()", "writes into .*model, which platforms forbid"),
    ],
)
def test_failures_are_told(folder, file, script, message):
    with pytest.raises(ValueError, match=message):
        run(folder, file, script)


def test_images_must_be_there_and_fit_the_sockets(folder, file, tmp_path):
    with pytest.raises(FileNotFoundError, match="There is no .*inference.py"):
        check(folder, [file])
    (folder / "inference.py").write_text(HEAD)
    with pytest.raises(FileNotFoundError, match="There is no .*nowhere.mha"):
        check(folder, [tmp_path / "nowhere.mha"])
    with pytest.raises(ValueError, match=r"wants 1 image.s., for ct; got 2"):
        check(folder, [file, file])
    (tmp_path / "x.png").touch()
    with pytest.raises(ValueError, match=r"x.png is of no known format"):
        check(folder, [tmp_path / "x.png"])


def test_names_of_label_values():
    assert label_names({"labels": LABELS}) == {1: "kidney_left", 2: "kidney_right"}
    regions = {"labels": {**REGIONS, "ignore": 3}, "regions_class_order": [2, 1]}
    assert label_names(regions) == {2: "both_kidneys", 1: "kidney_right"}
