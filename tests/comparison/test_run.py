"""`refsam3d compare`: the files it writes, and what it refuses."""

import csv
import json
import math
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from refsam3d_nnunet import cli
from refsam3d_nnunet.comparison.run import folders_of
from refsam3d_nnunet.evaluation.table import write_evaluation

DICE = np.random.default_rng(0).beta(8, 2, 12)


@pytest.fixture
def study(tmp_path, evaluation):
    """A function that writes evaluations and compares them, to `tmp_path/out`."""

    def run(methods, *arguments, **more):
        for name, values in methods.items():
            one = evaluation(values, **more)
            write_evaluation(tmp_path / name, one.table, one.info)
        given = [f"{name.upper()}={tmp_path / name}" for name in methods]
        return cli.main(
            ["compare", *given, "-o", str(tmp_path / "out"), "--resamples", "200", *arguments]
        )

    return run


@pytest.fixture
def two(study):
    def run(*arguments):
        return study({"a": {"liver": DICE}, "b": {"liver": DICE + 0.02}}, *arguments)

    return run


def test_all_files_are_written(two, tmp_path, caplog):
    assert two("--margin", "0.03", "--seed", "4", "--baseline", "B") == 0
    names = sorted(file.name for file in (tmp_path / "out").iterdir())
    info = json.loads((tmp_path / "out" / "comparison.json").read_text())

    assert names == [
        "challenger.csv",
        "comparison.csv",
        "comparison.json",
        "comparison.md",
        "differences.csv",
    ]
    assert (info["format"], info["methods"], info["baseline"]) == (1, ["A", "B"], "B")
    assert (info["margin"], info["seed"], info["resamples"]) == (0.03, 4, 200)
    assert info["folds"] == ["0", "1", "2", "3", "4"]
    pairs = pd.read_csv(tmp_path / "out" / "comparison.csv").to_dict("records")
    assert [pair["class"] for pair in pairs] == ["liver", "all"]
    for written, pair in zip(pairs, info["pairs"], strict=True):
        assert written == pytest.approx(pair)
    assert (tmp_path / "out" / "comparison.md").read_text() in caplog.text


def test_markdown_says_what_json_says(two, tmp_path):
    costs = tmp_path / "costs.json"
    costs.write_text('{"B": {"hours": 1.25, "parameters": 9600000}}')
    two("--costs", str(costs))
    text = (tmp_path / "out" / "comparison.md").read_text()

    assert f"| liver | {DICE.mean():.4f} [" in text
    assert "| B | liver | 12 | +0.0200 [+0.0200, +0.0200] | 0.0005 | 0.0005 | superior |" in text
    assert "| B | 1.25 | 9.60 |" in text
    assert "| A | - | - |" in text
    assert "Memory" not in text  # nothing is known of it
    assert "- **Small sample: 12 cases." in text
    tables = re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)
    for table in tables:
        assert len({line.count("|") for line in table.splitlines()}) == 1


def test_trainings_of_different_lengths_are_told(study, tmp_path):
    """Where the predictions lie as nnU-Net leaves them, the folds say how long they were."""
    a = tmp_path / "model_a" / "crossval_results_folds_0_2"
    b = tmp_path / "model_b" / "fold_1" / "validation"
    for folder, epochs in (
        (a.parent / "fold_0", 100),
        (a.parent / "fold_1", 7),  # another cross-validation's
        (a.parent / "fold_2", 100),
        (b.parent, 1000),
    ):
        folder.mkdir(parents=True)
        debug = {"num_epochs": str(epochs), "num_iterations_per_epoch": "250"}
        (folder / "debug.json").write_text(json.dumps(debug))
    study({"a": {"liver": DICE}}, prediction=str(a))
    study({"b": {"liver": DICE}}, prediction=str(b))
    given = [f"{name.upper()}={tmp_path / name}" for name in "ab"]
    assert cli.main(["compare", *given, "-o", str(tmp_path / "out"), "--resamples", "200"]) == 0
    info = json.loads((tmp_path / "out" / "comparison.json").read_text())
    told = "A 25000 steps (100 epochs of 250 steps), B 250000 steps (1000 epochs of 250 steps)"

    assert info["schedules"] == {
        "A": {"epochs": 100, "steps": 250},
        "B": {"epochs": 1000, "steps": 250},
    }
    assert f"**Trained for different lengths: {told}." in (
        (tmp_path / "out" / "comparison.md").read_text()
    )


