"""The `refsam3d` command: quick to start, and plain about what the user got wrong."""

import subprocess
import sys
from types import ModuleType

import pytest

from refsam3d_nnunet import __version__, cli


@pytest.fixture
def demo(monkeypatch):
    """Stands in for the demo; a test gives it what to do."""
    module = ModuleType("refsam3d_nnunet.demo.pipeline")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return module


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["demo", "--help"],
        ["predict", "--help"],
        ["container", "--help"],
        ["--version"],
    ],
)
def test_asking_for_help_loads_nothing_heavy(repo, arguments):
    code = (
        "import sys; from refsam3d_nnunet import cli\n"
        f"try: cli.main({arguments})\n"
        "except SystemExit as end: print(end.code, *sys.modules)"
    )

    out = subprocess.check_output([sys.executable, "-c", code], cwd=repo, text=True)

    code, *modules = out.splitlines()[-1].split()
    assert code == "0"
    assert {"torch", "numpy", "nnunetv2", "transformers", "matplotlib"} & {*modules} == set()


def test_version(capsys):
    with pytest.raises(SystemExit, match="0"):
        cli.main(["--version"])

    assert capsys.readouterr().out == f"refsam3d {__version__}\n"


@pytest.mark.parametrize("status", [0, 1])
def test_the_demo_decides_the_exit_status(demo, status):
    demo.run = lambda args: status

    assert cli.main(["demo"]) == status


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("epochs is 0,\n  want 1 or more"), "epochs is 0, want 1 or more"),
        (FileNotFoundError("no volumes in 'x'"), "no volumes in 'x'"),
        (
            subprocess.CalledProcessError(3, ["nnUNetv2_train", "1", "a b"]),
            "`nnUNetv2_train 1 'a b'` failed with exit status 3",
        ),
        (subprocess.CalledProcessError(1, "make x"), "`make x` failed with exit status 1"),
    ],
)
def test_what_the_user_can_mend_is_told_in_one_line(demo, capsys, error, line):
    def run(args):
        raise error

    demo.run = run

    assert cli.main(["demo"]) == 2
    assert capsys.readouterr().err == f"refsam3d: error: {line}\n"


def test_a_bug_keeps_its_traceback(demo):
    def run(args):
        raise KeyError("bug")

    demo.run = run

    with pytest.raises(KeyError, match="bug"):
        cli.main(["demo"])


@pytest.mark.parametrize("arguments", [[], ["dmeo"]])
def test_a_missing_or_unknown_command_is_refused(arguments, capsys):
    with pytest.raises(SystemExit, match="2"):
        cli.main(arguments)

    assert "COMMAND" in capsys.readouterr().err


def test_a_reader_that_stops_is_no_error(repo):
    script = (
        "import sys, refsam3d_nnunet.cli as cli;"
        "cli._COMMANDS['prompts'] = ('x', lambda parser: None, lambda args: print('y\\n' * 99999));"
        "sys.exit(cli.main(['prompts']))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        process.stdout.read(1)
        process.stdout.close()
        told = process.stderr.read()
    assert (process.returncode, told) == (0, b"")
