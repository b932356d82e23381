"""RefSAM3D beside nnU-Net: trainings that another study has made."""

import json

import pytest

from tests.accuracy.study import OURS, SGD, THREE, result_of, run_of

# nnU-Net's and its dependencies', when they are first imported
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

SETTINGS = {"device": "cpu", "clock": "process", "val_iterations": 5}


@pytest.fixture(scope="module")
def earlier(load_benchmark):
    return load_benchmark("accuracy_earlier")


@pytest.fixture
def file(tmp_path):
    """Results of an earlier study."""
    result = result_of([run_of(*one) for one in THREE]) | {"settings": SETTINGS}
    path = tmp_path / "accuracy.json"
    path.write_text(json.dumps(result))
    return path


def test_only_what_is_asked_for_is_taken_over(earlier, file):
    taken = earlier.taken_over([[str(file), "nnunet"]], SETTINGS)
    assert list(taken.runs) == [("abdomen", "nnunet", "steps4", 0, 0)]
    run = run_of("nnunet", SGD) | {"machine": {"device": "cpu", "torch": "2"}}
    assert list(taken.runs.values()) == [run]


def test_a_training_keeps_the_machine_that_it_ran_on(earlier, file):
    result = json.loads(file.read_text())
    result["runs"][1]["machine"] = {"device": "cpu", "torch": "1"}
    file.write_text(json.dumps(result))
    taken = earlier.taken_over([[str(file), "nnunet", "nnunet_adamw"]], SETTINGS)
    assert [run["machine"]["torch"] for run in taken.runs.values()] == ["1", "2"]


def test_a_method_that_is_not_there(earlier, file):
    with pytest.raises(ValueError, match="mine: there are trainings of nnunet, nnunet_adamw, ref"):
        earlier.taken_over([[str(file), "mine"]], SETTINGS)


def test_another_clock(earlier, file):
    with pytest.raises(ValueError, match="other settings .clock: process there, wall here"):
        earlier.taken_over([[str(file), "nnunet"]], SETTINGS | {"clock": "wall"})


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({}, True),
        ({"spacing": [4.0, 5.0, 5.0]}, False),
        ({"folds": {"0": {"train": 23, "val": 7}}}, False),
        ({"folds": {"0": {"train": 24, "val": 6}, "1": {"train": 25, "val": 5}}}, True),
    ],
)
def test_only_the_same_cases_and_voxels_are_compared(earlier, change, same):
    told = result_of([])["sets"]["abdomen"]
    if same:
        earlier.check_same_set("abdomen", told, told | change)
    else:
        with pytest.raises(ValueError, match="abdomen had another spacing or other folds"):
            earlier.check_same_set("abdomen", told, told | change)


def test_the_page_says_what_was_taken_over(load_benchmark, tmp_path):
    runs = [run_of(*one) for one in THREE]
    runs[1]["machine"] = runs[2]["machine"] = {"device": "cpu", "torch": "1"}
    result = load_benchmark("accuracy_report").summarise(result_of(runs))
    load_benchmark("accuracy_page").write_markdown(result, tmp_path / "page.md")
    line = (
        "Taken over from an earlier study: 1 training of `nnunet`, 1 training of `nnunet_adamw`; "
        "device cpu, torch 1."
    )
    assert line in (tmp_path / "page.md").read_text().splitlines()


def test_the_command_shows_it_and_wants_methods(load_benchmark, file, monkeypatch, capsys):
    accuracy = load_benchmark("accuracy")
    words = ["accuracy.py", "--data", "abdomen", "-o", "out", "--budget", "steps:4", "--take-over"]
    monkeypatch.setattr("sys.argv", [*words, str(file), "nnunet"])
    assert "--take-over accuracy.json nnunet" in accuracy._command(accuracy._arguments())
    monkeypatch.setattr("sys.argv", [*words, str(file)])
    with pytest.raises(SystemExit):
        accuracy._arguments()
    assert "--take-over wants a file and the methods" in capsys.readouterr().err


def test_a_run_knows_its_key(load_benchmark):
    accuracy, plans = load_benchmark("accuracy"), load_benchmark("accuracy_plans")
    run = accuracy.Run("Dataset501_abdomen", "nnunet", plans.parse_budget("steps:4"), 0, 0)
    assert run.key == load_benchmark("accuracy_earlier").key_of(run_of("nnunet", OURS))
