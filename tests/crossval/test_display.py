"""Bars on a terminal, lines elsewhere."""

import io

import pytest

from refsam3d_nnunet.crossval.display import Display, describe
from refsam3d_nnunet.crossval.training_log import Progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(
    ("progress", "text"),
    [
        (Progress(), "epoch 0"),
        (Progress(0, 20), "epoch 0/20"),
        (
            Progress(3, 20, 12.06, 0.7125),
            "epoch 3/20, 12.1 s an epoch, 03:25 left, Dice 0.713",
        ),
        (Progress(20, 20, 12.0, 0.7, 5), "epoch 20/20, validating case 5/8, Dice 0.700"),
    ],
)
def test_words(progress, text):
    assert describe(progress, 8) == text


def test_lines_are_few(fold):
    stream = io.StringIO()
    display = Display(stream)
    for done in range(101):
        for _ in range(3):
            display.progress(fold, Progress(done, 100, 1.0))
    for case in range(9):
        display.progress(fold, Progress(100, 100, 1.0, validated=case))
    lines = stream.getvalue().splitlines()
    assert len(lines) == 11
    assert lines[0].startswith("nnUNetTrainer__nnUNetPlans fold 1: epoch 10/100, 1.0 s an epoch")
    assert "validating" in lines[-1]
    assert "\r" not in stream.getvalue()


def test_bars_on_a_terminal(fold):
    stream = Terminal()
    display = Display(stream)
    display.progress(fold, Progress())
    display.progress(fold, Progress(5, 20, 2.0, 0.75))
    shown = stream.getvalue().split("\r")[-1]
    assert "nnUNetTrainer__nnUNetPlans fold 1:  25%" in shown
    assert "epoch 5/20, 2.0 s an epoch, 00:30 left, Dice 0.750" in shown
    display.ended(fold, "done, Dice 0.750")
    display.close()
    assert stream.getvalue().endswith("nnUNetTrainer__nnUNetPlans fold 1: done, Dice 0.750\n")
