"""The whole way with nnU-Net's own commands, one training killed on it."""

import json
import os
import signal
import subprocess
import sys

import pytest

from tests.crossval.conftest import wait_for
from tests.integration.conftest import Workspace

pytestmark = pytest.mark.integration
COMMAND = "crossval 901 -device cpu --trainers RefSAM3DTrainer nnUNetTrainerShort --folds 0-1 -np 1"
SCHEDULE = {"REFSAM3D_NUM_EPOCHS": "3", "REFSAM3D_ITERATIONS_PER_EPOCH": "1"}
OURS, THEIRS = "RefSAM3DTrainer__RefSAM3DPlans", "nnUNetTrainerShort__nnUNetPlans"


def test_from_raw_data_to_the_report(tmp_path, repo):
    space = Workspace(tmp_path)
    out = space.results / space.name / "crossval_3d_fullres"
    environment = space.environment(
        {**SCHEDULE, "nnUNet_extTrainer": str(repo / "benchmarks" / "trainers")}
    )
    command = [sys.executable, "-m", "refsam3d_nnunet.cli", *COMMAND.split()]

    def start(*options):
        return subprocess.Popen(
            [*command, *options],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
        )

    process = start()
    killed = space.model() / "fold_0"

    def second_epoch():  # before it, the checkpoint of the first has been written
        return any("Epoch 1" in log.read_text() for log in killed.glob("training_log_*.txt"))

    wait_for(second_epoch, 300)
    notes = json.loads((out / "jobs" / OURS / "fold_0" / "progress.json").read_text())
    os.kill(notes["attempts"][-1]["pid"], signal.SIGKILL)
    output, _ = process.communicate(timeout=900)
    assert process.returncode == 0, output

    first, second = sorted(killed.glob("training_log_*.txt"))
    assert "Epoch 0" in first.read_text()
    assert "Epoch 0" not in second.read_text()
    assert "Epoch 2" in second.read_text()
    record = json.loads((out / "crossval.json").read_text())
    attempts = [
        fold["attempts"] for method in record["methods"] for fold in method["folds"].values()
    ]
    assert attempts == [2, 1, 1, 1]
    for name in (OURS, THEIRS):
        model = space.results / space.name / f"{name}__3d_fullres"
        summary = json.loads((model / "crossval_results_folds_0_1" / "summary.json").read_text())
        mine = json.loads((out / name / "metrics.json").read_text())
        assert mine["foreground_mean"]["dice"] == pytest.approx(
            summary["foreground_mean"]["Dice"], abs=1e-6
        )
        assert record["costs"][name]["hours"] > 0
    compared = json.loads((out / "comparison" / "comparison.json").read_text())
    assert (compared["baseline"], compared["cases"]) == (THEIRS, 2)
    assert "<html" in (out / "report.html").read_text(encoding="utf-8")

    before = {path: path.stat().st_mtime_ns for path in space.results.rglob("*.pth")}
    again = start()
    output, _ = again.communicate(timeout=300)
    assert output.count("is done already") == 4
    assert {path: path.stat().st_mtime_ns for path in space.results.rglob("*.pth")} == before

    output, _ = start("--ensemble").communicate(timeout=900)
    assert output.count("validating what is trained") == 4, output
    assert {path: path.stat().st_mtime_ns for path in space.results.rglob("*.pth")} == before
    check_ensemble(space.results / space.name, out, output)


def check_ensemble(results, out, output):
    """What nnU-Net left of the ensemble is what was told."""
    both = " + ".join(f"{name}__3d_fullres" for name in (OURS, THEIRS))
    assert f"Best ensemble: {both}, Dice " in output
    told = json.loads((out / "crossval.json").read_text())["ensembles"]
    (ensemble,) = (results / "ensembles").iterdir()
    summary = json.loads((ensemble / "summary.json").read_text())
    assert told[ensemble.name] == summary["foreground_mean"]["Dice"]
    assert len(summary["metric_per_case"]) == 2
    instructions = (results / "inference_instructions.txt").read_text()
    assert "nnUNetv2_predict -d Dataset901_Tiny" in instructions
