"""Which cases are measured, and their folds."""

import json

import pytest

from refsam3d_nnunet.evaluation.cases import find_cases, folds_of


@pytest.fixture
def two(tmp_path):
    """A function that fills the folders of predictions and of ground truth with empty files."""

    def make(predicted, truth):
        for folder, names in (("p", predicted), ("r", truth)):
            (tmp_path / folder).mkdir()
            for name in names:
                (tmp_path / folder / name).touch()
        return tmp_path / "p", tmp_path / "r"

    return make


def test_cases_are_sorted_and_other_files_are_no_cases(two):
    names = ["b.nii.gz", "a.nii.gz"]
    folders = two([*names, "b.npz", "dataset.json", ".tmp.nii.gz"], names)

    assert find_cases(*folders, ".nii.gz") == ["a", "b"]


def test_predictions_without_ground_truth(two):
    folders = two([f"{i}.nii.gz" for i in range(9)], ["0.nii.gz"])
    with pytest.raises(
        ValueError, match="'1', '2', '3', '4', '5' and 3 more in .*p have no ground"
    ):
        find_cases(*folders, ".nii.gz", allow_missing=True)


def test_ground_truth_without_predictions(two):
    folders = two(["a.nii.gz"], ["a.nii.gz", "b.nii.gz"])
    with pytest.raises(
        ValueError, match="'b' in .*r has no prediction in .*--allow-missing .* 1 that"
    ):
        find_cases(*folders, ".nii.gz")

    assert find_cases(*folders, ".nii.gz", allow_missing=True) == ["a"]


def test_no_files_and_no_folder(two, tmp_path):
    folders = two(["a.mha"], ["a.nii.gz"])
    with pytest.raises(FileNotFoundError, match="p has no file that ends in .nii.gz"):
        find_cases(*folders, ".nii.gz")
    with pytest.raises(FileNotFoundError, match="no folder .*elsewhere"):
        find_cases(tmp_path / "elsewhere", folders[1], ".nii.gz")


@pytest.fixture
def splits(tmp_path):
    path = tmp_path / "splits_final.json"

    def write(*validation):
        path.write_text(json.dumps([{"train": [], "val": names} for names in validation]))
        return path

    return write


def test_folds(splits):
    path = splits(["a", "c"], ["b"], ["d"])

    assert folds_of(["a", "b", "c"], path) == {"a": "0", "b": "1", "c": "0"}


@pytest.mark.parametrize(
    ("validation", "message"),
    [
        ([["a"], ["b"]], "c is in the validation set of no fold"),
        ([["a", "b", "c"], ["c"]], "c is in the validation set of the folds 0 and 1"),
    ],
)
def test_cases_in_no_fold_or_in_two(splits, validation, message):
    with pytest.raises(ValueError, match=message):
        folds_of(["a", "b", "c"], splits(*validation))


@pytest.mark.parametrize("content", ["", "{", "3", '[{"train": []}]', "[[]]"])
def test_splits_of_another_form(tmp_path, content):
    path = tmp_path / "splits.json"
    path.write_text(content)
    with pytest.raises(ValueError, match="splits.json must look like nnU-Net's splits_final.json"):
        folds_of(["a"], path)
