"""The `refsam3d` command."""

import argparse
import logging
import os
import shlex
import subprocess
import sys
from collections.abc import Sequence

from refsam3d_nnunet import __version__
from refsam3d_nnunet.comparison.arguments import add_arguments as add_compare_arguments
from refsam3d_nnunet.container.arguments import add_arguments as add_container_arguments
from refsam3d_nnunet.crossval.arguments import add_arguments as add_crossval_arguments
from refsam3d_nnunet.demo.arguments import add_arguments as add_demo_arguments
from refsam3d_nnunet.evaluation.arguments import add_arguments as add_evaluate_arguments
from refsam3d_nnunet.prediction.arguments import add_predict_arguments, add_prompts_arguments
from refsam3d_nnunet.report.arguments import add_arguments as add_report_arguments
from refsam3d_nnunet.weights.arguments import add_arguments as add_weights_arguments


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one sub-command and returns its exit status.

    Args:
        argv: Arguments without the program's name; those of the process if None.

    Raises:
        SystemExit: If the arguments cannot be parsed, or ask for help or the version.
    """
    args = _parser().parse_args(argv)
    logging.basicConfig(format="%(message)s")
    logging.getLogger("refsam3d_nnunet").setLevel(logging.INFO)
    try:
        return args.run(args)
    except BrokenPipeError:  # who was reading, such as `head`, has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except subprocess.CalledProcessError as error:
        command = error.cmd if isinstance(error.cmd, str) else shlex.join(map(str, error.cmd))
        message = f"`{command}` failed with exit status {error.returncode}"
    except (ValueError, OSError) as error:
        message = " ".join(str(error).split())
    print(f"refsam3d: error: {message}", file=sys.stderr)
    return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="refsam3d", description="RefSAM3D for nnU-Net v2.")
    parser.add_argument("--version", action="version", version=f"refsam3d {__version__}")
    subparsers = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for name, (about, add_arguments, run) in _COMMANDS.items():
        command = subparsers.add_parser(name, help=about, description=f"{about.capitalize()}.")
        add_arguments(command)
        command.set_defaults(run=run)
    return parser


def _demo(args: argparse.Namespace) -> int:
    from refsam3d_nnunet.demo.pipeline import run

    return run(args)


def _weights(args: argparse.Namespace) -> int:
    from refsam3d_nnunet.weights.command import run

    answer, status = run(args)
    print(answer)
    return status


def _predict(args: argparse.Namespace) -> int:
    from refsam3d_nnunet.prediction.run import predict

    return predict(args)


def _prompts(args: argparse.Namespace) -> int:
    from refsam3d_nnunet.prediction.listing import listing

    print(listing(args.model, as_json=args.json))
    return 0


def _container(args: argparse.Namespace) -> int:
    from refsam3d_nnunet.container.command import run

    answer, status = run(args)
    print(answer)
    return status


def _crossval(args: argparse.Namespace) -> int:
    from refsam3d_nnunet.crossval.run import run

    return run(args)


def _evaluate(args: argparse.Namespace) -> int:
    from refsam3d_nnunet.evaluation.run import run

    return run(args)


def _compare(args: argparse.Namespace) -> int:
    from refsam3d_nnunet.comparison.run import run

    return run(args)


def _report(args: argparse.Namespace) -> int:
    from refsam3d_nnunet.report.run import run

    return run(args)


# What each command needs is imported when it runs: `refsam3d --help` is to be there at once.
_COMMANDS = {
    "demo": (
        "train and score a small model, from raw volumes to a report",
        add_demo_arguments,
        _demo,
    ),
    "weights": (
        "get and keep pretrained weights, and make slim checkpoints whole",
        add_weights_arguments,
        _weights,
    ),
    "predict": (
        "segment the trained classes, or what free phrases say, in images of any orientation",
        add_predict_arguments,
        _predict,
    ),
    "prompts": (
        "list the classes and phrases of a trained model",
        add_prompts_arguments,
        _prompts,
    ),
    "container": (
        "write a submission folder for a challenge, or try one out",
        add_container_arguments,
        _container,
    ),
    "crossval": (
        "train, evaluate and compare trainers over the folds of a data set",
        add_crossval_arguments,
        _crossval,
    ),
    "evaluate": (
        "measure predictions against the ground truth, per case and class",
        add_evaluate_arguments,
        _evaluate,
    ),
    "compare": (
        "compare evaluated methods case by case, with intervals and tests",
        add_compare_arguments,
        _compare,
    ),
    "report": (
        "write one HTML file about a cross-validation",
        add_report_arguments,
        _report,
    ),
}


if __name__ == "__main__":
    sys.exit(main())
