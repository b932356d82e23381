"""nnU-Net's logs, read while they are written."""

import os

import pytest

from refsam3d_nnunet.crossval.training_log import Progress, read_progress

EPOCH = """2026-11-22 17:33:36.147842:{blank}
2026-11-22 17:33:36.147842: Epoch {n}{blank}
2026-11-22 17:33:36.247842: Current learning rate: 3e-05{blank}
2026-11-22 17:34:36.247842: train_loss {loss}{blank}
2026-11-22 17:34:36.247842: val_loss -0.1{blank}
2026-11-22 17:34:36.247842: Pseudo dice {dice}{blank}
2026-11-22 17:34:36.247842: Epoch time: {seconds} s{blank}
2026-11-22 17:34:36.247842: Yayy! New best EMA pseudo Dice: 0.9{blank}
"""


def epoch(n, *, loss=-0.5, dice="[np.float32(0.5), np.float32(0.75)]", seconds=10.0):
    return EPOCH.format(n=n, loss=loss, dice=dice, seconds=seconds, blank=" ")


@pytest.fixture
def write(tmp_path):
    (tmp_path / "debug.json").write_text('{"num_epochs": "20", "num_iterations_per_epoch": "7"}')

    def write(text, name="training_log_2026_11_22_17_33_35.txt"):
        (tmp_path / name).write_text(text)
        return read_progress(tmp_path)

    return write


def test_nothing_there(tmp_path):
    assert read_progress(tmp_path) == Progress()
    assert read_progress(tmp_path / "none") == Progress()


def test_the_first_epoch_is_running(write):
    progress = write("2026-11-22 17:33:36.1: Epoch 0 \n")
    assert progress == Progress(done=0, epochs=20)
    assert progress.eta is None


def test_epochs_are_counted_and_timed(write):
    text = "".join(epoch(n, seconds=n) for n in range(7))
    progress = write(text + "2026-11-22 17:33:36.1: Epoch 7 \n")
    assert (progress.done, progress.epochs) == (7, 20)
    assert progress.dice == pytest.approx(0.625)
    assert progress.seconds == pytest.approx((2 + 3 + 4 + 5 + 6) / 5)
    assert progress.eta == pytest.approx(4 * 13)
    assert progress.validated is None


def test_a_resumed_training_goes_on_counting(write):
    assert write(epoch(11)).done == 12


@pytest.mark.parametrize(
    ("dice", "mean"),
    [("[nan, 0.5]", 0.5), ("[nan]", None), ("[np.float32(1e-05)]", 1e-5), ("[0.0, 1.0]", 0.5)],
)
def test_the_mean_dice_is_of_what_is_defined(write, dice, mean):
    assert write(epoch(0, dice=dice)).dice == pytest.approx(mean)


def test_the_validation_is_followed(write):
    text = epoch(19) + "2026-11-22 18:00:00.1: Training done. \n"
    for case in ("liver_1", "liver_2"):
        text += f"2026-11-22 18:00:00.1: predicting {case} \n"
        text += f"2026-11-22 18:00:00.1: {case}, shape torch.Size([1, 38, 46, 35]), rank 0 \n"
    progress = write(text)
    assert (progress.done, progress.validated, progress.dice) == (20, 2, 0.625)
    text += "2026-11-22 18:00:00.1: Validation complete \n"
    text += "2026-11-22 18:00:00.1: Mean Validation Dice:  0.8409831260103102 \n"
    assert write(text).dice == 0.8409831260103102
    assert write(text.replace("0.8409831260103102", "6.3e-05")).dice == 6.3e-05


def test_a_validation_alone_belongs_to_a_training_that_is_over(write):
    progress = write("2026-11-22 18:00:00.1: predicting liver_1 \n")
    assert (progress.done, progress.epochs, progress.validated) == (20, 20, 1)


def test_the_newest_log_counts_and_only_if_of_this_attempt(write, tmp_path):
    write(epoch(5))
    os.utime(tmp_path / "training_log_2026_11_22_17_33_35.txt", (1000, 1000))
    assert read_progress(tmp_path, since=2000).done == 0
    assert write(epoch(6), "training_log_2026_11_23_00_00_00.txt").done == 7


def test_a_long_log_is_read_from_its_end(write):
    assert write("".join(epoch(n) for n in range(1000))).done == 1000
