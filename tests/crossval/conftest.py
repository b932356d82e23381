"""A preprocessed data set of empty files, a stand-in for nnU-Net's training, and a caller."""

import argparse
import io
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from refsam3d_nnunet.crossval import conclude, run
from refsam3d_nnunet.crossval.arguments import add_arguments
from refsam3d_nnunet.crossval.folds import Fold, Method

NAME = "Dataset902_Nothing"
STANDIN = Path(__file__).with_name("standin.py")
CASES = [f"case_{i}" for i in range(10)]


class Study:
    """nnU-Net's folders with a data set that is ready to be trained on.

    Args:
        root: Where they are made.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.raw, self.preprocessed, self.results = (
            root / name / NAME for name in ("raw", "pre", "res")
        )
        self.out = self.results / "crossval_3d_fullres"
        self.trouble_file = root / "trouble.json"
        self.trouble()
        self.results.mkdir(parents=True)  # and no raw data: they may have stayed elsewhere
        _write_preprocessed(self.preprocessed)

    @property
    def environment(self) -> dict[str, str]:
        return {
            "nnUNet_raw": str(self.raw.parent),
            "nnUNet_preprocessed": str(self.preprocessed.parent),
            "nnUNet_results": str(self.results.parent),
            "STANDIN": str(self.trouble_file),
        }

    def trouble(self, **folds: dict) -> None:
        """Says what goes wrong: fold_0={"at": epoch, "how": ..., "times": ...}."""
        plan = {name.removeprefix("fold_"): what for name, what in folds.items()}
        self.trouble_file.write_text(json.dumps(plan))

    def arguments(self, text: str = "") -> argparse.Namespace:
        parser = argparse.ArgumentParser()
        add_arguments(parser)
        defaults = "-device cpu --trainers nnUNetTrainer --folds 0-1"
        return parser.parse_args([NAME, *defaults.split(), *text.split()])

    def run(self, text: str = "") -> int:
        self.stream = io.StringIO()
        return run.run(
            self.arguments(text),
            command=(sys.executable, str(STANDIN)),
            stream=self.stream,
            poll=0.1,
        )

    @property
    def output(self) -> str:
        return self.stream.getvalue()

    def start(self, text: str = "") -> subprocess.Popen:
        """The same in a process of its own, which can be killed."""
        script = f"""
            import sys
            from tests.crossval.conftest import Study
            from refsam3d_nnunet.crossval import conclude, run
            conclude.conclude = lambda out, *_, **__: out / "report.html"
            run.check_trainers = lambda _: None
            study = Study.__new__(Study)
            command = (sys.executable, {str(STANDIN)!r})
            sys.exit(run.run(study.arguments({text!r}), command=command, poll=0.1))
        """
        return subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(script)],
            env={**os.environ, **self.environment},
            cwd=Path(__file__).parents[2],
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )

    def wait_until_it_hangs(self, fold: int) -> None:
        wait_for((self.model() / f"fold_{fold}" / "trouble_0").is_file)

    def model(self, trainer: str = "nnUNetTrainer") -> Path:
        return self.results / f"{trainer}__nnUNetPlans__3d_fullres"

    def record(self, fold: int, method: int = 0) -> dict:
        content = json.loads((self.out / "crossval.json").read_text())
        return content["methods"][method]["folds"][str(fold)]

    def attempts(self, fold: int) -> list[dict]:
        path = self.out / "jobs" / "nnUNetTrainer__nnUNetPlans" / f"fold_{fold}" / "progress.json"
        return json.loads(path.read_text())["attempts"] if path.is_file() else []

    def calls(self, fold: int, trainer: str = "nnUNetTrainer") -> list[str]:
        """Last argument of each call of the stand-in: the fold's `cpu`, or `--c`, or `--val`."""
        path = self.model(trainer) / f"fold_{fold}" / "calls.txt"
        return [line.split()[-1] for line in path.read_text().splitlines()]

    def epochs(self, fold: int) -> list[int]:
        """Epochs that were trained, in the order of time."""
        logs = sorted((self.model() / f"fold_{fold}").glob("training_log_*.txt"))
        lines = [line for log in logs for line in log.read_text().splitlines()]
        return [
            int(line.split()[-1]) for line in lines if ": Epoch " in line and "time" not in line
        ]


def _write_preprocessed(folder: Path) -> None:
    data, truth = folder / "nnUNetPlans_3d_fullres", folder / "gt_segmentations"
    for path in (data, truth):
        path.mkdir(parents=True)
    description = {"labels": {"background": 0, "liver": 1}, "file_ending": ".nii.gz"}
    configuration = {"data_identifier": data.name}
    plans = {"configurations": {"3d_fullres": configuration, "2d": {"inherits_from": "3d_fullres"}}}
    splits = [{"train": CASES, "val": CASES[2 * i : 2 * i + 2]} for i in range(5)]
    for name, content in (
        ("dataset", description),
        ("dataset_fingerprint", {}),
        ("nnUNetPlans", plans),
        ("splits_final", splits),
    ):
        (folder / f"{name}.json").write_text(json.dumps(content))
    for case in CASES:
        (data / f"{case}.pkl").touch()
        (truth / f"{case}.nii.gz").touch()


@pytest.fixture
def study(tmp_path, monkeypatch) -> Study:
    """A data set to cross-validate; nothing is evaluated, no trainer is looked up."""
    made = Study(tmp_path)
    for name, value in made.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(run, "check_trainers", lambda _: None)
    monkeypatch.setattr(conclude, "conclude", lambda out, *_, **__: out / "report.html")
    return made


@pytest.fixture
def fold(tmp_path) -> Fold:
    """A fold whose folder is empty."""
    made = Fold(
        Method("nnUNetTrainer", "nnUNetPlans"), 1, tmp_path / "model", ("a", "b"), ".nii.gz"
    )
    made.folder.mkdir(parents=True)
    return made


def wait_for(condition: Callable[[], object], seconds: float = 60) -> None:
    """Waits until something is so."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never was so"
        time.sleep(0.05)


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
