"""Runs a command, keeps its whole output in a file and hands it on line by line."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

# Seconds that an interrupted command gets to end by itself.
GRACE = 10


class Runner(Protocol):
    """Runs one command and returns its exit status."""

    def __call__(
        self,
        command: Sequence[str],
        env: Mapping[str, str],
        log: Path,
        on_line: Callable[[str], None],
    ) -> int:
        """Runs ``command`` in environment ``env``; its output goes to ``log`` and ``on_line``."""


def run_command(
    command: Sequence[str],
    env: Mapping[str, str],
    log: Path,
    on_line: Callable[[str], None],
) -> int:
    """Runs a command to its end.

    Args:
        command: Program and arguments.
        env: The command's whole environment.
        log: File to which the output is appended, standard error included.
        on_line: Is called with each line, without the line's end.

    Returns:
        The exit status; negative if a signal ended the command.

    Raises:
        KeyboardInterrupt: If the user interrupts; the command has ended by then.
        FileNotFoundError: If there is no such program.
    """
    with log.open("a", encoding="utf-8") as file:
        file.write(f"\n$ {shlex.join(command)}\n")
        file.flush()
        process = subprocess.Popen(
            command,
            env=dict(env),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            errors="replace",
        )
        try:
            for line in process.stdout:
                file.write(line)
                file.flush()
                on_line(line.rstrip("\n"))
            return process.wait()
        finally:
            _stop(process)


def _stop(process: subprocess.Popen) -> None:
    """Ends a process that an exception left running; does nothing to one that has ended."""
    process.stdout.close()
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(GRACE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
