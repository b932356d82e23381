"""Runs nnU-Net's own commands one after the other in one process, to import torch only once.

python driver.py '["nnUNetv2_train", "1", "3d_fullres", "0"]' '[...]' ...
"""

import json
import sys
from importlib.metadata import entry_points


def main() -> None:
    for line in sys.argv[1:]:
        command, *arguments = json.loads(line)
        print(f"$ {command} {' '.join(arguments)}", flush=True)
        sys.argv = [command, *arguments]
        (entry,) = entry_points(group="console_scripts", name=command)
        if status := entry.load()():
            sys.exit(status)


if __name__ == "__main__":
    main()
