"""The demo from end to end, with a stand-in for nnU-Net's commands."""

import argparse
import io
import json
import shutil
import sys
from pathlib import Path

import pytest
import SimpleITK

from refsam3d_nnunet.demo.arguments import add_arguments
from refsam3d_nnunet.demo.pipeline import run

PLAN = {"patch_size": [40, 48, 56], "batch_size": 2, "spacing": [4.0, 3.0, 3.0]}
STAGES = ["plan_and_preprocess", "train", "predict", "evaluate_folder"]


class FakeNnunet:
    """Does what nnU-Net's commands leave behind, with a perfect prediction.

    Args:
        fails: Command that ends with exit code 7.
        interrupts: Command during which the user presses Ctrl-C.
    """

    def __init__(self, fails="", interrupts=""):
        self.fails = fails
        self.interrupts = interrupts
        self.calls = []
        self.env = {}

    def __call__(self, command, env, log, on_line):
        assert command[:3] == [sys.executable, "-m", "refsam3d_nnunet"]
        name, arguments = command[3], command[4:]
        self.calls.append((name, arguments))
        self.env = dict(env)
        log.touch()
        if name == self.interrupts:
            raise KeyboardInterrupt
        if name == self.fails:
            for i in range(30):
                on_line(f"trace {i}")
            return 7
        getattr(self, f"_{name}")(arguments)
        return 0

    def _plan_and_preprocess(self, arguments):
        raw, target = Path(self.env["nnUNet_raw"]), Path(self.env["nnUNet_preprocessed"])
        (dataset,) = raw.iterdir()
        (target / dataset.name / "nnUNetPlans_3d_fullres").mkdir(parents=True)
        content = {"configurations": {"3d_fullres": PLAN}}
        (target / dataset.name / "RefSAM3DPlans.json").write_text(json.dumps(content))

    def _train(self, arguments):
        """Leaves nothing that later stages of the stand-in need."""

    def _predict(self, arguments):
        images = Path(arguments[arguments.index("-i") + 1])
        for label in (images.parent / "labelsTs").iterdir():
            shutil.copy(label, arguments[arguments.index("-o") + 1])

    def _evaluate_folder(self, arguments):
        truth, predicted = map(Path, arguments[:2])
        assert Path(arguments[arguments.index("-pfile") + 1]).is_file()
        labels = json.loads(Path(arguments[arguments.index("-djfile") + 1]).read_text())["labels"]
        metrics = {str(value): {"Dice": 0.75} for value in labels.values() if value}
        cases = [
            {"prediction_file": str(predicted / file.name), "metrics": metrics}
            for file in truth.iterdir()
        ]
        (predicted / "summary.json").write_text(json.dumps({"metric_per_case": cases}))


def parse(*words):
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return parser.parse_args([str(word) for word in words])


def demo(*words, nnunet):
    """Runs the demo; returns its exit status and what it told the user."""
    stream = io.StringIO()
    return run(parse("--device", "cpu", *words), runner=nnunet, stream=stream), stream.getvalue()


