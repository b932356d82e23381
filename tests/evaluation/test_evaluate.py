"""`refsam3d evaluate` over folders: equal to nnU-Net's own summary, in parallel, and refusals."""

import json
import math
import os
import subprocess
import sys
from functools import partial
from multiprocessing.pool import ThreadPool
from types import SimpleNamespace

import numpy as np
import pytest
from nnunetv2.evaluation import evaluate_predictions
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO

from refsam3d_nnunet import cli
from refsam3d_nnunet.evaluation.evaluate import _measured, evaluate
from refsam3d_nnunet.evaluation.table import METRICS, read_evaluation

SPACING = (2.5, 0.7, 1.1)
REGIONS = {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "active": 3}


def run(folders, out, **more):
    given = {"processes": 1, **more}
    return evaluate(folders.prediction, folders.reference, out=out, **given)


def fill(folders, labelled, top=2, ignore=None):
    """Three cases; the last has no label 1, neither predicted nor true."""
    for number, case in enumerate(("c", "a", "b")):
        prediction, reference = labelled(number, top), labelled(number + 50, top)
        if case == "b":
            prediction[prediction == 1] = reference[reference == 1] = 0
        if ignore is not None:
            reference[:3] = ignore
        folders.add(case, prediction, reference, SPACING)


@pytest.fixture
def threads(monkeypatch):
    """nnU-Net's evaluation always starts processes, which takes seconds; a thread does as well."""
    context = SimpleNamespace(Pool=ThreadPool)
    monkeypatch.setattr(evaluate_predictions.multiprocessing, "get_context", lambda _: context)


def nnunets(folders, keys, ignore=None):
    """nnU-Net's own summary of both folders."""
    return evaluate_predictions.compute_metrics_on_folder(
        str(folders.reference),
        str(folders.prediction),
        None,
        SimpleITKIO(),
        ".nii.gz",
        keys,
        ignore,
        num_processes=1,
    )


@pytest.mark.filterwarnings("ignore:Mean of empty slice:RuntimeWarning")
@pytest.mark.parametrize(
    ("labels", "top", "ignore", "keys"),
    [
        ({"background": 0, "liver": 1, "left kidney": 2}, 2, None, [1, 2]),
        ({"background": 0, "liver": 1, "left kidney": 2, "ignore": 3}, 2, 3, [1, 2]),
        (REGIONS, 3, None, [(1, 2, 3), (2, 3), 3]),
        ({**REGIONS, "ignore": 4}, 3, 4, [(1, 2, 3), (2, 3), 3]),
    ],
    ids=["labels", "ignore", "regions", "regions and ignore"],
)
def test_dice_is_nnunets(threads, folders, labelled, tmp_path, labels, top, ignore, keys):
    folders.describe(labels, regions_class_order=[1, 2, 3])
    fill(folders, labelled, top, ignore)
    found = run(folders, tmp_path / "out")
    theirs = nnunets(folders, keys, ignore)

    means = [theirs["mean"][key]["Dice"] for key in keys]
    assert list(found.info["mean"]["dice"].values()) == pytest.approx(means, abs=1e-12)
    assert found.info["foreground_mean"]["dice"] == pytest.approx(
        theirs["foreground_mean"]["Dice"], abs=1e-12
    )
    grid = found.values("dice")
    for case, row in zip(grid.index, theirs["metric_per_case"], strict=True):
        assert f"/{case}.nii.gz" in row["prediction_file"]
        expected = [row["metrics"][key]["Dice"] for key in keys]
        assert grid.loc[case].tolist() == pytest.approx(expected, abs=1e-12, nan_ok=True)


def test_what_the_reference_leaves_open_does_not_count(folders, tmp_path):
    """8 voxels of 1 agree; 4 more are predicted where the reference says ignore."""
    folders.describe({"background": 0, "liver": 1, "ignore": 2})
    reference = np.zeros((6, 6, 6))
    reference[1:3, 1:3, 1:3] = 1
    prediction = reference.copy()
    reference[4, 4, 1:5], prediction[4, 4, 1:5] = 2, 1
    folders.add("a", prediction, reference)
    values = run(folders, tmp_path / "out").table.set_index("metric")["value"]

    assert (values["dice"], values["nsd"], values["hd95"]) == (1, 1, 0)
    assert values["volume_prediction"] == values["volume_reference"] == 0.008


def test_tables_and_description(folders, labelled, tmp_path):
    fill(folders, labelled)
    splits = tmp_path / "splits_final.json"
    splits.write_text(json.dumps([{"train": [], "val": ["a", "c"]}, {"train": [], "val": ["b"]}]))
    written = run(folders, tmp_path / "out", splits=splits, tolerances={"liver": 2.5})
    found = read_evaluation(tmp_path / "out")

    assert found.table.equals(written.table)
    assert found.cases == ["a", "b", "c"]
    assert found.folds == {"a": "0", "b": "1", "c": "0"} == found.info["folds"]
    assert found.table["metric"].tolist() == 6 * list(METRICS)
    assert found.table["label"].unique().tolist() == ["1", "2"]
    info = found.info
    assert info["tolerance_mm"] == {"liver": 2.5, "left kidney": 1.0}
    assert info["dataset"] == "Dataset007_Toy"
    assert info["prediction"] == str(folders.prediction)
    assert set(info["library"]) == {"dice", "monai"}
    assert info["undefined"]["dice"] == {"liver": 1, "left kidney": 0}
    assert info["infinite"]["hd95"] == {"liver": 0, "left kidney": 0}
    assert all(
        {"unit", "definition", "better", "empty"} == set(m) for m in info["metrics"].values()
    )


