"""The parts of the benchmarks that could be wrong without anyone seeing it."""

import json
import subprocess
import sys

import numpy as np
import pytest

from refsam3d_nnunet.text.phrases import phrase_bank

# nnU-Net's and its dependencies', when they are first imported
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
CLASSES = phrase_bank(
    {"labels": {"background": 0, "kidney_left": 1, "liver": 2, "kidney_right": 3}}
)


@pytest.fixture(scope="module")
def prompts(load_benchmark):
    return load_benchmark("prompts")


def test_wordings(prompts):
    ways = prompts.wordings(CLASSES, 2)
    kinds = ["canonical", *2 * ["trained"], *2 * ["held out"], *2 * ["held out, alone"]]
    assert [way.kind for way in ways] == [*kinds, "sides exchanged", "moved on"]
    for kind, phrases, named in ways[:7]:
        assert named == [0, 1, 2, 3]
        for one, phrase in zip(CLASSES, phrases, strict=True):
            assert phrase in (one.held_out if "held out" in kind else one.training)
    assert ways[7][1:] == (["background", "right kidney", "liver", "left kidney"], [0, 3, 2, 1])
    assert ways[8][1:] == (["background", "liver", "right kidney", "left kidney"], [0, 2, 3, 1])


def test_dice(prompts):
    one, other = np.array([1, 1, 0, 0], bool), np.array([0, 1, 1, 1], bool)
    assert prompts.dice_of(one, other) == pytest.approx(2 / 5)
    assert prompts.dice_of(one & ~one, other & ~other, empty=0.0) == 0
    assert prompts.dice_of(one, one) == 1


def test_masks_overlap_only_where_two_prompts_beat_the_background(prompts):
    chances = np.array([0.2, 0.5, 0.3]).reshape(3, 1, 1, 1)
    chosen, bare = prompts.masks_of(chances, 0)
    assert chosen.ravel().tolist() == [False, True, False]
    assert bare.ravel().tolist() == [False, True, True]


def test_the_cost_of_prompts_is_written(repo, tmp_path):
    script = repo / "benchmarks" / "prompt_cost.py"
    tiny = ["--preset", "vit_t", "--patch", "16", "16", "16", "--batch", "1", "--repeats", "1"]
    command = [sys.executable, script, "-o", tmp_path, *tiny, "--device", "cpu"]
    subprocess.run([str(part) for part in command], check=True, cwd=repo)
    rows = json.loads((tmp_path / "prompt_cost.json").read_text())["rows"]
    assert [row["prompts"] for row in rows] == [2, 8, 32, 104]
    assert rows[0]["seconds_ratio"] == rows[0]["saved_mb_ratio"] == 1
    assert rows[-1]["saved_mb"] > rows[0]["saved_mb"] > 0
    assert "| 104 | " in (tmp_path / "prompt_cost.md").read_text()
