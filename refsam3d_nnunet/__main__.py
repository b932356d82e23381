"""Runs nnU-Net's commands where Python does not process `.pth` files.

::

    python -m refsam3d_nnunet train 4 3d_fullres 0 -tr RefSAM3DTrainer

is ``nnUNetv2_train 4 3d_fullres 0 -tr RefSAM3DTrainer`` with our classes known to nnU-Net.
"""

import sys
from importlib.metadata import EntryPoint, entry_points

from refsam3d_nnunet import _autoload

PREFIX = "nnUNetv2_"

_autoload.install()


def commands() -> dict[str, EntryPoint]:
    """Maps the short name of each installed nnU-Net command to its entry point."""
    scripts = entry_points(group="console_scripts")
    return {
        script.name.removeprefix(PREFIX): script
        for script in sorted(scripts)
        if script.name.startswith(PREFIX) and script.value.startswith("nnunetv2.")
    }


def main() -> None:
    """Runs the command that the first argument names, with the arguments that follow it.

    Raises:
        SystemExit: If the command is missing or unknown; the message lists the known ones.
    """
    known = commands()
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    command = known.get(name.removeprefix(PREFIX))
    if command is None:
        problem = f"unknown nnU-Net command {name!r}" if name else "no nnU-Net command given"
        choices = ", ".join(known) or "none, as nnU-Net is not installed"
        print(f"refsam3d_nnunet: error: {problem}; known are: {choices}", file=sys.stderr)
        sys.exit(2)
    sys.argv[:2] = [command.name]
    sys.exit(command.load()())


if __name__ == "__main__":
    # Worker processes run this file again, hook included, if it looks like a plain script to
    # multiprocessing; the __main__ module of a package they skip.
    __spec__ = None
    main()
