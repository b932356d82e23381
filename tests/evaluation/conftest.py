"""Small label files on disk."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import SimpleITK

LABELS = {"background": 0, "liver": 1, "left kidney": 2}


def write_labels(path: Path, array, spacing=(1.0, 1.0, 1.0), **geometry) -> None:
    """Writes an array `d h w` (or `h w`) with the spacing of its axes."""
    image = SimpleITK.GetImageFromArray(np.asarray(array, np.uint8))
    image.SetSpacing([float(s) for s in spacing[::-1]])
    for name, value in geometry.items():
        getattr(image, f"Set{name.capitalize()}")(value)
    path.parent.mkdir(parents=True, exist_ok=True)
    SimpleITK.WriteImage(image, str(path))


@dataclass
class Folders:
    """A folder of predictions and one of ground truth below a data set."""

    root: Path

    @property
    def prediction(self) -> Path:
        return self.root / "predictions"

    @property
    def reference(self) -> Path:
        return self.root / "Dataset007_Toy" / "labelsTr"

    @property
    def dataset_json(self) -> Path:
        return self.reference.parent / "dataset.json"

    def add(self, case, prediction, reference, spacing=(1.0, 1.0, 1.0), ending=".nii.gz"):
        for folder, array in ((self.prediction, prediction), (self.reference, reference)):
            if array is not None:
                write_labels(folder / f"{case}{ending}", array, spacing)

    def describe(self, labels=None, **more):
        content = {"labels": labels or LABELS, "file_ending": ".nii.gz", **more}
        self.dataset_json.parent.mkdir(parents=True, exist_ok=True)
        self.dataset_json.write_text(json.dumps(content), encoding="utf-8")


@pytest.fixture
def folders(tmp_path):
    folders = Folders(tmp_path)
    folders.describe()
    return folders


@pytest.fixture
def labelled():
    """A function that gives random labels 0 to `top` in blobs."""

    def make(seed, top=2, shape=(11, 13, 9)):
        rng = np.random.default_rng(seed)
        coarse = rng.integers(0, top + 1, [-(-n // 3) for n in shape])
        fine = coarse.repeat(3, 0).repeat(3, 1).repeat(3, 2)
        return fine[tuple(slice(n) for n in shape)].astype(np.uint8)

    return make
