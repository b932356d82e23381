"""What is read of a cross-validation's folder, and what is said of one that is damaged."""

import json
import shutil

import pytest

from refsam3d_nnunet.cli import main
from refsam3d_nnunet.report.agreement import check
from refsam3d_nnunet.report.compared import check_comparison, differences
from refsam3d_nnunet.report.study import read_study
from refsam3d_nnunet.report.summary import results
from tests.report.conftest import CASES, EMPTY, METHODS, MISSED


def change(path, edit):
    """Edits a JSON file by a function that is given its content."""
    content = json.loads(path.read_text(encoding="utf-8"))
    edit(content)
    path.write_text(json.dumps(content))


def test_baseline_comes_last_and_labels_are_short(built):
    study = read_study(built.folder)

    assert [m.name for m in study.methods] == list(METHODS)
    assert [m.label for m in study.methods] == ["RefSAM3DTrainer", "nnUNetTrainer"]
    assert study.dataset == "Dataset901_Toy"
    assert study.missing == []


def test_methods_of_one_trainer_keep_their_plans(toy):
    twin = "RefSAM3DTrainer__OtherPlans"
    shutil.copytree(toy.folder / METHODS[0], toy.folder / twin)
    change(
        toy.folder / "crossval.json",
        lambda record: record["methods"].append({**record["methods"][0], "name": twin}),
    )

    assert [m.label for m in read_study(toy.folder).methods] == [METHODS[0], twin, METHODS[1]]


def write_schedules(toy, method, *schedules):
    for fold, (epochs, steps) in enumerate(schedules):
        debug = {"num_epochs": str(epochs), "num_iterations_per_epoch": str(steps)}
        change(
            toy.model(method) / f"fold_{fold}" / "debug.json", lambda it, new=debug: it.update(new)
        )


def test_folds_of_different_lengths_are_a_warning(toy):
    write_schedules(toy, METHODS[0], (2, 250), (1000, 250), (1000, 250))
    write_schedules(toy, METHODS[1], *[(1000, 250)] * 5)
    (warning,) = [w for w in read_study(toy.folder).warnings if "lengths" in w]

    assert warning == (
        f"Folds of {METHODS[0]} were trained for different lengths: fold 0 2 epochs of 250 steps; "
        "fold 1 1000 epochs of 250 steps; fold 2 1000 epochs of 250 steps."
    )


@pytest.mark.parametrize("older", [True, False])
def test_methods_of_different_lengths_are_a_warning_once(toy, older):
    write_schedules(toy, METHODS[0], *[(100, 250)] * 5)
    write_schedules(toy, METHODS[1], *[(1000, 250)] * 5)
    text = (
        f"Trained for different lengths: {METHODS[0]} 25000 steps (100 epochs of 250 steps), "
        f"{METHODS[1]} 250000 steps (1000 epochs of 250 steps). A difference may come from that "
        "as well as from the methods."
    )

    def edit(comparison):
        assert comparison.pop("schedules") == {}
        if not older:
            comparison.update(schedules={"told": 1})
            comparison["warning"].append(text)

    change(toy.folder / "comparison" / "comparison.json", edit)

    assert [w for w in read_study(toy.folder).warnings if "lengths" in w] == [text]
    assert text in toy.report()


def test_folder_of_something_else(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"has no crossval.json: wanted is the folder"):
        read_study(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "no readable JSON"),
        ("[]", "must hold a JSON object"),
        ('{"methods": [{"trainer": "x"}]}', "lists a method without a name"),
        ('{"methods": []}', "has no evaluated method yet"),
    ],
)
def test_damaged_record(tmp_path, text, message):
    (tmp_path / "crossval.json").write_text(text)

    with pytest.raises(ValueError, match=message):
        read_study(tmp_path)


def test_method_that_is_not_evaluated_yet(toy):
    (toy.folder / METHODS[1] / "metrics.json").unlink()
    change(
        toy.folder / "crossval.json",
        lambda record: record["methods"][1]["folds"]["3"].update(state="failed"),
    )
    study = read_study(toy.folder)

    assert [m.name for m in study.methods] == [METHODS[0]]
    assert f"{METHODS[1]} is left out: it has not been evaluated." in study.missing
    assert "Differences are left out: a single method has been evaluated." in study.missing
    assert f"Fold 3 of {METHODS[1]} is failed, not done." in study.warnings


def test_a_comparison_with_what_is_not_here_is_left_out(toy):
    change(toy.folder / "crossval.json", lambda record: record["methods"].pop())
    study = read_study(toy.folder)

    assert [m.name for m in study.methods] == [METHODS[0]]
    assert study.comparison is None
    assert any("that lies here is of an earlier call, and left out" in m for m in study.missing)


def test_dice_equals_that_of_nnunet(built):
    study = read_study(built.folder)

    for agreement, method in zip(check(study), METHODS, strict=True):
        told = json.loads(built.summary(method).read_text(encoding="utf-8"))
        theirs = [told["mean"]["1"]["Dice"], told["mean"]["2"]["Dice"]]
        theirs.append(told["foreground_mean"]["Dice"])
        assert [row[2] for row in agreement.rows] == theirs
        assert [row[1] for row in agreement.rows] == pytest.approx(theirs, abs=1e-9)
        assert agreement.problem == ""
        assert agreement.worst_case < 1e-9
    assert not [warning for warning in study.warnings if "differs" in warning]