@pytest.fixture
def data(tmp_path, make_raw):
    """A raw data set of seven small cases."""
    return make_raw(tmp_path / "mine", 7)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A whole demo with five phantoms to train on: folder, stand-in, exit status, output."""
    out, nnunet = tmp_path_factory.mktemp("demo") / "out", FakeNnunet()
    code, text = demo("--out", out, "--cases", 5, "--epochs", 3, "--iterations", 40, nnunet=nnunet)
    return out, nnunet, code, text


def test_commands_in_order(finished):
    out, nnunet, code, _ = finished
    calls = dict(nnunet.calls)

    assert code == 0
    assert [name for name, _ in nnunet.calls] == STAGES
    assert " ".join(calls["train"]) == (
        "1 3d_fullres 0 -tr RefSAM3DTrainer -p RefSAM3DPlans -device cpu"
    )
    plan = " ".join(calls["plan_and_preprocess"])
    assert plan.startswith("-d 1 -pl RefSAM3DPlanner -c 3d_fullres -gpu_memory_target 2")
    assert "--verify_dataset_integrity" in plan
    raw = out / "nnUNet_raw/Dataset001_TorsoPhantom"
    predict = " ".join(calls["predict"])
    assert predict.startswith(f"-d 1 -i {raw}/imagesTs -o {out}/predictions -f 0 -tr RefSAM3D")
    assert calls["evaluate_folder"][0] == str(raw / "labelsTs")


def test_environment_of_the_commands(finished):
    out, nnunet, _, _ = finished
    wanted = {
        "nnUNet_raw": str(out / "nnUNet_raw"),
        "nnUNet_preprocessed": str(out / "nnUNet_preprocessed"),
        "nnUNet_results": str(out / "nnUNet_results"),
        "OMP_NUM_THREADS": "1",
        "REFSAM3D_NUM_EPOCHS": "3",
        "REFSAM3D_ITERATIONS_PER_EPOCH": "40",
        "REFSAM3D_VAL_ITERATIONS": "4",
    }

    assert {name: nnunet.env[name] for name in wanted} == wanted
    assert int(nnunet.env["nnUNet_n_proc_DA"]) >= 1  # 0 breaks nnU-Net's planning
    assert "PATH" in nnunet.env


def test_what_the_user_is_told(finished):
    out, _, _, text = finished

    for number, typed in enumerate(("plan_and_preprocess", "train", "predict"), 1):
        assert f"[{number}/4]" in text
        assert f"  $ nnUNetv2_{typed} " in text
    assert f"export nnUNet_raw={out}/nnUNet_raw" in text
    assert "planned: patch 40 x 48 x 56, batch 2, spacing 4.00 x 3.00 x 3.00 mm" in text
    assert "| left kidney         |     0.750 | 0.750 | 0.750 |     4 |" in text
    assert str(out / "report.md") in text


def test_what_is_left_behind(finished):
    out, _, _, _ = finished

    assert "**0.750**" in (out / "report.md").read_text()
    assert (out / "slices.png").stat().st_size > 10_000
    preprocessed = out / "nnUNet_preprocessed/Dataset001_TorsoPhantom"
    assert [path.name for path in preprocessed.iterdir()] == ["RefSAM3DPlans.json"]


def test_own_data_are_only_read(tmp_path, data, contents):
    before = contents(data)
    nnunet = FakeNnunet()
    code, text = demo("--data", data, "--out", tmp_path / "out", "--keep", nnunet=nnunet)

    assert code == 0
    assert contents(data) == before
    assert "5 cases of" in text
    raw = tmp_path / "out/nnUNet_raw/Dataset001_mine"
    assert len(list((raw / "imagesTr").iterdir())) == 5
    assert len(list((raw / "labelsTs").iterdir())) == 2
    preprocessed = tmp_path / "out/nnUNet_preprocessed/Dataset001_mine"
    assert (preprocessed / "nnUNetPlans_3d_fullres").exists()  # --keep


@pytest.mark.parametrize("stage", range(4))
def test_failure_names_stage_code_and_log(tmp_path, data, stage):
    nnunet = FakeNnunet(fails=STAGES[stage])
    code, text = demo("--out", tmp_path / "out", "--data", data, nnunet=nnunet)

    assert code == 1
    assert [name for name, _ in nnunet.calls] == STAGES[: stage + 1]
    assert "failed with exit code 7" in text
    assert "| trace 29" in text
    assert "| trace 9\n" not in text  # only the last lines
    assert f"in {tmp_path}/out/demo.log" in text


def test_interrupt(tmp_path, data):
    nnunet = FakeNnunet(interrupts="train")
    code, text = demo("--out", tmp_path / "out", "--data", data, nnunet=nnunet)

    assert code == 130
    assert "Interrupted" in text


def test_foreign_folder_is_refused_before_any_work(tmp_path):
    (tmp_path / "thesis.tex").touch()
    nnunet = FakeNnunet()

    with pytest.raises(FileExistsError, match="give a new or empty folder"):
        demo("--out", tmp_path, nnunet=nnunet)
    assert nnunet.calls == []
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_bad_data_leave_no_folder_behind(tmp_path):
    (tmp_path / "empty").mkdir()

    with pytest.raises(FileNotFoundError, match="dataset.json"):
        demo("--data", tmp_path / "empty", "--out", tmp_path / "out", nnunet=FakeNnunet())
    assert not (tmp_path / "out").exists()


def test_too_few_phantoms(tmp_path):
    with pytest.raises(ValueError, match="--cases must be 5 or more, got 4"):
        demo("--out", tmp_path, "--cases", 4, nnunet=FakeNnunet())


@pytest.mark.parametrize("option", ["--epochs", "--iterations"])
def test_schedule_must_be_positive(option, capsys):
    with pytest.raises(SystemExit):
        parse(option, 0)
    assert "must be 1 or more, got 0" in capsys.readouterr().err


def test_held_out_files_are_readable_by_name(finished):
    out, _, _, _ = finished
    file = out / "nnUNet_raw/Dataset001_TorsoPhantom/imagesTs/torso_005_0000.nii.gz"

    assert SimpleITK.ReadImage(str(file)).GetDimension() == 3
