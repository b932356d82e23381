"""nnU-Net finds our classes by name, in every process, and its own as before.

What matters here happens when an interpreter starts: most tests start one.
"""

import json
import os
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, distribution
from types import ModuleType

import pytest

from refsam3d_nnunet import __main__, _autoload

try:
    distribution("refsam3d_nnunet")
    INSTALLED = True
except PackageNotFoundError:
    INSTALLED = False

STARTED = "import sys; print(*sys.modules)"

# Run as a file, since spawned workers import the main module again.
LOOKUPS = """
import json
import multiprocessing
import pickle
import sys

if sys.flags.no_site:  # python -S: no .pth file was processed
    import refsam3d_nnunet._autoload


def look_up(name):
    import nnunetv2.experiment_planning.plan_and_preprocess_api as api
    from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

    if "Trainer" in name:
        return recursive_find_trainer_class_by_name(name)
    api.plan_experiment_dataset = lambda dataset, planner, *args: (None, planner)
    return api.plan_experiments([1], name)


def describe(name):
    found = look_up(name)
    return {"module": found.__module__, "pickles": pickle.loads(pickle.dumps(found)) is found}


if __name__ == "__main__":
    names = sys.argv[1].split(",")
    result = {name: describe(name) for name in names}
    ours = [name for name in names if name.startswith("RefSAM3D")]
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        for name, in_worker in zip(ours, pool.map(describe, ours)):
            result[name]["same in a worker"] = in_worker == result[name]
    try:
        look_up("NoSuchTrainer")
    except RuntimeError as error:
        result["unknown"] = str(error)
    print(json.dumps(result))
"""
OURS = {
    "RefSAM3DTrainer": "refsam3d_nnunet.trainers.refsam3d_trainer",
    "RefSAM3DPlanner": "refsam3d_nnunet.planners.refsam3d_planner",
    "RefSAM3DPlannerM": "refsam3d_nnunet.planners.memory_presets",
    "RefSAM3DPlannerL": "refsam3d_nnunet.planners.memory_presets",
    "RefSAM3DPlannerXL": "refsam3d_nnunet.planners.memory_presets",
}
THEIRS = {
    "nnUNetTrainer_1epoch": "nnunetv2.training.nnUNetTrainer.variants.",
    "ExperimentPlanner": "nnunetv2.experiment_planning.",
}

# An nnU-Net reduced to the two things that the hook and the fallback command touch.
STUB = {
    "nnunetv2/__init__.py": "",
    "nnunetv2/utilities/__init__.py": "",
    "nnunetv2/utilities/find_class_by_name.py": "def recursive_find_python_class(*args): pass",
    "nnunetv2/probe.py": """
import multiprocessing
import sys

from nnunetv2.utilities.find_class_by_name import recursive_find_python_class as search


def hooked():
    return hasattr(search, "knows_refsam3d")


def main():
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        print(sys.argv, hooked(), pool.apply(hooked))
""",
    "nnunetv2-2.8.dist-info/METADATA": "Metadata-Version: 2.1\nName: nnunetv2\nVersion: 2.8\n",
    "nnunetv2-2.8.dist-info/entry_points.txt": (
        "[console_scripts]\nnnUNetv2_probe = nnunetv2.probe:main\nother = other:main\n"
    ),
}


def _python(*arguments, cwd, **environment):
    """Runs a fresh interpreter and returns its exit status, output and messages."""
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def _search_module(name="nnunetv2.utilities.find_class_by_name"):
    """A stand-in for nnU-Net's module; its search reports the arguments it was given."""
    module = ModuleType(name)
    module.recursive_find_python_class = lambda *args, **kwargs: (args, kwargs)
    return module


@pytest.mark.skipif(not INSTALLED, reason="the .pth file comes with an install")
def test_every_interpreter_starts_with_the_hook_and_without_torch(tmp_path):
    status, out, err = _python("-c", STARTED, cwd=tmp_path)

    assert (status, err) == (0, "")
    assert "refsam3d_nnunet._autoload" in out.split()
    assert set(out.split()) & {"torch", "numpy", "nnunetv2"} == set()


def test_the_hook_itself_loads_next_to_nothing(repo, tmp_path):
    def modules(first):
        code = f"import {first}; {STARTED}"
        _, out, err = _python("-S", "-c", code, cwd=tmp_path, PYTHONPATH=str(repo))
        return set(out.split()), err

    before, _ = modules("os")  # site has loaded it in an ordinary start
    after, err = modules("refsam3d_nnunet._autoload")

    assert after - before == {"__future__", "refsam3d_nnunet", "refsam3d_nnunet._autoload"}, err


def test_installing_twice_changes_nothing(monkeypatch):
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path])
    monkeypatch.delitem(sys.modules, _autoload.SEARCH_MODULE, raising=False)

    _autoload.install()
    _autoload.install()

    assert sys.meta_path.count(_autoload.PatchOnImport) == 1


