"""RefSAM3D beside nnU-Net: what is said about it."""

import json
import math

import pytest

from tests.accuracy.study import ADAMW, THREE, result_of, run_of

# nnU-Net's and its dependencies', when they are first imported
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


@pytest.fixture(scope="module")
def report(load_benchmark):
    return load_benchmark("accuracy_report")


@pytest.fixture(scope="module")
def page(load_benchmark):
    return load_benchmark("accuracy_page")


def test_the_page_and_its_figure(report, page, tmp_path):
    runs = [run_of(*one) for one in THREE]
    runs[1]["dice"]["v0"]["liver"] = math.nan
    result = json.loads(json.dumps(report.summarise(result_of(runs)), allow_nan=False))
    path = tmp_path / "accuracy.md"
    page.write_markdown(result, path)
    text = path.read_text()
    assert "1 seed, the same for all methods." in text
    assert "24 training cases and 6 validation cases. A step" in text
    assert "Budgets of a training: steps:4, seconds:9; 1 seed," in text
    assert "A step of the probe: refsam3d 1.25 s, nnunet 3.00 s, nnunet_adamw 3.10 s." in text
    row = "| steps:4 | refsam3d | **0.600** | 0.650 | 0.550 | 4 | 2.0 | 1.0 | 2.0 M |"
    assert row in text
    assert "| refsam3d - nnunet_adamw \\* | **+0.100** |" in text
    assert "| refsam3d - nnunet | " in text
    assert "| superior |" in text or "| non-inferior |" in text
    assert "](images/accuracy-abdomen.svg)" in text
    figure = (tmp_path / "images" / "accuracy-abdomen.svg").read_text()
    assert "training steps" in figure
    assert "processor seconds of training" in figure
    assert "Seconds are the processor's" in text
    assert "nnunet_adamw" in figure
    # Drawn again from the same numbers it is the same file, and the page's rest stays.
    path.write_text(f"Before.\n{text}After.\n")
    page.write_markdown(result, path)
    assert path.read_text() == f"Before.\n{text}After.\n"
    assert (tmp_path / "images" / "accuracy-abdomen.svg").read_text() == figure
    # Another page in that folder has figures of its own.
    page.write_markdown(result, tmp_path / "larger.md")
    assert "](images/larger-abdomen.svg)" in (tmp_path / "larger.md").read_text()
    assert (tmp_path / "images" / "larger-abdomen.svg").read_text() == figure


def test_the_page_of_two_folds(report, page, tmp_path):
    runs = [run_of(*one) for one in THREE] + [run_of("refsam3d", ADAMW, fold=1)]
    result = result_of(runs)
    result["sets"]["abdomen"]["folds"]["1"] = {"train": 25, "val": 1}
    result = json.loads(json.dumps(report.summarise(result), allow_nan=False))
    page.write_markdown(result, tmp_path / "accuracy.md")
    text = (tmp_path / "accuracy.md").read_text()
    assert "1 seed and 2 folds, of which some methods and sets have fewer." in text
    told = "fold 0: 24 training cases and 6 validation cases; fold 1: 25 training cases and 1 "
    assert told + "validation case. A step" in text
    assert "| refsam3d | **0.550** (0.600, 0.500) |" in text
    assert "| steps:4 | refsam3d | 1 | 0 | v0of fold 1 | 0.450 |" in text


def test_the_page_before_anyrun_of(report, page, tmp_path):
    path = tmp_path / "accuracy.md"
    page.write_markdown(report.summarise(result_of([])), path)
    assert "No run is finished." in path.read_text()
    assert not (tmp_path / "images").exists()
