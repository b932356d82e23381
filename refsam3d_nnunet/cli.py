"""The `refsam3d` command."""

import argparse
import logging
import shlex
import subprocess
import sys
from collections.abc import Sequence

from refsam3d_nnunet import __version__
from refsam3d_nnunet.demo.arguments import add_arguments as add_demo_arguments
from refsam3d_nnunet.prediction.arguments import add_predict_arguments, add_prompts_arguments


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
    about = "train and score a small model, from raw volumes to a report"
    demo = subparsers.add_parser("demo", help=about, description=f"{about.capitalize()}.")
    add_demo_arguments(demo)
    demo.set_defaults(run=_run_demo)
    about = "segment what free phrases say, with a trained model"
    predict = subparsers.add_parser("predict", help=about, description=f"{about.capitalize()}.")
    add_predict_arguments(predict)
    predict.set_defaults(run=_run_predict)
    about = "list the classes and phrases of a trained model"
    prompts = subparsers.add_parser("prompts", help=about, description=f"{about.capitalize()}.")
    add_prompts_arguments(prompts)
    prompts.set_defaults(run=_run_prompts)
    return parser


def _run_predict(args: argparse.Namespace) -> int:
    from refsam3d_nnunet.prediction.run import predict

    return predict(args)


def _run_prompts(args: argparse.Namespace) -> int:
    from refsam3d_nnunet.prediction.listing import listing

    print(listing(args.model, as_json=args.json))
    return 0


def _run_demo(args: argparse.Namespace) -> int:
    from refsam3d_nnunet.demo.pipeline import run

    return run(args)


if __name__ == "__main__":
    sys.exit(main())
