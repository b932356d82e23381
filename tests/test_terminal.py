"""The bar of a training: on a terminal only, of the first process only."""

import io
import re

import numpy as np
import pytest

from refsam3d_nnunet.terminal import TrainingBar


class Terminal(io.StringIO):
    def isatty(self):
        return True


def train(bar, epochs, steps, dices=()):
    dices = list(dices)
    for epoch in epochs:
        bar.start_epoch(epoch, dices)
        for step in range(steps):
            bar.step(np.float32(-0.125 * step))
        dices.append(np.float64(0.5 + 0.1 * epoch))


@pytest.fixture
def shown(monkeypatch):
    """Function that trains on a terminal, and returns what was drawn one after the other."""
    monkeypatch.setattr("refsam3d_nnunet.terminal.INTERVAL", 0)

    def shown(*arguments, epochs=3, steps=4):
        stream = Terminal()
        train(TrainingBar(epochs, steps, stream=stream), *arguments)
        return [text.strip() for text in re.split(r"[\r\n]", stream.getvalue()) if text.strip()]

    return shown


def test_epoch_rate_time_loss_and_dice(shown):
    drawn = shown(range(3), 4)
    assert drawn[0].startswith("epoch 1/3:   0%|")
    assert drawn[-1].startswith("epoch 3/3:")
    number = r"[\d.?]+"
    pattern = rf"\| +{number}(step/s|s/step), [\d:?]+ left, loss -0\.375, Dice 0\.600$"
    assert any(re.search(pattern, text) for text in drawn)
    assert not any("Dice" in text for text in drawn if text.startswith("epoch 1/3"))


def test_a_resumed_training_starts_where_it_was(shown):
    drawn = shown(range(2, 3), 4, [0.3, 0.4])
    assert drawn[0].startswith("epoch 3/3:  67%|")
    assert "Dice 0.400" in drawn[-1]


def test_room_is_made_for_nnunets_lines():
    stream = Terminal()
    bar = TrainingBar(2, 1, stream=stream)
    bar.start_epoch(0)
    bar.step(0.5)
    assert re.search(r"\r +\r$", stream.getvalue())  # blanks over the bar, and back


@pytest.mark.parametrize(("stream", "rank"), [(io.StringIO(), 0), (Terminal(), 1)])
def test_silence(stream, rank):
    train(TrainingBar(2, 3, rank=rank, stream=stream), range(2), 3)
    assert stream.getvalue() == ""


def test_steps_outside_of_an_epoch_do_no_harm():
    TrainingBar(2, 3, stream=Terminal()).step(0.5)
