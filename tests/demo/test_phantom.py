"""The phantom: the same from the same seed, anatomically right, true to its geometry."""

import json
import math

import numpy as np
import pytest
import SimpleITK

from refsam3d_nnunet.demo.phantom import LABELS, make_case, to_image, write_dataset

N_CASES = 12


@pytest.fixture(scope="module")
def cases():
    return [make_case(index) for index in range(N_CASES)]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("raw") / "Dataset001_TorsoPhantom"
    write_dataset(folder, n_train=2, n_test=1, seed=3)
    return folder


def center(image: SimpleITK.Image, label: str) -> np.ndarray:
    """Centre of mass in patient space, mm along L, P, S."""
    filter_ = SimpleITK.LabelShapeStatisticsImageFilter()
    filter_.Execute(image)
    return np.array(filter_.GetCentroid(LABELS[label]))


def test_same_seed_same_bits(cases):
    image, labels, spacing = make_case(5)

    assert image.tobytes() == cases[5][0].tobytes()
    assert labels.tobytes() == cases[5][1].tobytes()
    assert spacing == cases[5][2]


@pytest.mark.parametrize("other", [(6, 0), (5, 1)], ids=["index", "seed"])
def test_index_and_seed_matter(cases, other):
    image, _, _ = make_case(*other)

    assert image.shape != cases[5][0].shape or (image != cases[5][0]).mean() > 0.5


def test_every_case_has_every_label(cases):
    for _, labels, spacing in cases:
        volumes = np.bincount(labels.ravel(), minlength=len(LABELS)) * math.prod(spacing) / 1000

        assert len(volumes) == len(LABELS)
        assert volumes.min() > 15  # millilitres


def test_grid_and_spacing_stay_in_their_ranges(cases):
    low, high = (36, 48, 58), (45, 57, 70)
    for image, labels, (depth, height, width) in cases:
        assert image.shape == labels.shape
        assert all(a <= n <= b for n, a, b in zip(image.shape, low, high, strict=True))
        assert 3 <= depth <= 5
        assert 2.5 <= height == width <= 3.5
    assert len({spacing for _, _, spacing in cases}) == N_CASES


def test_sides_of_the_body(cases):
    for _, labels, spacing in cases:
        image = to_image(labels, spacing)
        left, right = center(image, "left kidney"), center(image, "right kidney")

        assert left[0] > 20 > -20 > right[0]
        assert center(image, "spleen")[0] > 20
        assert center(image, "liver")[0] < -10
        assert left[0] > center(image, "aorta")[0] > center(image, "spine")[0] - 5
        assert center(image, "aorta")[1] < center(image, "spine")[1]  # in front of it
        assert center(image, "liver")[2] > right[2]  # above it


def test_kidneys_differ_by_place_not_by_signal(cases):
    ratios = []
    for image, labels, _ in cases:
        left, right = (image[labels == LABELS[f"{side} kidney"]] for side in ("left", "right"))
        ratios.append(left.mean() / right.mean())

    assert min(ratios) < 1 < max(ratios)  # either may be brighter, through the bias field
    assert 0.85 < np.mean(ratios) < 1.15


def test_files_carry_arrays_and_geometry(dataset):
    image, labels, spacing = make_case(2, seed=3)
    files = dataset / "imagesTs/torso_002_0000.nii.gz", dataset / "labelsTs/torso_002.nii.gz"

    for file, array in zip(files, (image, labels), strict=True):
        read = SimpleITK.ReadImage(str(file))
        np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(read), array)
        np.testing.assert_allclose(read.GetSpacing(), spacing[::-1], rtol=1e-6)
        np.testing.assert_allclose(read.GetDirection(), np.eye(3).ravel())
        middle = [(n - 1) / 2 for n in read.GetSize()]
        at_center = read.TransformContinuousIndexToPhysicalPoint(middle)
        np.testing.assert_allclose(at_center, (0, 0, 0), atol=1e-4)


def test_dataset_is_in_raw_form(dataset):
    description = json.loads((dataset / "dataset.json").read_text())

    assert description["labels"] == LABELS
    assert description["numTraining"] == 2
    assert sorted(p.relative_to(dataset).as_posix() for p in dataset.rglob("*.*")) == [
        "dataset.json",
        "imagesTr/torso_000_0000.nii.gz",
        "imagesTr/torso_001_0000.nii.gz",
        "imagesTs/torso_002_0000.nii.gz",
        "labelsTr/torso_000.nii.gz",
        "labelsTr/torso_001.nii.gz",
        "labelsTs/torso_002.nii.gz",
    ]


def test_bad_numbers_are_named(tmp_path):
    with pytest.raises(ValueError, match="got -1 and 0"):
        make_case(-1)
    with pytest.raises(ValueError, match="got 0 and 4"):
        write_dataset(tmp_path, n_train=0)