def test_patching_twice_wraps_once():
    module = _search_module()
    original = module.recursive_find_python_class

    _autoload.patch(module)
    _autoload.patch(module)

    assert module.recursive_find_python_class.__wrapped__ is original


def test_copies_imported_earlier_are_wrapped_too(monkeypatch):
    module, importer, stranger = _search_module(), ModuleType("a"), ModuleType("b")
    importer.recursive_find_python_class = module.recursive_find_python_class
    stranger.recursive_find_python_class = module.recursive_find_python_class
    monkeypatch.setitem(sys.modules, "nnunetv2.run.importer", importer)
    monkeypatch.setitem(sys.modules, "other.importer", stranger)

    _autoload.patch(module)

    assert importer.recursive_find_python_class is module.recursive_find_python_class
    assert stranger.recursive_find_python_class is not module.recursive_find_python_class


@pytest.mark.parametrize(
    ("name", "searched"),
    [
        ("nnUNetTrainer", "nnunetv2.training.nnUNetTrainer"),
        ("RefSAM3DTrainer", "nnunetv2.experiment_planning"),
        ("RefSAM3DTrainer", None),  # how nnU-Net searches the folders of nnUNet_extTrainer
    ],
)
def test_other_questions_reach_nnunet_unchanged(name, searched):
    module = _search_module()
    _autoload.patch(module)

    answer = module.recursive_find_python_class("folder", name, searched, "base", verbose=True)

    assert answer == (("folder", name, searched, "base"), {"verbose": True})


def test_our_names_are_answered_without_a_search(monkeypatch):
    trainer = ModuleType(OURS["RefSAM3DTrainer"])
    trainer.RefSAM3DTrainer = type("RefSAM3DTrainer", (), {})
    monkeypatch.setitem(sys.modules, trainer.__name__, trainer)
    module = _search_module()
    _autoload.patch(module)

    found = module.recursive_find_python_class(
        "folder", "RefSAM3DTrainer", current_module="nnunetv2.training.nnUNetTrainer"
    )

    assert found is trainer.RefSAM3DTrainer


def _look_up(folder, names, *flags, **environment):
    """Runs the look-ups in an interpreter of their own and returns what it reports."""
    script = folder / "lookups.py"
    script.write_text(LOOKUPS, encoding="utf-8")
    status, out, err = _python(*flags, script, ",".join(names), cwd=folder, **environment)
    assert status == 0, err
    return json.loads(out.splitlines()[-1])


@pytest.mark.skipif(not INSTALLED, reason="the .pth file comes with an install")
def test_nnunet_finds_our_classes_and_its_own(tmp_path):
    found = _look_up(tmp_path, [*OURS, *THEIRS])

    for name, module in OURS.items():
        assert found[name] == {"module": module, "pickles": True, "same in a worker": True}
    for name, package in THEIRS.items():
        assert found[name]["module"].startswith(package)
    assert "Could not find requested nnunet trainer NoSuchTrainer" in found["unknown"]


def test_nnunet_finds_our_classes_in_a_checkout_that_is_not_installed(repo, tmp_path):
    paths = os.pathsep.join([str(repo), *filter(None, sys.path)])

    found = _look_up(tmp_path, OURS, "-S", PYTHONPATH=paths)

    for name, module in OURS.items():
        assert found[name] == {"module": module, "pickles": True, "same in a worker": True}


@pytest.fixture
def stub(repo, tmp_path):
    """Import path of the checkout and a stub of nnU-Net, for an interpreter without `.pth`."""
    for name, text in STUB.items():
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    return os.pathsep.join([str(tmp_path), str(repo)])


@pytest.mark.parametrize("command", ["probe", "nnUNetv2_probe"])
def test_the_fallback_command_takes_the_hook_to_workers(stub, tmp_path, command):
    arguments = ("-S", "-m", "refsam3d_nnunet", command, "4", "-tr", "RefSAM3DTrainer")

    status, out, err = _python(*arguments, cwd=tmp_path, PYTHONPATH=stub)

    assert (status, err) == (0, "")
    assert out == "['nnUNetv2_probe', '4', '-tr', 'RefSAM3DTrainer'] True True\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["trian", "4"], "unknown nnU-Net command 'trian'"), ([], "no nnU-Net command given")],
)
def test_the_fallback_command_lists_what_it_knows(stub, tmp_path, arguments, message):
    status, out, err = _python(
        "-S", "-m", "refsam3d_nnunet", *arguments, cwd=tmp_path, PYTHONPATH=stub
    )

    assert (status, out) == (2, "")
    assert err == f"refsam3d_nnunet: error: {message}; known are: probe\n"


def test_the_fallback_command_knows_the_installed_nnunet():
    assert {"train", "predict", "plan_and_preprocess"} <= set(__main__.commands())
