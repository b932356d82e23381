"""Images in, results out, and every voxel where it was."""

import itertools

import numpy as np
import pytest
import SimpleITK as sitk

from refsam3d_nnunet.prediction.images import Case, find_cases, read_volume

SIZE = (3, 4, 5)


def image(direction=(1, 0, 0, 0, 1, 0, 0, 0, 1), seed: int = 0) -> sitk.Image:
    result = sitk.GetImageFromArray(np.random.default_rng(seed).normal(size=SIZE[::-1]))
    result.SetSpacing((0.7, 1.3, 2.9))
    result.SetOrigin((-17.25, 4.5, 100.125))
    result.SetDirection([float(number) for number in direction])
    return result


def saved(folder, name, *args) -> Case:
    path = folder / name
    sitk.WriteImage(image(*args), str(path))
    return Case("x", (path,), ".nrrd")


def all_directions():
    for order in itertools.permutations(range(3)):
        for signs in itertools.product((1, -1), repeat=3):
            yield (np.eye(3)[list(order)] * signs).ravel()


@pytest.mark.parametrize("direction", list(all_directions()), ids=str)
def test_there_and_back_again(tmp_path, direction):
    volume = read_volume(saved(tmp_path, "x.nrrd", direction), ["LPS"])
    assert volume.oriented_code == "LPS"
    assert volume.oriented.GetDirection() == pytest.approx(np.eye(3).ravel())
    back = volume.restored(volume.array[0])
    original = image(direction)
    assert np.array_equal(
        sitk.GetArrayFromImage(back), sitk.GetArrayFromImage(original).astype(np.float32)
    )
    for get in ("GetOrigin", "GetSpacing", "GetDirection"):
        assert getattr(back, get)() == getattr(volume.original, get)()
    assert volume.properties()["spacing"] == list(volume.oriented.GetSpacing()[::-1])


def test_an_oblique_image_keeps_its_slant(tmp_path):
    turn = np.linalg.qr(np.eye(3) + 0.2 * np.random.default_rng(0).normal(size=(3, 3)))[0]
    turn *= np.sign(np.diag(turn))
    volume = read_volume(saved(tmp_path, "x.nrrd", (turn * [-1, -1, 1]).ravel()), ["LPS"])
    assert (volume.code, volume.oriented_code) == ("RAS", "LPS")
    assert volume.oriented.GetDirection() == pytest.approx(turn.ravel())
    back = volume.restored(volume.array[0])
    assert np.array_equal(sitk.GetArrayFromImage(back), volume.array[0, :, ::-1, ::-1])


@pytest.mark.parametrize("trained", [["RAS", "LPS"], []], ids=["mixed", "unknown"])
def test_an_orientation_of_the_training_is_kept(tmp_path, trained):
    volume = read_volume(saved(tmp_path, "x.nrrd"), trained)
    assert volume.oriented_code == "LPS"


@pytest.mark.parametrize("ending", [".nii.gz", ".nii", ".nrrd", ".mha", ".mhd"])
def test_formats(tmp_path, ending):
    sitk.WriteImage(image(), str(tmp_path / f"case{ending}"))
    (case,) = find_cases(tmp_path, 1)
    assert (case.name, case.ending) == ("case", ending)
    assert find_cases(tmp_path / f"case{ending}", 1) == [case]


def test_channels_belong_together(tmp_path):
    for name in ("a_0000.nii.gz", "a_0001.nii.gz", "b_0000.mha", "b_0001.mha"):
        sitk.WriteImage(image(seed=int(name[5])), str(tmp_path / name))
    (tmp_path / "notes.txt").touch()
    a, b = find_cases(tmp_path, 2)
    assert (a.name, b.name, b.ending) == ("a", "b", ".mha")
    array = read_volume(a, []).array
    assert array.shape == (2, *SIZE[::-1])
    assert not np.array_equal(array[0], array[1])