def _case(summary):
    summary["metric_per_case"][4]["metrics"]["1"]["Dice"] += 2e-6


def _mean(summary):
    summary["mean"]["2"]["Dice"] -= 2e-6


def _foreground(summary):
    summary["foreground_mean"]["Dice"] += 2e-6


@pytest.mark.parametrize("edit", [_case, _mean, _foreground])
def test_dice_that_differs_is_a_warning(toy, edit):
    change(toy.summary(METHODS[1]), edit)
    study = read_study(toy.folder)
    check(study)

    assert (
        len([w for w in study.warnings if "differs from nnU-Net's Dice by up to 2e-06" in w]) == 1
    )


def test_the_summary_of_just_these_cases_counts(toy):
    summary = toy.summary(METHODS[0])
    more = summary.parent.with_name("crossval_results_folds_0")  # the first of its folder
    more.mkdir()
    shutil.copy(summary, more / "summary.json")

    def add(content):
        row = content["metric_per_case"][0]
        content["metric_per_case"].append({**row, "prediction_file": "another.nii.gz"})

    change(more / "summary.json", add)
    found = check(read_study(toy.folder))

    assert [one.source for one in found][0] == summary


def test_summary_of_other_cases_or_none(toy):
    change(toy.summary(METHODS[0]), lambda summary: summary["metric_per_case"].pop())
    toy.summary(METHODS[1]).write_text("{")
    study = read_study(toy.folder)
    check(study)

    assert any("has other cases or classes than nnU-Net's" in w for w in study.warnings)
    assert any(m.startswith(f"{METHODS[1]}: Dice is not checked") for m in study.missing)


def test_regions_are_found_under_nnunets_name(toy):
    """metrics.csv writes 1+2 and summary.json (1, 2)."""
    table = toy.folder / METHODS[0] / "metrics.csv"
    table.write_text(table.read_text(encoding="utf-8").replace(",1,<script>", ",1+2,<script>"))

    def rename(summary):
        for scores in [summary["mean"], *(e["metrics"] for e in summary["metric_per_case"])]:
            scores["(1, 2)"], scores["(2,)"] = scores.pop("1"), scores.pop("2")

    change(toy.summary(METHODS[0]), rename)

    assert check(read_study(toy.folder))[0].problem == ""


def test_differences_are_those_of_the_comparison(built):
    study = read_study(built.folder)
    grid = differences(study, *study.methods)
    pairs = {pair["class"]: pair for pair in built.comparison()["pairs"]}

    assert set(grid.columns) == set(pairs)
    for name, pair in pairs.items():
        assert grid[name].mean() == pytest.approx(pair["difference"], abs=1e-9)
        assert grid[name].notna().sum() == pair["n"]
    assert set(CASES) - set(grid.dropna().index) == {EMPTY}
    assert grid.loc[MISSED].min() == pytest.approx(-0.5)
    check_comparison(study)
    assert not [warning for warning in study.warnings if "run `refsam3d compare`" in warning]


def test_comparison_older_than_the_metrics_is_a_warning(toy):
    table = toy.folder / METHODS[0] / "metrics.csv"
    lines = table.read_text(encoding="utf-8").splitlines()
    row = next(i for i, line in enumerate(lines) if ",dice," in line)
    lines[row] = lines[row].rpartition(",")[0] + ",0.001"
    table.write_text("\n".join(lines) + "\n")
    study = read_study(toy.folder)
    check_comparison(study)

    assert "is not that of the cases in this report" in study.warnings[-1]


@pytest.mark.parametrize(
    ("verdict", "words"),
    [
        ("superior", "RefSAM3DTrainer is better than nnUNetTrainer (superior). Difference in mean"),
        ("non-inferior", "is not worse than nnUNetTrainer by more than the margin of 0.01"),
        ("inferior", "is worse than nnUNetTrainer by more than the margin of 0.01"),
        ("inconclusive", "is neither better than nnUNetTrainer nor"),
    ],
)
def test_result_in_words(toy, verdict, words):
    def edit(comparison):
        for pair in comparison["pairs"]:
            pair.update(verdict=verdict, difference=-0.0123, low=-0.02, high=0.005)

    change(toy.folder / "comparison" / "comparison.json", edit)
    (sentence,) = results(read_study(toy.folder))

    assert words in sentence
    assert "−0.0123, 95% interval −0.0200 to +0.0050, 12 cases." in sentence


def test_command(toy, capsys):
    out = toy.root / "new" / "page.html"

    assert main(["report", str(toy.folder), "-o", str(out)]) == 0
    assert [path.name for path in out.parent.iterdir()] == ["page.html"]
    assert main(["report", str(toy.root)]) == 2
    assert "has no crossval.json" in capsys.readouterr().err


def test_output_that_cannot_be_written(toy):
    (toy.root / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        toy.report(toy.root / "file" / "page.html")
