"""The parts of the benchmarks that could be wrong without anyone seeing it."""

import importlib
import json
import math
import subprocess
import sys

import numpy as np
import pytest
import torch

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


@pytest.fixture
def benchmark(repo, monkeypatch):
    """Function that imports a script which imports its siblings, as when it is run."""
    monkeypatch.syspath_prepend(str(repo / "benchmarks"))
    return importlib.import_module


def run(repo, script: str, *arguments) -> None:
    command = [sys.executable, repo / "benchmarks" / script, *arguments]
    subprocess.run([str(part) for part in command], check=True, cwd=repo)


@pytest.fixture(scope="module")
def results(repo, tmp_path_factory):
    """Results of the smallest runs."""
    folder = tmp_path_factory.mktemp("results")
    tiny = ["-o", folder, "--patch", 16, 16, 16, "--batch", 1, "--repeats", 1, "--device", "cpu"]
    run(repo, "scaling.py", *tiny, "--network", "vit_t-scratch", "--values", 2, 104)
    names = ["vit_t-scratch", "Primus-S"]
    run(repo, "speed.py", *tiny, "--networks", *names, "--no-peak", "--literal")
    return folder


def test_the_cost_of_prompts_is_written(results):
    file = results / "scaling-prompts-vit_t-scratch"
    result = json.loads(file.with_suffix(".json").read_text())
    few, many = result["rows"]
    assert [few["size"], many["size"]] == [2, 104]
    assert few["step"]["ratio"] == few["saved_ratio"] == 1
    assert 0 < few["saved_mb"] < many["saved_mb"]
    wanted = math.log(many["saved_mb"] / few["saved_mb"]) / math.log(52)
    assert result["growth"]["saved"] == pytest.approx(wanted)
    assert "\n| 104 | " in file.with_suffix(".md").read_text()
    assert "| 104 | 104 |" not in file.with_suffix(".md").read_text()


def test_the_speed_of_all_is_compared_with_the_unet(results):
    rows = json.loads((results / "speed-16x16x16-b1-cpu.json").read_text())["rows"]
    assert list(rows) == ["PlainConvUNet", "vit_t-scratch", "Primus-S", "3DSAM-adapter form"]
    base, ours = rows["PlainConvUNet"], rows["vit_t-scratch"]
    assert base["step"]["ratio"] == base["saved_mb_ratio"] == 1
    assert ours["step"]["ratio"] == ours["step"]["seconds"] / base["step"]["seconds"]
    assert ours["gflop_ratio"] == ours["gflop"] / base["gflop"]
    assert rows["3DSAM-adapter form"]["gflop"] > 10 * ours["gflop"]


def test_the_page_has_every_result_once(benchmark, results):
    found = [json.loads(file.read_text()) for file in results.glob("*.json")]
    language = {
        "benchmark": "prompts",
        "dataset": "kidneys",
        "command": "python benchmarks/prompts.py -m MODELFOLDER",
        "schedule": {"num_epochs": 20, "iterations_per_epoch": 6},
        "text_encoder": {"encoder": "minilm"},
        "dice": {
            case: {"canonical": {"left": [dice]}, "held out": {"left": [dice, dice - 0.2]}}
            for case, dice in (("a", 0.5), ("b", 0.7))
        },
        "overlap": {"left, right": [0.25, 0.75]},
        "machine": {"cores": 2},
        "seconds": 9,
    }
    others = [language, [], {"rows": "of another benchmark"}]
    page = benchmark("results_page").page([*found, *others])
    for script in ("speed", "scaling", "prompts"):
        assert page.count(f"    python benchmarks/{script}.py") == 1
    assert "## Whole volumes" not in page
    _, _, section = page.partition("## Language")
    assert "### kidneys" in section
    assert "2 cases; 120 steps" in section
    assert "| left | 0.600 | 0.500 |" in section
    assert "| left, right | 0.500 | 0.750 |" in section


def test_growth_and_ratios(benchmark):
    measuring = benchmark("measuring")
    assert measuring.growth([1, 2, 4], [3, 12, 48]) == pytest.approx(2)
    found = measuring.summary([2.0, 9.0, 4.0], [1.0, 3.0, 4.0])
    assert (found["seconds"], found["ratio"], found["ratio_spread"]) == (4, 2, [1, 3])


def test_what_is_saved_and_counted(benchmark):
    measuring = benchmark("measuring")
    layer, x = torch.nn.Linear(8, 4), torch.randn(10, 8)
    # The result and its square; the layer's own numbers and x were there before.
    assert measuring.saved_bytes(layer, lambda: layer(x).square()) == 2 * 10 * 4 * 4
    assert measuring.flops(lambda: layer(x)) == 2 * 10 * 8 * 4
    q = torch.randn(1, 2, 10, 8)
    attend = torch.nn.functional.scaled_dot_product_attention
    assert measuring.flops(lambda: attend(q, q, q)) == 2 * 2 * 2 * 10 * 10 * 8


def test_the_unet_is_the_one_of_nnunets_plan(benchmark):
    contest, rivals = benchmark("contest"), benchmark("rivals")
    problem = contest.Problem((40, 56, 40))  # MSD hippocampus
    numbers = rivals.unet_architecture(rivals.UNET, problem)["arch_kwargs"]
    assert numbers["features_per_stage"] == [32, 64, 128, 256]
    assert [list(s) for s in numbers["strides"]] == [[1] * 3, [2] * 3, [2] * 3, [2] * 3]
    with pytest.raises(ValueError, match=r"nnU-Net would pad the patch \(41, 56, 40\) to"):
        rivals.unet_architecture(rivals.UNET, contest.Problem((41, 56, 40)))


def test_an_untrained_model_is_one_that_nnunets_predictor_reads(benchmark, tmp_path):
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    contest, rivals = benchmark("contest"), benchmark("rivals")
    untrained = benchmark("untrained")
    predictor = nnUNetPredictor(device=torch.device("cpu"), perform_everything_on_device=False)
    for name in (rivals.UNET, "vit_t-scratch"):
        untrained.make_model(name, contest.Problem((16, 16, 16)), tmp_path / name)
        predictor.initialize_from_trained_model_folder(str(tmp_path / name), ("0",))
        with torch.no_grad():
            assert predictor.network(torch.zeros(1, 1, 16, 16, 16)).shape == (1, 3, 16, 16, 16)


def test_a_slim_checkpoint_and_its_backbone_are_a_whole_one(benchmark, tmp_path):
    sizes = benchmark("checkpoint_sizes").measured("vit_t", [16, 16, 16], tmp_path)
    parts = sizes["slim final or best"] + sizes["backbone file"]
    whole = sizes["whole, without the optimiser's moments"]
    assert parts == pytest.approx(whole, rel=0.01)
    moments = sizes["whole"] - whole
    assert sizes["slim latest, while training"] - sizes["slim final or best"] == pytest.approx(
        moments, rel=0.01
    )


def test_a_prediction_is_a_process_of_its_own(benchmark, tmp_path):
    inference = benchmark("inference")
    model = tmp_path / "Dataset001_A" / "Trainer__Plans__3d_fullres"
    seen = "import os; assert os.environ['nnUNet_results'] == " + repr(str(tmp_path))
    cost = inference._cost([sys.executable, "-c", seen], model)
    assert cost.wall > 0
    assert 1 < cost.peak_mb < 100  # not the memory of this process, which has torch
    with pytest.raises(RuntimeError, match="no such fold"):
        inference._cost([sys.executable, "-c", "raise SystemExit('no such fold')"], model)
