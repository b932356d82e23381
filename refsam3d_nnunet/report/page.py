"""Puts the parts of a report together, as one page of HTML that needs nothing from elsewhere."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup

from refsam3d_nnunet import __version__
from refsam3d_nnunet.report import charts, facts, summary, tables
from refsam3d_nnunet.report.agreement import ALL, check
from refsam3d_nnunet.report.chosen import Chosen, Classes, choose, classes_of, picture
from refsam3d_nnunet.report.compared import check_comparison, differences
from refsam3d_nnunet.report.curves import Curve, read_curves
from refsam3d_nnunet.report.study import Study
from refsam3d_nnunet.report.volumes import viewer_volumes

HERE = Path(__file__).parent
TEMPLATE = "page.html"
SCRIPTS = ("table.js", "viewer.js")
# Above it the page would become too large: further metrics have no charts then.
MAX_DOTS = 20_000
# What reading an image or drawing it may raise. A report without a picture is still a report.
_UNREADABLE = (RuntimeError, ValueError, OSError)


def render(study: Study) -> str:
    """Writes the page of a cross-validation.

    Args:
        study: A cross-validation; what is left out, and warnings, are added to it.

    Returns:
        HTML. All names of the user are escaped, and the page forbids the browser to load
        anything or to run scripts other than its own.
    """
    found = check(study)
    check_comparison(study)
    parts = {
        "scores": tables.scores(study),
        "distributions": _distributions(study),
        "differences": _differences(study),
        "curves": _curves(study),
        "costs": tables.costs(study),
        "shown": _shown(study),
        "cases": tables.cases(study),
        "problems": [f"{a.method.label} {a.problem}" for a in found if a.problem],
        "agreement": tables.agreement(found) if found else None,
        "facts": {m.label: facts.method_facts(m, study.configuration) for m in study.methods},
        "prompts": {m.label: p for m in study.methods if (p := facts.prompts(m))},
        "study_facts": facts.study_facts(study),
        "definitions": study.methods[0].evaluation.info.get("metrics") or {},
        "compared": summary.compared(study),
        "results": summary.results(study),
        "agreed": summary.agreed(found),
    }
    return _fill(study, parts)


def _fill(study: Study, parts: Mapping[str, Any]) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    scripts = [Markup((HERE / name).read_text(encoding="utf-8")) for name in SCRIPTS]
    return environment.get_template(TEMPLATE).render(
        **parts,
        study=study,
        metric_names=tables.NAMES,
        style=Markup((HERE / "page.css").read_text(encoding="utf-8")),
        scripts=scripts,
        script_hashes=[_hash(script) for script in scripts],
        version=__version__,
        written=datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
    )


def _hash(script: str) -> str:
    """The name by which the page's content security policy lets a script run."""
    digest = hashlib.sha256(script.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"


def _distributions(study: Study) -> dict[str, list[Markup]]:
    """Charts of each class by name of the metric, the compared metric first."""
    metrics = sorted(tables.metrics_of(study), key=lambda metric: metric != study.metric)
    grids = {m: {x.label: x.evaluation.values(m) for x in study.methods} for m in metrics}
    dots = sum(grid.size for grid in grids[metrics[0]].values())
    if dots * len(metrics) > MAX_DOTS and len(metrics) > 1:
        study.missing.append(
            f"Charts of {', '.join(tables.NAMES[m] for m in metrics[1:])} are left out: "
            f"{dots * len(metrics)} dots are too many for one page."
        )
        metrics = metrics[:1]
    names = study.methods[0].evaluation.classes
    charts_of = {}
    for metric in metrics:
        limits = _limits(np.concatenate([g.to_numpy().ravel() for g in grids[metric].values()]))
        axis = tables.metric_name(study, metric)
        charts_of[axis] = [
            charts.distribution(
                {label: grid[name] for label, grid in grids[metric].items() if name in grid},
                title=name,
                axis=axis,
                limits=limits,
            )
            for name in names
        ]
    return charts_of


def _limits(values: np.ndarray) -> tuple[float, float]:
    finite = values[np.isfinite(values)]
    return (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0)


def _differences(study: Study) -> list[dict[str, Any]]:
    """For each method but the baseline: its name, a table and two charts."""
    comparison = study.comparison or {}
    baseline = next((m for m in study.methods if m.name == comparison.get("baseline")), None)
    name = tables.NAMES.get(study.metric, study.metric)
    found = []
    for color, method in enumerate(study.methods):
        entries = [p for p in comparison.get("pairs", []) if p["method"] == method.name]
        if baseline is None or not entries:
            continue
        cases = differences(study, method, baseline).rename(columns={"all": ALL})
        named = [{**p, "class": ALL if p["class"] == "all" else p["class"]} for p in entries]
        how = {"metric": name, "margin": _margin(comparison), "color": color}
        drawn = {
            "differences": charts.difference_of_cases(cases, metric=name, color=color),
            "intervals": charts.difference_of_means(named, **how),
        }
        title = f"{method.label} minus {baseline.label}"
        found.append({"title": title, "table": tables.pairs(study, named), "charts": drawn})
    return found


def _margin(comparison: Mapping[str, Any]) -> float:
    """The margin on the side of zero where the method is worse."""
    margin = abs(float(comparison.get("margin") or 0.0))
    return margin if comparison.get("better") == "lower" else -margin


def _curves(study: Study) -> list[Markup]:
    curves: dict[str, list[Curve]] = {}
    for method in study.methods:
        curves[method.label] = read_curves(method.model_folder) if method.model_folder else []
        if method.model_folder and not curves[method.label]:
            study.missing.append(
                f"{method.name}: learning curves are left out, as there is no readable "
                f"checkpoint or log in {method.model_folder}."
            )
    if not any(curves.values()):
        return []
    drawn = [charts.dice_curves(curves, over=over) for over in ("epochs", "hours")]
    for color, (label, folds) in enumerate(curves.items()):
        if folds:
            drawn.append(charts.losses(folds, method=label, color=color))
    return drawn


def _shown(study: Study) -> list[dict[str, Any]]:
    classes = classes_of(study)
    return [_shown_case(study, chosen, classes) for chosen in choose(study)]


def _shown_case(study: Study, chosen: Chosen, classes: Classes) -> dict[str, Any]:
    """A case with its picture and volumes; either is None, and noted, if it cannot be had."""
    found: dict[str, Any] = {"chosen": chosen}
    for name, make in (("picture", picture), ("volumes", viewer_volumes)):
        try:
            found[name] = make(chosen, classes)
        except _UNREADABLE as error:
            what = "picture" if name == "picture" else "slice viewer"
            reason = " ".join(str(error).split())[:300]
            study.missing.append(f"The {what} of {chosen.case} is left out: {reason}.")
            found[name] = None
    return found
