"""Runs `refsam3d report`."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from refsam3d_nnunet.files import replacing
from refsam3d_nnunet.report.page import render
from refsam3d_nnunet.report.study import read_study

REPORT = "report.html"
logger = logging.getLogger(__name__)


def run(args: argparse.Namespace) -> int:
    """Writes the report that the command line asks for.

    Args:
        args: What :func:`~refsam3d_nnunet.report.arguments.add_arguments` adds.

    Raises:
        OSError: As :func:`write_report`.
        ValueError: As :func:`write_report`.
    """
    out = write_report(args.folder, args.out or args.folder / REPORT)
    logger.info("%s (%.1f MB)", out, out.stat().st_size / 1e6)
    return 0


def write_report(folder: Path, out: Path) -> Path:
    """Writes one HTML file about a cross-validation; what the report leaves out is logged.

    Args:
        folder: What `refsam3d crossval` wrote, finished or not.
        out: The file to write, whole or not at all; its folder is made if missing.

    Returns:
        ``out``.

    Raises:
        FileNotFoundError: If ``folder`` has no crossval.json.
        OSError: If ``out`` cannot be written.
        ValueError: If no method has been evaluated, or a file of the folder is damaged.
    """
    study = read_study(folder)
    text = render(study)
    out.parent.mkdir(parents=True, exist_ok=True)
    with replacing(out) as temporary:
        temporary.write_text(text, encoding="utf-8")
    for warning in study.warnings:
        logger.warning("Warning: %s", warning)
    for reason in study.missing:
        logger.info("%s", reason)
    return out
