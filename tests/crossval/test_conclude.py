"""What follows on the trainings: each step once, in order, with what the others left."""

import io
import json
import math
import os
import types

import pytest

from refsam3d_nnunet.comparison.schedule import Schedule
from refsam3d_nnunet.crossval import conclude, costs
from refsam3d_nnunet.crossval.dataset import find_dataset, make_folds
from refsam3d_nnunet.crossval.display import Display
from refsam3d_nnunet.crossval.folds import Method
from refsam3d_nnunet.crossval.record import Record
from tests.crossval.conftest import CASES

# monai's and nnU-Net's, when they are first imported
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
MERGED = "crossval_results_folds_0_2"
A, B = Method("A", "nnUNetPlans"), Method("B", "Mine")
concluded = conclude.conclude  # before the fixture `study` puts a stand-in there


@pytest.fixture
def taken(study, monkeypatch):
    """The steps that were taken; stand-ins take them."""
    import refsam3d_nnunet.comparison.compare
    import refsam3d_nnunet.comparison.run
    import refsam3d_nnunet.evaluation.evaluate
    import refsam3d_nnunet.evaluation.table
    import refsam3d_nnunet.report.run

    taken = []
    study.dice, study.evaluations = 0.5, {}

    def run_command(command, _env, _log, _on_line):
        trainer = command[command.index("-tr") + 1]
        taken.append(("accumulate", trainer, " ".join(command[3:])))
        (merged,) = (path / MERGED for path in study.results.glob(f"{trainer}__*"))
        merged.mkdir(exist_ok=True)
        (merged / "summary.json").touch()
        return study.status

    def evaluate(prediction, reference, *, out, **options):
        taken.append(("evaluate", prediction.parent.name[0], reference.name, options))
        out.mkdir(exist_ok=True)
        (out / "metrics.json").touch()
        told = {"foreground_mean": {"dice": study.dice}, "cases": 4, "prediction": str(prediction)}
        study.evaluations[out] = types.SimpleNamespace(info=told, cases=study.measured)
        return study.evaluations[out]

    study.status = 0
    ours = refsam3d_nnunet
    for module, name, standin in (
        (conclude, "run_command", run_command),
        (costs, "costs_of", lambda folds, _: {"hours": len(folds), "memory_gb": None}),
        (ours.evaluation.evaluate, "evaluate", evaluate),
        (ours.evaluation.table, "read_evaluation", study.evaluations.get),
        (ours.comparison.compare, "compare", lambda *a, **k: taken.append(("compare", *a, k))),
        (ours.comparison.run, "write_comparison", lambda *a: taken.append(("write", *a))),
        (ours.report.run, "write_report", lambda _, out: taken.append(("report",)) or out),
    ):
        monkeypatch.setattr(module, name, standin)
    return taken


@pytest.fixture
def steps(study, taken):
    """Function that concludes two folds of some methods; returns the steps that were taken."""

    def steps(*methods, **options):
        taken.clear()
        data = find_dataset(study.preprocessed.name)
        folds = make_folds(data, methods, "3d_fullres", [0, 2])
        study.measured = [case for fold in folds[:: len(methods)] for case in fold.cases]
        for fold in folds:
            _validate(fold.folder / "validation")
        study.out.mkdir(exist_ok=True)
        asked = {"dataset": data.name, "configuration": "3d_fullres"}
        report = concluded(
            study.out,
            data,
            folds,
            configuration="3d_fullres",
            record=Record(study.out, asked, folds),
            display=Display(io.StringIO()),
            baseline=methods[-1],
            **options,
        )
        assert report == study.out / "report.html"
        return list(taken)

    return steps


def _validate(folder):
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "summary.json").is_file():
        (folder / "summary.json").touch()
        os.utime(folder / "summary.json", (1000, 1000))


def test_all_steps(steps, study):
    debug = study.results / "A__nnUNetPlans__3d_fullres" / "fold_2" / "debug.json"
    debug.parent.mkdir(parents=True)
    debug.write_text('{"num_epochs": "3", "num_iterations_per_epoch": "5"}')
    taken = steps(A, B, processes=2, margin=0.02)
    names = [step[0] for step in taken]
    assert names == ["accumulate", "evaluate"] * 2 + ["compare", "write", "report"]
    assert taken[0][2] == (
        "accumulate_crossval_results Dataset902_Nothing -c 3d_fullres -tr A -p nnUNetPlans -f 0 2"
    )
    _, model, reference, options = taken[1]
    assert (model, reference) == ("A", "gt_segmentations")
    assert options["splits"] == study.preprocessed / "splits_final.json"
    assert options["processes"] == 2
    _, methods, options = taken[4]
    assert list(methods) == ["A__nnUNetPlans", "B__Mine"]
    assert (options["baseline"], options["margin"]) == ("B__Mine", 0.02)
    assert options["schedules"] == {"A__nnUNetPlans": Schedule(3, 5)}  # nothing tells of B
    assert options["costs"] == {"A__nnUNetPlans": {"hours": 2}, "B__Mine": {"hours": 2}}
    record = json.loads((study.out / "crossval.json").read_text())
    assert record["costs"]["B__Mine"]["memory_gb"] is None
    assert set(record["costs_measured"]) == {"hours", "memory_gb", "parameters", "checkpoint_mb"}


def test_a_single_method_is_compared_with_nothing(steps, study):
    assert [step[0] for step in steps(A)] == ["accumulate", "evaluate", "report"]
    record = json.loads((study.out / "crossval.json").read_text())
    assert record["costs"]["A__nnUNetPlans"]["hours"] == 2


def test_what_is_up_to_date_is_kept(steps, study):
    steps(A, B)
    assert [step[0] for step in steps(A, B)] == ["compare", "write", "report"]
    newer = study.results / "A__nnUNetPlans__3d_fullres" / "fold_2" / "validation" / "summary.json"
    os.utime(newer)
    assert [step[:2] for step in steps(A, B)[:2]] == [("accumulate", "A"), ("evaluate", "A")]


def test_an_evaluation_of_other_folds_is_not_taken_for_this(steps, study):
    steps(A)
    (evaluation,) = study.evaluations.values()
    evaluation.cases = evaluation.cases[:2]
    assert [step[0] for step in steps(A)] == ["evaluate", "report"]
    (evaluation,) = study.evaluations.values()
    evaluation.info["prediction"] = "/elsewhere/crossval_results_folds_0"
    assert [step[0] for step in steps(A)] == ["evaluate", "report"]
    assert [step[0] for step in steps(A)] == ["report"]


@pytest.mark.parametrize("dice", [math.nan, None], ids=["measured", "read again"])
def test_a_class_that_is_in_no_case(steps, study, dice):
    study.dice = dice
    assert steps(A)


def test_folds_that_were_trained_by_hand_have_left_no_folder_for_logs(steps, study):
    steps(A)
    assert (study.out / "jobs").is_dir()


def test_raw_ground_truth_is_preferred(steps, study):
    (study.raw / "labelsTr").mkdir(parents=True)
    for case in CASES:
        (study.raw / "labelsTr" / f"{case}.nii.gz").touch()
    (study.raw / "dataset.json").write_text((study.preprocessed / "dataset.json").read_text())
    assert steps(A)[1][2] == "labelsTr"


def test_a_step_that_fails(steps, study):
    study.status = 3
    with pytest.raises(ValueError, match="nnUNetv2_accumulate_.* failed with exit status 3: .*log"):
        steps(A)