def test_a_name_with_a_bar_does_not_break_the_table(study, tmp_path):
    study({"a": {"left|right": DICE}, "b": {"left|right": DICE}})
    text = (tmp_path / "out" / "comparison.md").read_text()

    assert "| left\\|right | " in text


def test_challenger_gets_every_algorithm_of_every_case(study, tmp_path):
    """What challengeR wants is a balanced table, and R reads `Inf`."""
    a, b = DICE.copy(), DICE.copy()
    a[0] = math.nan  # right about nothing being there
    b[0] = math.inf
    a[1] = b[1] = math.nan
    study(
        {"a": {"liver": a}, "b": {"liver": b}}, "--metric", "hd95", "--margin", "1", metric="hd95"
    )
    with (tmp_path / "out" / "challenger.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))

    assert list(rows[0]) == ["algorithm", "case", "task", "value"]
    cases = [(row["algorithm"], row["case"]) for row in rows]
    wanted = [f"case_{i:02}" for i in range(12) if i != 1]
    assert cases == [(name, case) for name in "AB" for case in wanted]
    values = {(row["algorithm"], row["case"]): row["value"] for row in rows}
    assert (values["A", "case_00"], values["B", "case_00"]) == ("0.0", "Inf")
    assert float(values["A", "case_05"]) == DICE[5]


def test_an_interrupted_comparison_is_no_finished_one(two, tmp_path, monkeypatch):
    two()

    def fail(*args, **kwargs):
        raise OSError("disk full")

    monkeypatch.setattr(pd.DataFrame, "to_csv", fail)
    cli.main(["compare", str(tmp_path / "a"), str(tmp_path / "b"), "-o", str(tmp_path / "out")])
    assert not (tmp_path / "out" / "comparison.json").exists()


def test_names(tmp_path, monkeypatch):
    (tmp_path / "x=y").mkdir()
    monkeypatch.chdir(tmp_path)

    assert folders_of(["ours=some/where", "other/folder/", "x=y"]) == {
        "ours": Path("some/where"),
        "folder": Path("other/folder/"),
        "x=y": Path("x=y"),
    }


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["a/m", "b/m"], "Two methods are called 'm': a/m and b/m. Name them"),
        (["=folder", "b"], "Want NAME=FOLDER, got '=folder'"),
        (["a=", "b"], "Want NAME=FOLDER, got 'a='"),
    ],
)
def test_names_that_are_none(given, message):
    with pytest.raises(ValueError, match=message):
        folders_of(given)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--metric", "iou"], "Cannot compare by 'iou'"),
        (["--baseline", "C"], "The baseline 'C' is none of the methods 'A', 'B'"),
        (["--costs", "nowhere.json"], "nowhere.json"),
        (["--resamples", "3"], "There are 3 resamples"),
    ],
)
def test_errors_are_one_line_and_write_nothing(two, tmp_path, capsys, arguments, message):
    assert two(*arguments) == 2
    lines = capsys.readouterr().err.splitlines()

    assert len(lines) == 1
    assert message in lines[0]
    assert not (tmp_path / "out").exists()


def test_a_folder_without_metrics(two, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    status = cli.main(["compare", "a", f"E={tmp_path / 'empty'}", "-o", str(tmp_path / "out")])

    assert status == 2
    assert "a has no metrics.csv: it is not a folder that" in capsys.readouterr().err


def test_an_output_that_cannot_be_written(two, tmp_path, capsys):
    (tmp_path / "out").touch()

    assert two() == 2
    assert f"refsam3d: error: Cannot write to {tmp_path / 'out'}: " in capsys.readouterr().err