def test_means_leave_out_what_is_infinite_and_count_it(folders, labelled, tmp_path):
    missed = labelled(1)
    missed[missed == 1] = 0
    folders.add("a", labelled(2), labelled(1))
    folders.add("b", missed, labelled(1))
    info = run(folders, tmp_path / "out").info
    alone = run(folders, tmp_path / "out").values("hd95").loc["a", "liver"]

    assert math.isfinite(alone)
    assert info["mean"]["hd95"]["liver"] == alone
    assert info["infinite"]["hd95"] == {"liver": 1, "left kidney": 0}


def test_regions_are_named_by_their_labels(folders, labelled, tmp_path):
    folders.describe(REGIONS, regions_class_order=[1, 2, 3])
    fill(folders, labelled, 3)
    table = run(folders, tmp_path / "out").table

    named = table[["label", "name"]].drop_duplicates().to_numpy().tolist()
    assert named == [["1+2+3", "whole"], ["2+3", "core"], ["3", "active"]]


def test_the_tolerance_is_the_classes_own(folders, tmp_path):
    array, moved = np.zeros((2, 12, 12, 12))
    for value, start in ((1, 1), (2, 7)):
        array[3:6, start : start + 3, 3:6] = value
    moved[2:] = array[:-2]
    folders.add("a", moved, array)
    wide = run(folders, tmp_path / "out", tolerance=0.5, tolerances={"liver": 2.0}).values("nsd")

    assert wide.loc["a", "liver"] == 1
    assert wide.loc["a", "left kidney"] < 0.9


def test_processes_do_not_change_a_digit(folders, labelled, tmp_path):
    fill(folders, labelled)
    alone = run(folders, tmp_path / "one")
    pooled = run(folders, tmp_path / "two", processes=2)

    assert pooled.table.equals(alone.table)


def test_errors_in_a_process_are_told_as_in_one(folders, labelled, tmp_path):
    fill(folders, labelled)
    (folders.prediction / "b.nii.gz").write_bytes(b"no image")
    with pytest.raises(ValueError, match="b.nii.gz cannot be read; it may be damaged"):
        run(folders, tmp_path / "out", processes=2)
    assert not (tmp_path / "out" / "metrics.json").exists()


def test_a_killed_process_is_told():
    with pytest.raises(OSError, match="was killed, most often for lack of memory.*--processes"):
        list(_measured(partial(os._exit), [1, 2], 2))


def test_an_output_that_cannot_be_written_is_told_before_the_work(folders, labelled, tmp_path):
    fill(folders, labelled)
    (folders.prediction / "b.nii.gz").write_bytes(b"no image")  # would be told during the work
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="Cannot write to .*file/out.*-o"):
        run(folders, tmp_path / "file" / "out")


@pytest.mark.parametrize("processes", [0, -2])
def test_no_processes(folders, tmp_path, processes):
    with pytest.raises(ValueError, match=f"number of processes is {processes}, want 1 or more"):
        run(folders, tmp_path / "out", processes=processes)


def command(folders, *more):
    return cli.main(
        ["evaluate", str(folders.prediction), str(folders.reference), "--processes", "1", *more]
    )


def test_the_command(folders, labelled, tmp_path, capsys, caplog):
    fill(folders, labelled)
    (tmp_path / "t.json").write_text('{"liver": 3}')
    assert command(folders, "--tolerances", str(tmp_path / "t.json"), "--tolerance", "2") == 0
    info = read_evaluation(folders.prediction).info  # where nnU-Net writes its summary.json

    assert info["tolerance_mm"] == {"liver": 3.0, "left kidney": 2.0}
    assert f"{info['mean']['dice']['liver']:.4f}" in caplog.text
    assert "3 cases; every value is in" in caplog.text
    assert capsys.readouterr().err == ""  # no progress bar where there is no terminal


def test_a_terminal_sees_progress(folders, labelled, capsys, monkeypatch):
    fill(folders, labelled)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)

    assert command(folders) == 0
    assert "evaluate: 100%" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--tolerance", "-1"], "must be mm from 0 up, got -1.0"),
        (["--dataset-json", "nowhere.json"], "nowhere.json"),
        (["--splits", "nowhere.json"], "nowhere.json"),
        (["--tolerances", "nowhere.json"], "nowhere.json"),
    ],
)
def test_the_command_tells_errors_in_one_line(folders, labelled, capsys, arguments, message):
    fill(folders, labelled)

    assert command(folders, *arguments) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert message in lines[0]


@pytest.mark.parametrize("name", ["monai", "pandas"])
def test_without_the_extra_its_name_is_told(repo, name, tmp_path):
    code = (
        f"import sys; sys.modules[{name!r}] = None\n"
        "from refsam3d_nnunet import cli; sys.exit(cli.main(['evaluate', 'a', 'b']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=repo, text=True, capture_output=True, check=False
    )

    assert done.returncode == 2
    assert f"needs {name}, which is not installed: pip install 'refsam3d_nnunet[crossval]'" in (
        done.stderr
    )
