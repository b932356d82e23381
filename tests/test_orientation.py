"""The left-right axis, told from what nnU-Net's own readers return.

Each image is written with one bright voxel at the patient's far left, which says where the axis
is without any algebra.
"""

import os
import warnings

import numpy as np
import pytest
import SimpleITK as sitk

from refsam3d_nnunet.orientation import geometries, left_right_axis, orientation

SHAPE = (4, 6, 8)  # along the file's axes
READERS = ("SimpleITKIO", "SimpleITKIOWithReorient", "NibabelIO", "NibabelIOWithReorient")


def _reader(name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of nnU-Net's dependencies
        from nnunetv2.imageio import nibabel_reader_writer, simpleitk_reader_writer
    return (getattr(nibabel_reader_writer, name, None) or getattr(simpleitk_reader_writer, name))()


def _affine(codes, spacing=(1.0, 1.0, 1.0)):
    """Affine of a file whose axes run towards the given sides, in RAS."""
    sides = {"R": (0, 1), "L": (0, -1), "A": (1, 1), "P": (1, -1), "S": (2, 1), "I": (2, -1)}
    affine = np.eye(4)
    affine[:3, :3] = 0
    for axis, code in enumerate(codes):
        row, sign = sides[code]
        affine[row, axis] = sign * spacing[axis]
    return affine


def _left_to_right_ramp(affine):
    """A volume whose values are the R coordinate of each voxel."""
    index = np.moveaxis(np.indices(SHAPE), 0, -1)
    return (index @ affine[0, :3]).astype(np.float32)


def _write(path, affine):
    import nibabel

    nibabel.save(nibabel.Nifti1Image(_left_to_right_ramp(affine), affine), path)


@pytest.mark.parametrize("transpose", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
@pytest.mark.parametrize("codes", ["RAS", "LPS", "SRA", "PIR", "ASL"])
@pytest.mark.parametrize("reader", READERS)
def test_values_change_along_the_axis_found(reader, codes, transpose, tmp_path):
    _write(tmp_path / "a.nii.gz", _affine(codes, (0.5, 3.0, 2.0)))
    image, properties = _reader(reader).read_images([str(tmp_path / "a.nii.gz")])

    axis = left_right_axis(properties, transpose)
    preprocessed = image[0].transpose(transpose)
    varies = [np.abs(np.diff(preprocessed, axis=a)).max() > 0 for a in range(3)]
    assert varies == [a == axis for a in range(3)]


@pytest.mark.parametrize("reader", READERS)
def test_oblique_with_thick_slices(reader, tmp_path):
    """Slices tilted by 30 degrees about the y axis: in mm a slice step moves more along x."""
    cos, sin = np.cos(np.pi / 6), np.sin(np.pi / 6)
    rotation = np.array([[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]])
    affine = np.eye(4)
    affine[:3, :3] = rotation * [0.5, 0.5, 5.0]
    assert abs(affine[0, 2]) > abs(affine[0, 0])
    _write(tmp_path / "a.nii.gz", affine)
    _, properties = _reader(reader).read_images([str(tmp_path / "a.nii.gz")])

    assert left_right_axis(properties, (0, 1, 2)) == 2


def test_2d_image(tmp_path):
    import SimpleITK as sitk  # noqa: N813 - the package's own habit

    image = sitk.GetImageFromArray(np.zeros((5, 7), np.float32))
    for direction, axis in (((1, 0, 0, 1), 2), ((0, 1, -1, 0), 1)):
        image.SetDirection(direction)
        sitk.WriteImage(image, str(tmp_path / "a.nrrd"))
        _, properties = _reader("SimpleITKIO").read_images([str(tmp_path / "a.nrrd")])
        assert len(properties["sitk_stuff"]["direction"]) == 4
        assert left_right_axis(properties, (0, 1, 2)) == axis


def test_channels_in_one_file(tmp_path):
    import SimpleITK as sitk  # noqa: N813 - the package's own habit

    image = sitk.GetImageFromArray(np.zeros((2, 3, 4, 5), np.float32), isVector=False)
    image.SetDirection((0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1))
    sitk.WriteImage(image, str(tmp_path / "a.mha"))
    _, properties = _reader("SimpleITKIO").read_images([str(tmp_path / "a.mha")])
    assert len(properties["sitk_stuff"]["direction"]) == 16
    assert left_right_axis(properties, (0, 1, 2)) == 1


def test_without_geometry_the_picture_is_taken_as_it_hangs():
    assert left_right_axis({"spacing": (999, 1, 1)}, (0, 1, 2)) == 2
    assert left_right_axis({"spacing": (1, 1, 1)}, (2, 0, 1)) == 0


def test_what_nnunet_stores_as_lists():
    direction = (1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 1.0, 0.0)
    assert left_right_axis({"sitk_stuff": {"direction": list(direction)}}, [0, 1, 2]) == 2


@pytest.mark.parametrize("bad", [np.zeros((4, 4)), np.full((4, 4), np.nan)])
def test_unusable_geometry(bad):
    assert left_right_axis({"nibabel_stuff": {"original_affine": bad}}, (0, 1, 2)) is None


def test_bad_arguments():
    with pytest.raises(ValueError, match="must order the axes 0, 1, 2, got \\(0, 0, 1\\)"):
        left_right_axis({}, (0, 0, 1))
    with pytest.raises(ValueError, match="4, 9 or 16 numbers .* got 3"):
        left_right_axis({"sitk_stuff": {"direction": (1, 0, 0)}}, (0, 1, 2))


@pytest.mark.parametrize("seed", range(20))
def test_orientations_are_named_as_simpleitk_names_them(seed):
    rng = np.random.default_rng(seed)
    signed = np.eye(3)[rng.permutation(3)] * rng.choice([-1, 1], 3)
    turn = np.linalg.qr(np.eye(3) + 0.1 * rng.normal(size=(3, 3)))[0]
    matrix = signed @ (turn * np.sign(np.diag(turn)))
    wanted = sitk.DICOMOrientImageFilter.GetOrientationFromDirectionCosines(matrix.ravel().tolist())
    assert orientation({"sitk_stuff": {"direction": tuple(matrix.ravel())}}) == wanted

    affine = np.eye(4)  # the same axes in nibabel's convention, with voxel sizes
    affine[:3, :3] = np.diag([-1, -1, 1]) @ matrix @ np.diag([2, 0.5, 3])
    assert orientation({"nibabel_stuff": {"original_affine": affine}}) == wanted


def test_an_image_without_geometry_has_no_orientation():
    assert orientation({"spacing": (1, 1, 1)}) is None
    assert orientation({"sitk_stuff": {"direction": (1, 0, 0, 1)}}) is None
    assert orientation({"sitk_stuff": {"direction": (0,) * 9}}) is None


def test_data_that_were_preprocessed_again_are_read_again(tmp_path):
    cache, case = tmp_path / "cache.json", tmp_path / "case.pkl"
    case.touch()
    turned = {"sitk_stuff": {"direction": (0, 1, 0, 0, 0, 1, 1, 0, 0)}}
    upright = {"sitk_stuff": {"direction": (1, 0, 0, 0, 1, 0, 0, 0, 1)}}
    before = geometries(tmp_path, cache, lambda path: turned)
    assert geometries(tmp_path, cache, lambda path: upright) == before
    os.utime(case)  # the same name, another content
    after = geometries(tmp_path, cache, lambda path: upright)
    assert (after["axes"], after["orientations"]) == ([2], {"LPS": 1})
    assert before["axes"] != after["axes"]


def test_preprocessed_data_may_be_read_only(tmp_path, caplog):
    (tmp_path / "case.pkl").touch()
    nowhere = tmp_path / "case.pkl" / "cache.json"  # below a file: cannot be written
    answer = geometries(tmp_path, nowhere, lambda path: {})
    assert answer["cases"] == ["case"]
    assert "Could not store" in caplog.text
