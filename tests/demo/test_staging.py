"""The user's data: found in both raw forms, split the same way each time, never written to."""

import json
import os

import pytest

from refsam3d_nnunet.demo import staging
from refsam3d_nnunet.demo.workspace import Workspace, open_workspace


def load(folder):
    return staging.read_cases(folder, staging.read_description(folder))


@pytest.mark.parametrize("listed", [False, True], ids=["numbered", "listed"])
@pytest.mark.parametrize("channels", [1, 2])
def test_staging_reads_both_forms_and_leaves_them_alone(
    tmp_path, make_raw, contents, listed, channels
):
    data = make_raw(tmp_path / "mine", 9, channels=channels, listed=listed)
    before = contents(data)
    description = staging.read_description(data)
    cases = load(data)
    train, test = staging.split_cases(cases)
    assert [case.name for case in cases] == [f"case{i:02d}" for i in range(9)]
    workspace = open_workspace(tmp_path / "out", "Dataset001_Mine", data)
    staging.stage_data(workspace, description, train, test)

    staged = {p.relative_to(workspace.data).as_posix() for p in workspace.data.rglob("*.gz")}
    expected = {f"labelsTr/{case.name}.nii.gz" for case in train}
    expected |= {f"labelsTs/{case.name}.nii.gz" for case in test}
    for part, cases in (("Tr", train), ("Ts", test)):
        for c in range(channels):
            expected |= {f"images{part}/{case.name}_{c:04d}.nii.gz" for case in cases}
    assert staged == expected
    written = json.loads((workspace.data / "dataset.json").read_text())
    kept = {key: value for key, value in description.items() if key != "dataset"}
    assert written == kept | {"numTraining": 5}
    assert contents(data) == before
    open_workspace(tmp_path / "out", "Dataset001_Mine", data)  # clears what was linked
    assert contents(data) == before


def test_files_are_copied_where_links_are_refused(tmp_path, make_raw, monkeypatch):
    data = make_raw(tmp_path / "mine", 6)
    monkeypatch.setattr(os, "symlink", lambda *a, **k: (_ for _ in ()).throw(OSError("refused")))
    workspace = Workspace(tmp_path / "out", "Dataset001_Mine")
    train, test = staging.split_cases(load(data))
    staging.stage_data(workspace, staging.read_description(data), train, test)

    copy = workspace.data / "labelsTr" / f"{train[0].name}.nii.gz"
    assert not copy.is_symlink()
    assert copy.read_bytes() == train[0].label.read_bytes()


@pytest.mark.parametrize(
    ("n_cases", "n_test"), [(6, 1), (8, 3), (9, 4), (30, 4), (100, 10), (500, 20)]
)
def test_share_that_is_held_out(tmp_path, n_cases, n_test):
    cases = [staging.Case(f"c{i:03d}", (tmp_path,), tmp_path) for i in range(n_cases)]
    train, test = staging.split_cases(cases, seed=1)

    assert len(test) == n_test
    assert {c.name for c in train} | {c.name for c in test} == {c.name for c in cases}
    assert len(train) + len(test) == n_cases
    assert staging.split_cases(cases, seed=1) == (train, test)


def test_seed_changes_the_choice(tmp_path):
    cases = [staging.Case(f"c{i:03d}", (tmp_path,), tmp_path) for i in range(100)]

    assert staging.split_cases(cases, 0) != staging.split_cases(cases, 1)


def test_folder_without_description(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"dataset.json not found.*raw form"):
        staging.read_description(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not valid JSON"),
        ('{"labels": {"background": 0}}', "lacks channel_names, file_ending"),
        (
            '{"labels": {"0": "background"}, "channel_names": {}, "file_ending": ".nii.gz"}',
            "no name 'background'.*convert_MSD",
        ),
    ],
)
def test_bad_descriptions(tmp_path, text, message):
    (tmp_path / "dataset.json").write_text(text)

    with pytest.raises(ValueError, match=message):
        staging.read_description(tmp_path)


def test_missing_files_are_listed(tmp_path, make_raw):
    data = make_raw(tmp_path, 15)
    for i in range(7):
        (data / f"labelsTr/case{i:02d}.nii.gz").unlink()

    with pytest.raises(FileNotFoundError, match=r"case00.nii.gz.*case04.nii.gz and 2 more$"):
        load(data)


@pytest.mark.parametrize("n_cases", [0, 5])
def test_too_few_cases(tmp_path, make_raw, n_cases):
    data = make_raw(tmp_path, n_cases)

    with pytest.raises(ValueError, match=f"has {n_cases} labelled cases.*at least 6"):
        load(data)


def test_slices_are_not_volumes(tmp_path, make_raw):
    data = make_raw(tmp_path / "flat", 6, shape=(1, 4, 5))
    train, test = staging.split_cases(load(data))
    description = staging.read_description(data)

    with pytest.raises(ValueError, match="wants volumes"):
        staging.stage_data(Workspace(tmp_path, "Dataset001_Flat"), description, train, test)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("hippocampus", "Dataset001_hippocampus"),
        ("Dataset017_BTCV", "Dataset001_BTCV"),
        ("my data__v2", "Dataset001_my_data_v2"),
    ],
)
def test_names_that_nnunet_accepts(tmp_path, name, expected):
    assert staging.dataset_name(tmp_path / name) == expected


def test_foreign_folder_is_refused_and_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")

    with pytest.raises(FileExistsError, match="not empty and no earlier demo made it.*--out"):
        open_workspace(tmp_path, "Dataset001_A")
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_file_in_the_way(tmp_path):
    (tmp_path / "out").touch()

    with pytest.raises(FileExistsError, match="is a file"):
        open_workspace(tmp_path / "out", "Dataset001_A")


def test_earlier_demo_is_cleared_but_not_what_the_user_put_there(tmp_path):
    workspace = open_workspace(tmp_path / "out", "Dataset001_A")
    (workspace.results / "old").touch()
    workspace.report.touch()
    (workspace.root / "notes.txt").touch()
    open_workspace(tmp_path / "out", "Dataset001_A")

    assert not (workspace.results / "old").exists()
    assert not workspace.report.exists()
    assert (workspace.root / "notes.txt").exists()


@pytest.mark.parametrize(("out", "data"), [("a", "a"), ("a", "a/b"), ("a/b", "a")])
def test_out_and_data_must_lie_apart(tmp_path, out, data):
    (tmp_path / "a/b").mkdir(parents=True)

    with pytest.raises(ValueError, match="overlap"):
        open_workspace(tmp_path / out, "Dataset001_A", tmp_path / data)
