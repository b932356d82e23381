"""`refsam3d evaluate`: from two folders of label files to metrics.csv and metrics.json."""

from __future__ import annotations

import argparse
import logging
import math

from refsam3d_nnunet.evaluation.evaluate import evaluate
from refsam3d_nnunet.evaluation.table import Evaluation, read_object

_log = logging.getLogger(__name__)

_SHOWN = ("dice", "nsd", "hd95", "assd", "volume_error")


def run(args: argparse.Namespace) -> int:
    """Runs the command and returns its exit status.

    Raises:
        ValueError: If the input contradicts itself; nothing is written then.
        OSError: If a file is missing or cannot be written.
    """
    out = args.out or args.prediction
    evaluation = evaluate(
        args.prediction,
        args.reference,
        out=out,
        dataset_json=args.dataset_json,
        tolerance=args.tolerance,
        tolerances=read_object(args.tolerances) if args.tolerances else None,
        splits=args.splits,
        allow_missing=args.allow_missing,
        processes=args.processes,
    )
    _log.info("%s", summary_text(evaluation))
    if missing := evaluation.info["missing"]:
        _log.warning("%d cases have no prediction and are not in the means", len(missing))
    _log.info("%d cases; every value is in %s", evaluation.info["cases"], out / "metrics.csv")
    return 0


def summary_text(evaluation: Evaluation) -> str:
    """Means over cases as a small table of plain text."""
    info = evaluation.info
    width = max(len(name) for name in [*info["labels"], "foreground"])
    lines = [" " * width + "".join(f"{metric:>14}" for metric in _SHOWN)]
    for name in [*info["labels"], "foreground"]:
        cells = []
        for metric in _SHOWN:
            means, is_class = info["mean"][metric], name in info["labels"]
            mean = means[name] if is_class else info["foreground_mean"][metric]
            left_out = info["infinite"][metric][name] if is_class else 0
            text = "-" if mean is None or math.isnan(mean) else f"{mean:.4f}"
            cells.append(f"{f'{text} ({left_out} inf)' if left_out else text:>14}")
        lines.append(f"{name:<{width}}" + "".join(cells))
    return "\n".join(lines)
