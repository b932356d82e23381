"""A tiny model, and a submission folder that the command wrote for it."""

from pathlib import Path

import pytest
import SimpleITK as sitk

from refsam3d_nnunet import cli
from tests.prediction.tiny_model import SPACING, draw_image, write_model


@pytest.fixture(scope="session")
def model(tmp_path_factory) -> Path:
    return write_model(tmp_path_factory.mktemp("model"), folds=(0, 1))


@pytest.fixture(scope="session")
def written(model, tmp_path_factory) -> Path:
    """The folder, with a wheel of this install."""
    folder = tmp_path_factory.mktemp("parent") / "My submission"
    options = ["-f", "0", "--input", "ct-image", "--output", "kidneys", "-step_size", "0.75"]
    assert cli.main(["container", str(folder), "-m", str(model), *options]) == 0
    return folder


@pytest.fixture(scope="session")
def image() -> sitk.Image:
    """As it was trained, LPS."""
    result = sitk.GetImageFromArray(draw_image()[0])
    result.SetSpacing(SPACING)
    result.SetOrigin((3.0, -7.5, 11.25))
    return result
