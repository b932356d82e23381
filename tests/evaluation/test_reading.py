"""Files of one image that do not fit together, or are none."""

import numpy as np
import pytest
import SimpleITK

from refsam3d_nnunet.evaluation.labels import read_labels
from refsam3d_nnunet.evaluation.reading import read_pair, readers_for
from tests.evaluation.conftest import write_labels


@pytest.fixture
def pair(folders, labelled):
    """Paths of a prediction and its ground truth, and a function that reads both."""
    folders.add("a", labelled(0), labelled(1), (2.5, 0.7, 1.1))
    paths = folders.prediction / "a.nii.gz", folders.reference / "a.nii.gz"
    return paths, lambda: read_pair(*paths, read_labels(folders.dataset_json))


def test_arrays_and_spacing_are_in_one_order(pair, labelled):
    found = pair[1]()

    assert np.array_equal(found.prediction, labelled(0))
    assert np.array_equal(found.reference, labelled(1))
    assert found.spacing == pytest.approx((2.5, 0.7, 1.1))
    assert found.voxel == pytest.approx(2.5 * 0.7 * 1.1)


TURNED = (0.8, -0.6, 0.0, 0.6, 0.8, 0.0, 0.0, 0.0, 1.0)


@pytest.mark.parametrize(
    ("shape", "spacing", "geometry", "message"),
    [
        ((11, 13, 8), (2.5, 0.7, 1.1), {}, r"shape: \[11, 13, 8\] and \[11, 13, 9\]"),
        ((11, 13, 9), (2.5, 0.71, 1.1), {}, r"spacing: \[2.5 , 0.71, 1.1 \] and"),
        ((11, 13, 9), (2.5, 0.7, 1.1), {"origin": (0, 0.5, 0)}, r"origin: \[0. , 0.5, 0. \] and"),
        ((11, 13, 9), (2.5, 0.7, 1.1), {"direction": TURNED}, r"direction: \[ 0.8, -0.6"),
    ],
)
def test_different_geometry(pair, shape, spacing, geometry, message):
    paths, read = pair
    write_labels(paths[0], np.zeros(shape), spacing, **geometry)
    with pytest.raises(ValueError, match=f"predictions/a.nii.gz and .* differ in {message}"):
        read()


def test_rounding_errors_are_no_difference(pair):
    paths, read = pair
    write_labels(paths[0], np.zeros((11, 13, 9)), (2.5, 0.70001, 1.1), origin=(1e-5, 0, 0))

    assert read().prediction.shape == (11, 13, 9)


@pytest.mark.parametrize("which", [0, 1])
def test_unknown_labels(pair, which):
    paths, read = pair
    array = np.zeros((11, 13, 9))
    array[3, 3, 3:5] = 7, 9
    write_labels(paths[which], array, (2.5, 0.7, 1.1))
    with pytest.raises(ValueError, match="a.nii.gz has the labels 7, 9, .* it has 0, 1, 2"):
        read()


def test_a_prediction_that_is_no_label_map(pair):
    paths, read = pair
    image = SimpleITK.ReadImage(str(paths[0]), SimpleITK.sitkFloat32) * 0.5
    SimpleITK.WriteImage(image, str(paths[0]))
    with pytest.raises(ValueError, match="has the label 0.5, which dataset.json does not know"):
        read()


def test_the_ignore_label_belongs_to_the_reference(folders):
    folders.describe({"background": 0, "liver": 1, "ignore": 2})
    one, two = np.ones((4, 4, 4)), np.full((4, 4, 4), 2)
    folders.add("a", one, two)
    labels = read_labels(folders.dataset_json)
    paths = folders.prediction / "a.nii.gz", folders.reference / "a.nii.gz"

    assert read_pair(*paths, labels).reference.min() == 2
    with pytest.raises(ValueError, match="predictions/a.nii.gz has the label 2"):
        folders.add("a", two, one)
        read_pair(*paths, labels)


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("damage", ["empty", "truncated", "text"])
def test_damaged_files(pair, which, damage, capfd):
    paths, read = pair
    raw = paths[which].read_bytes()
    content = {"empty": b"", "truncated": raw[: len(raw) // 2], "text": b"not found\n" * 99}
    paths[which].write_bytes(content[damage])
    with pytest.raises(ValueError, match=f"{paths[which]} cannot be read; it may be damaged"):
        read()


def test_more_than_one_channel(pair):
    paths, read = pair
    volume = SimpleITK.GetImageFromArray(np.zeros((3, 11, 13, 9), np.uint8), isVector=False)
    SimpleITK.WriteImage(volume, str(paths[0]))
    with pytest.raises(ValueError, match="a.nii.gz has 3 channels, want one label per voxel"):
        read()


def test_flat_images_are_measured_in_two_dimensions(folders):
    folders.describe(file_ending=".png")
    folders.add("a", np.eye(5), np.eye(5)[::-1], (1, 1), ending=".png")
    paths = folders.prediction / "a.png", folders.reference / "a.png"
    found = read_pair(*paths, read_labels(folders.dataset_json))

    assert np.array_equal(found.prediction, np.eye(5))
    assert (found.spacing, found.voxel) == ((1, 1), 1)


def test_fine_pixels_of_a_flat_image_do_not_make_a_slice_half_a_metre_thick(folders):
    folders.describe(file_ending=".mha")
    for folder in (folders.prediction, folders.reference):
        image = SimpleITK.GetImageFromArray(np.eye(5, dtype=np.uint8))
        image.SetSpacing((0.5, 0.5))
        folder.mkdir(exist_ok=True)
        SimpleITK.WriteImage(image, str(folder / "a.mha"))
    paths = folders.prediction / "a.mha", folders.reference / "a.mha"
    found = read_pair(*paths, read_labels(folders.dataset_json))

    assert (found.spacing, found.voxel) == ((0.5, 0.5), pytest.approx(0.25))


def test_one_slice_of_a_volume_keeps_its_thickness(folders):
    folders.add("a", np.ones((1, 5, 4)), np.ones((1, 5, 4)), (3.0, 0.5, 0.5))
    paths = folders.prediction / "a.nii.gz", folders.reference / "a.nii.gz"
    found = read_pair(*paths, read_labels(folders.dataset_json))

    assert found.spacing == (0.5, 0.5)
    assert found.voxel == pytest.approx(0.75)


def test_the_reader_of_dataset_json_is_used(folders, labelled):
    folders.describe(overwrite_image_reader_writer="NibabelIO")
    folders.add("a", labelled(0), labelled(1), (2.5, 0.7, 1.1))
    labels = read_labels(folders.dataset_json)
    paths = folders.prediction / "a.nii.gz", folders.reference / "a.nii.gz"

    assert [reader.__name__ for reader in readers_for(labels)] == ["NibabelIO"]
    assert np.array_equal(read_pair(*paths, labels).prediction, labelled(0))
    write_labels(paths[0], labelled(0), (2.5, 0.7, 1.1), origin=(0, 0.5, 0))
    with pytest.raises(ValueError, match="differ in affine"):
        read_pair(*paths, labels)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"overwrite_image_reader_writer": "DicomIO"}, "asks for the reader 'DicomIO'"),
        ({"file_ending": ".dcm"}, "no reader for files that end in '.dcm'"),
    ],
)
def test_readers_that_nnunet_lacks(folders, more, message):
    folders.describe(**more)
    with pytest.raises(ValueError, match=message):
        readers_for(read_labels(folders.dataset_json))
