"""The result in a few sentences."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sized
from typing import Any

from refsam3d_nnunet.report.agreement import TOLERANCE, Agreement
from refsam3d_nnunet.report.compared import means
from refsam3d_nnunet.report.study import Method, Study
from refsam3d_nnunet.report.tables import NAMES

VERDICTS = {
    "superior": "is better than {baseline}",
    "non-inferior": "is not worse than {baseline} by more than the margin of {margin:g}",
    "inferior": "is worse than {baseline} by more than the margin of {margin:g}",
    "inconclusive": "is neither better than {baseline} nor, with certainty, not worse by more than "
    "the margin of {margin:g}",
}


def compared(study: Study) -> str:
    """Says what was compared.

    Args:
        study: A cross-validation.
    """
    cases = {case for method in study.methods for case in method.evaluation.cases}
    classes = study.methods[0].evaluation.classes
    folds = sorted({f for m in study.methods for f in m.evaluation.folds.values() if f})
    names = " and ".join(method.name for method in study.methods)
    parts = [f"{names} on {study.dataset}"]
    if study.configuration:
        parts.append(f"configuration {study.configuration}")
    parts.append(f"{len(cases)} validation cases")
    if folds:
        parts.append(f"{_count(folds, 'fold')} ({', '.join(folds)})")
    parts.append(f"{_count(classes, 'class', 'classes')}")
    return ", ".join(parts) + "."


def results(study: Study) -> list[str]:
    """The main result: a sentence for each method that is compared with the baseline.

    Args:
        study: A cross-validation.
    """
    labels = {method.name: method.label for method in study.methods}
    pairs = [p for p in (study.comparison or {}).get("pairs", []) if p["class"] == "all"]
    sentences = [_result(study, p, labels) for p in pairs if p["method"] in labels]
    return sentences or [_alone(study, method) for method in study.methods]


def agreed(found: list[Agreement]) -> str:
    """Says that Dice equals nnU-Net's, where that was checked and is so.

    Args:
        found: Results of the check.
    """
    good = [agreement for agreement in found if not agreement.problem]
    if not good:
        return ""
    worst = max(agreement.worst_case for agreement in good)
    names = " and ".join(agreement.method.label for agreement in good)
    return (
        f"Dice of {names} equals that of nnUNetv2_accumulate_crossval_results in every case and "
        f"class: largest difference {worst:.1g}, checked to {TOLERANCE:.0e}."
    )


def _result(study: Study, pair: Mapping[str, Any], labels: Mapping[str, str]) -> str:
    margin = abs((study.comparison or {}).get("margin") or 0.0)
    method, baseline = (labels.get(pair[key], pair[key]) for key in ("method", "baseline"))
    verdict = VERDICTS.get(pair["verdict"], pair["verdict"])
    low, high = (_signed(pair[key]) for key in ("low", "high"))
    return (
        f"{method} {verdict.format(margin=margin, baseline=baseline)} ({pair['verdict']}). "
        f"Difference in mean {NAMES.get(study.metric, study.metric)}: "
        f"{_signed(pair['difference'])}, 95% interval {low} to {high}, {pair['n']} cases."
    )


def _alone(study: Study, method: Method) -> str:
    entry = means(study)[method.name]["all"]
    mean, low, high = (_plain(entry[key]) for key in ("mean", "low", "high"))
    return (
        f"{method.label}: mean {NAMES.get(study.metric, study.metric)} {mean} (95% interval "
        f"{low} to {high}) over {_count(method.evaluation.classes, 'class', 'classes')} and "
        f"{_count(method.evaluation.cases, 'case')}."
    )


def _plain(value: float | None) -> str:
    return "undefined" if value is None or math.isnan(value) else f"{value:.3f}"


def _signed(value: float | None) -> str:
    return "undefined" if value is None else f"{value:+.4f}".replace("-", "−")


def _count(things: Sized, one: str, many: str = "") -> str:
    return f"{len(things)} {one if len(things) == 1 else many or one + 's'}"