def test_channels_lie_where_the_first_does(tmp_path, caplog):
    """As in nnU-Net, which stacks them as they are stored."""
    first, second = image(seed=1), image(seed=2)
    second.SetOrigin([x + 0.3 for x in first.GetOrigin()])
    for channel, one in enumerate((first, second)):
        sitk.WriteImage(one, str(tmp_path / f"a_{channel:04d}.nii.gz"))
    (case,) = find_cases(tmp_path, 2)
    volume = read_volume(case, [])
    assert np.array_equal(volume.array[1], sitk.GetArrayFromImage(second).astype(np.float32))
    assert "a_0001.nii.gz has origin" in caplog.text
    second.SetSpacing([2 * x for x in first.GetSpacing()])
    sitk.WriteImage(second, str(tmp_path / "a_0001.nii.gz"))
    with pytest.raises(ValueError, match=r"a_0001.nii.gz does not lie on .*a_0000.nii.gz: \("):
        read_volume(case, [])


def test_a_dicom_series_is_one_image(tmp_path):
    folder = tmp_path / "series"
    folder.mkdir()
    volume = np.arange(60, dtype=np.int16).reshape(SIZE[::-1])
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    for i, plane in enumerate(volume):
        slice_ = sitk.GetImageFromArray(plane)
        for key, value in {
            "0008|0060": "CT",
            "0020|000e": "1.2.826.0.1.3680043.2.1125.1",
            "0008|0018": f"1.2.826.0.1.3680043.2.1125.1.{i}",
            "0020|0032": f"0\\0\\{3 * i}",
            "0020|0037": "1\\0\\0\\0\\1\\0",
            "0020|0013": str(i),
        }.items():
            slice_.SetMetaData(key, value)
        writer.SetFileName(str(folder / f"{99 - i}.dcm"))
        writer.Execute(slice_)
    (case,) = find_cases(folder, 1)
    assert (case.name, case.ending) == ("series", ".nii.gz")
    assert np.array_equal(read_volume(case, []).array[0], volume)


def test_missing_images_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="There is no .*nowhere"):
        find_cases(tmp_path / "nowhere", 1)
    with pytest.raises(FileNotFoundError, match="holds no image .* and no DICOM"):
        find_cases(tmp_path, 1)
    (tmp_path / "x.txt").touch()
    with pytest.raises(ValueError, match="x.txt is of no known format; there are .nii.gz"):
        find_cases(tmp_path / "x.txt", 1)


def test_wrong_channels_are_named(tmp_path):
    saved(tmp_path, "a_0000.nrrd")
    with pytest.raises(ValueError, match=r"wants 2 channel.*'a' has .*a_0000 to a_0001"):
        find_cases(tmp_path, 2)
    saved(tmp_path, "a_0001.nrrd")
    with pytest.raises(ValueError, match=r"wants 1 channel.*'a' has"):
        find_cases(tmp_path, 1)
    saved(tmp_path, "a.nrrd")
    with pytest.raises(ValueError, match="Both .* are channel 0 of 'a'"):
        find_cases(tmp_path, 2)


def test_unusable_images_are_named(tmp_path):
    path = tmp_path / "x.nrrd"
    path.write_text("no image")
    with pytest.raises(ValueError, match="x.nrrd cannot be read as an image"):
        read_volume(Case("x", (path,), ".nrrd"), [])
    sitk.WriteImage(sitk.Image(4, 4, sitk.sitkUInt8), str(path))
    with pytest.raises(ValueError, match="is not one 3D image"):
        read_volume(Case("x", (path,), ".nrrd"), [])
    one, other = (
        saved(tmp_path, name, direction).files[0]
        for name, direction in (("a.nrrd", np.eye(3).ravel()), ("b.nrrd", -np.eye(3).ravel()))
    )
    with pytest.raises(ValueError, match="b.nrrd does not lie on .*a.nrrd"):
        read_volume(Case("x", (one, other), ".nrrd"), [])
