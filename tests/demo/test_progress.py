"""What the user sees of nnU-Net's output, and what the demo says about the time left."""

import io
import sys

import pytest

from refsam3d_nnunet.demo.progress import Console, Estimate, StageOutput, duration
from refsam3d_nnunet.demo.runner import run_command

STAMP = "2025-02-03 04:05:06.789012: "
EPOCH = [
    STAMP + "Epoch 4",
    STAMP + "Current learning rate: 0.01",
    STAMP + "train_loss -0.5625",
    STAMP + "val_loss -0.5",
    STAMP + "Pseudo dice [np.float32(0.75), np.float32(0.25), nan]",
    STAMP + "Epoch time: 20.5 s",
]


class Clock:
    """A clock that is set by hand."""

    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def estimate(clock):
    return Estimate({"plan": 10.0, "train": 100.0, "test": 20.0}, clock)


def shown(estimate, lines, steps=0):
    stream = io.StringIO()
    output = StageOutput(Console(stream), estimate, steps)
    for line in lines:
        output(line)
    return stream.getvalue().splitlines()


def test_time_left_before_anything_is_the_reference(estimate):
    assert estimate.remaining() == 130
    assert estimate.elapsed() == 0


def test_time_left_follows_the_speed_of_the_machine(estimate, clock):
    estimate.start("plan")
    clock.now += 30  # thrice as slow; with 10 s at reference speed, twice
    assert estimate.finish() == 30

    assert estimate.remaining() == 2 * 120
    assert estimate.seconds == {"plan": 30}


def test_time_left_within_a_stage_follows_its_steps(estimate, clock):
    estimate.start("plan")
    clock.now += 10
    estimate.finish()
    estimate.start("train")
    clock.now += 50
    assert estimate.remaining() == 50 + 20  # as the reference
    estimate.advance(0.25)
    assert estimate.remaining() == 150 + 20  # a quarter took 50 s
    clock.now += 25
    assert estimate.remaining() == 125 + 20
    estimate.advance(0.5)  # this one took 25 s: between the two paces, 150 s for the whole
    assert estimate.remaining() == 75 + 20
    clock.now += 500
    assert estimate.remaining() == 20
    estimate.advance(0.5)
    assert estimate.remaining() == 20
    assert estimate.elapsed() == 585


def test_time_left_is_never_negative(estimate, clock):
    estimate.start("test")
    clock.now += 1000

    assert estimate.remaining() == 110  # the two other stages


def test_an_epoch_becomes_a_line(estimate, clock):
    estimate.start("train")
    clock.now += 100

    assert shown(estimate, EPOCH, steps=9) == [
        "  epoch 5/9  loss -0.5625  Dice 0.500 [0.75 0.25 nan]  20.5 s, about 2 min 10 s left"
    ]


def test_other_output_is_told_apart(estimate):
    lines = [
        "Using device: cpu",
        "Fingerprint extraction...",
        STAMP + "RefSAM3D: NO PRETRAINED WEIGHTS.",
        STAMP + "RefSAM3D: {",
        "Plans were saved to RefSAM3DPlans.json",
        '  "refsam3d_nnunet": "1"',
        "WARNING: affine mismatch",
        "If you didn't see any error messages then your dataset is most likely OK!",
        STAMP + "Mean Validation Dice:  0.8125",
        "Unable to plot network architecture: error",
    ]

    assert shown(estimate, lines) == [
        "  Fingerprint extraction...",
        "  RefSAM3D: NO PRETRAINED WEIGHTS.",
        "  WARNING: affine mismatch",
        "  Dice 0.812 on nnU-Net's own validation cases",
    ]


def test_predicted_images_are_counted(estimate):
    estimate.start("test")

    lines = shown(estimate, ["perform_everything_on_device: False", "other"] * 2, steps=2)
    assert [line.split(",")[0] for line in lines] == ["  image 1/2", "  image 2/2"]


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59.6, "1 min 00 s"), (125, "2 min 05 s")]
)
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_command_output_goes_to_log_and_user(tmp_path):
    log = tmp_path / "log"
    log.write_text("before\n")
    lines = []
    script = "import os, sys; print('out'); print(os.environ['WORD'], file=sys.stderr); sys.exit(3)"
    code = run_command([sys.executable, "-u", "-c", script], {"WORD": "err"}, log, lines.append)

    assert code == 3
    assert lines == ["out", "err"]
    assert log.read_text().splitlines()[0] == "before"
    assert log.read_text().splitlines()[-2:] == ["out", "err"]


def test_interrupted_command_does_not_live_on(tmp_path):
    script = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
    pids = []

    def interrupt(line):
        pids.append(int(line))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_command([sys.executable, "-c", script], {}, tmp_path / "log", interrupt)
    import os

    with pytest.raises(ProcessLookupError):
        os.kill(pids[0], 0)
