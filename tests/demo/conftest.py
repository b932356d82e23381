"""Small raw data sets for the demo's tests."""

import json

import numpy as np
import pytest
import SimpleITK

DESCRIPTION = {
    "channel_names": {"0": "T1", "1": "T2"},
    "labels": {"background": 0, "left kidney": 1},
    "file_ending": ".nii.gz",
}


def _make_raw(folder, n_cases, *, channels=1, listed=False, shape=(3, 4, 5)):
    """Writes a small raw data set, its files numbered by channel or named in dataset.json."""
    description = DESCRIPTION | {"channel_names": {str(c): f"T{c}" for c in range(channels)}}
    array = np.zeros(shape, dtype=np.int16)
    array[:, 1:3, 1:4] = 1
    (folder / "imagesTr").mkdir(parents=True)
    (folder / "labelsTr").mkdir()
    dataset = {}
    for i in range(n_cases):
        name = f"case{i:02d}"
        images = [f"imagesTr/{name}_{c:04d}.nii.gz" for c in range(channels)]
        if listed:
            images = [f"imagesTr/{name}_c{c}.nii.gz" for c in range(channels)]
        dataset[name] = {"images": images, "label": f"labelsTr/{name}.nii.gz"}
        for file in (*images, dataset[name]["label"]):
            SimpleITK.WriteImage(SimpleITK.GetImageFromArray(array), str(folder / file))
    if listed:
        description["dataset"] = dataset
    (folder / "dataset.json").write_text(json.dumps(description))
    return folder


def _contents(folder):
    """Every file's bytes and time of change."""
    return {
        path: (path.stat().st_mtime_ns, path.read_bytes())
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture(scope="session")
def make_raw():
    """Function that writes a raw data set."""
    return _make_raw


@pytest.fixture(scope="session")
def contents():
    """Function that tells whether anything in a folder has changed."""
    return _contents
