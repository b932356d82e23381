"""The folder of an evaluation, written and read again."""

import json
import math

import pandas as pd
import pytest

from refsam3d_nnunet.evaluation.table import (
    COLUMNS,
    read_evaluation,
    write_evaluation,
)

ROWS = [
    ("007", "0", "1", "left kidney", "dice", 1 / 3),
    ("007", "0", "1", "left kidney", "hd95", math.inf),
    ("007", "0", "1+2", "NA", "dice", math.nan),
    ("007", "0", "1+2", "NA", "hd95", 1e-17),
]
INFO = {"format": 1, "mean": {"dice": {"left kidney": math.nan, "NA": 0.5}}}


@pytest.fixture
def folder(tmp_path):
    write_evaluation(tmp_path / "new" / "folder", pd.DataFrame(ROWS, columns=COLUMNS), INFO)
    return tmp_path / "new" / "folder"


def test_every_value_survives(folder):
    """Names that look like numbers or missing values stay names, and floats keep all digits."""
    found = read_evaluation(folder)

    pd.testing.assert_frame_equal(
        found.table, pd.DataFrame(ROWS, columns=COLUMNS), check_exact=True
    )
    assert (found.cases, found.classes) == (["007"], ["left kidney", "NA"])
    assert found.folds == {"007": "0"}


def test_json_has_no_nan(folder):
    def refuse(name):
        raise AssertionError(name)

    text = (folder / "metrics.json").read_text()
    assert json.loads(text, parse_constant=refuse)["mean"]["dice"] == {
        "left kidney": None,
        "NA": 0.5,
    }


def test_a_grid_of_one_metric(folder):
    grid = read_evaluation(folder).values("hd95")

    assert grid.to_numpy().tolist() == [[math.inf, 1e-17]]
    assert (list(grid.index), list(grid.columns)) == (["007"], ["left kidney", "NA"])


def test_an_unknown_metric(folder):
    with pytest.raises(ValueError, match="no metric 'iou'; there are dice, hd95"):
        read_evaluation(folder).values("iou")


def test_no_temporary_files_are_left(folder):
    assert sorted(file.name for file in folder.iterdir()) == ["metrics.csv", "metrics.json"]


def test_a_table_that_cannot_be_written_leaves_no_finished_folder(folder, monkeypatch):
    """The old metrics.json must not be taken for that of a new, half-written table."""

    def fail(*args, **kwargs):
        raise OSError("disk full")

    monkeypatch.setattr(pd.DataFrame, "to_csv", fail)
    with pytest.raises(OSError, match="disk full"):
        write_evaluation(folder, pd.DataFrame(ROWS, columns=COLUMNS), INFO)
    with pytest.raises(FileNotFoundError, match="has no metrics.json"):
        read_evaluation(folder)


@pytest.mark.parametrize("name", ["metrics.csv", "metrics.json"])
def test_a_missing_file(folder, name):
    (folder / name).unlink()
    with pytest.raises(FileNotFoundError, match=f"has no {name}: it is not a folder that"):
        read_evaluation(folder)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is no table of metrics: No columns"),
        ("case,value\na,1\n", r"its columns are \['case', 'value'\]"),
        (",".join(COLUMNS) + "\n", "it has no rows"),
        (",".join(COLUMNS) + "\na,,1,x,dice,good\n", "could not convert string to float"),
        (",".join(COLUMNS) + 2 * "\na,,1,x,dice,0.5", "dice of x in a is there twice"),
        (",".join(COLUMNS) + "\na,,1,x,dice,0.5,7,8\n", "rows of more than 6 values"),
        (b"\xff\xfe\x00", "is no table of metrics"),
    ],
)
def test_a_damaged_table(folder, content, message):
    content = content if isinstance(content, bytes) else content.encode()
    (folder / "metrics.csv").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_evaluation(folder)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "metrics.json is no readable JSON"),
        ("[]", "must hold a JSON object"),
        ("{}", "is of format None, .* reads format 1"),
        ('{"format": 2}', "is of format 2, .* reads format 1: run `refsam3d evaluate` again"),
    ],
)
def test_a_damaged_description(folder, content, message):
    (folder / "metrics.json").write_text(content)
    with pytest.raises(ValueError, match=message):
        read_evaluation(folder)


def test_a_table_of_other_columns_is_not_written(tmp_path):
    with pytest.raises(ValueError, match="The table has the columns"):
        write_evaluation(tmp_path, pd.DataFrame({"case": ["a"]}), INFO)
