"""documentation/planning.md says what the planner does now."""

import math
import shutil
import subprocess
import sys

import pytest

from refsam3d_nnunet.fit import plan_patch
from refsam3d_nnunet.memory import Task, step_gb

# nnU-Net's and its dependencies', when they are first imported
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
AGAIN = "Run: python benchmarks/presets.py -o documentation/planning.md"
USUAL_GB = 8


@pytest.fixture(scope="module")
def page(repo) -> str:
    return (repo / "documentation" / "planning.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def presets(load_benchmark):
    return load_benchmark("presets")


@pytest.fixture(scope="module")
def memory_of():
    """Function that returns the memory target of a planner of ours, in GB, by its name."""
    from refsam3d_nnunet.planners import memory_presets

    def _memory(name: str) -> float:
        return USUAL_GB if name == "RefSAM3DPlanner" else getattr(memory_presets, name).memory_gb()

    return _memory


def rows_below(page: str, title: str) -> list[list[str]]:
    """Cells of the rows of the first table below a title."""
    section = page.partition(f"# {title}\n")[2].partition("\n#")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line[1:-1].split("|")] for line in lines[2:]]


def extent(values) -> str:
    return " x ".join(str(value) for value in values)


@pytest.mark.parametrize(
    ("title", "preset", "tuning"),
    [
        ("Without pretrained weights", None, "scratch"),
        ("SAM's ViT-B, tuning mode `adapter`", "vit_b", "adapter"),
    ],
)
def test_the_tables_are_what_is_planned(page, presets, memory_of, title, preset, tuning):
    rows = rows_below(page, title)
    assert len(rows) == len(presets.DATA_SETS) * len(presets.PLANNERS)
    for i, data in enumerate(presets.DATA_SETS.values()):
        task = Task(data.channels, data.classes + 1, tuning)
        for row in rows[4 * i : 4 * i + 4]:
            planner, patch, batch, *numbers, gb = row[1:8]
            memory_gb = memory_of(planner.strip("`"))
            plan = plan_patch(
                data.spacing, data.shape, preset=preset, task=task, memory_gb=memory_gb
            )
            config = plan.config
            wanted = [extent(config.token_size), extent(config.grid_size), f"`{config.preset}`"]
            assert [patch, *numbers] == [extent(plan.patch_size), *wanted], AGAIN
            share = 0.05 * data.cases * math.prod(data.shape) / math.prod(plan.patch_size)
            assert int(batch) == max(2, min(plan.batch_size, round(share))), AGAIN
            assert gb == f"{step_gb(config, task, int(batch)):.1f}", AGAIN


def test_the_presets_are_those_of_the_planners(page, presets, memory_of):
    rows = rows_below(page, "Presets of memory")
    assert [row[0].strip("`") for row in rows] == list(presets.PLANNERS)
    for planner, plans, gpu, memory, theirs in rows:
        name = planner.strip("`")
        assert plans == f"`{name.replace('Planner', 'Plans')}`"
        assert memory == f"{memory_of(name):g} GB"
        assert theirs == f"`{presets.PLANNERS[name]}`"
        assert gpu == "any" or float(memory.split()[0]) < float(gpu.split()[0])


def test_larger_presets_plan_no_less(page, presets):
    for title in ("Without pretrained weights", "SAM's ViT-B, tuning mode `adapter`"):
        rows = rows_below(page, title)
        for i in range(len(presets.DATA_SETS)):
            sizes = []
            for row in rows[4 * i : 4 * i + 4]:
                depth, height, width = map(int, row[2].split(" x "))
                sizes.append(depth * height * width * int(row[3]))
            assert sizes == sorted(sizes)


@pytest.mark.integration
def test_the_script_writes_what_the_page_says(repo, page, tmp_path):
    """One data set; all would take minutes."""
    copy = tmp_path / "planning.md"
    shutil.copy(repo / "documentation" / "planning.md", copy)
    command = [sys.executable, repo / "benchmarks" / "presets.py", "-o", copy, "--sets", "ACDC"]
    subprocess.run([str(part) for part in command], check=True, cwd=tmp_path)
    text = copy.read_text(encoding="utf-8")
    assert text.partition("<!-- presets")[0] == page.partition("<!-- presets")[0]
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert len(lines) > 15
    assert set(lines) <= set(page.splitlines()), AGAIN
