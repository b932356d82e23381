"""Whether the intervals and p-values of `refsam3d compare` keep their promise.

::

    python benchmarks/intervals.py -o OUT

draws Dice of two methods over five folds again and again, from distributions whose true mean
difference is known, and counts how often the 95 % interval holds it and how often the paired test
reports a difference where there is none. Writes OUT/intervals.json and OUT/intervals.md.
"""

import argparse
import os
import platform
import time
import zlib
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from scipy import special, stats

from refsam3d_nnunet.comparison.statistics import (
    bca_interval,
    mean_interval,
    paired_test,
    strata_of,
    student_interval,
)
from refsam3d_nnunet.comparison.tables import table
from refsam3d_nnunet.files import write_json

FOLDS = 5
SIZES = (20, 50, 200)
_TRUTH_CASES = 4_000_000


@dataclass(frozen=True)
class Scenario:
    """How Dice of two methods comes about; all effects are in logits of Dice.

    Args:
        about: What it stands for.
        gain: Of the first method.
        noise: Standard deviation of what a method makes of a case, beside its difficulty.
        skew: Mean of an exponential loss of the first method, on top.
        failures: Part of the cases in which the first method fails (3 logits lower).
        folds: Spread of the fold's difficulty, which both methods share.
        interaction: Spread of the first method's gain over the folds, with mean 0 over them.
        retrained: Spread of a gain that each fold's training draws anew, without that mean.
    """

    about: str
    gain: float = 0.0
    noise: float = 0.35
    skew: float = 0.0
    failures: float = 0.0
    folds: float = 0.3
    interaction: float = 0.0
    retrained: float = 0.0


SCENARIOS = {
    "equal": Scenario("two trainings of one method"),
    "equal, folds differ": Scenario("the same, and each is better in some folds", interaction=0.1),
    "better": Scenario(
        "a gain of about 0.02 Dice, unlike in each fold", gain=0.15, interaction=0.1
    ),
    "skewed": Scenario(
        "the first is better, and much worse on hard cases", gain=0.5, skew=0.5, interaction=0.1
    ),
}
LIMITS = {
    "rare failures": Scenario("one case in 20 fails", gain=0.1, failures=0.05),
    "skewed, no mean difference": Scenario(
        "skewed, gain set so that the means are equal", skew=0.5
    ),
    "trainings differ": Scenario("every fold's training has luck of its own", retrained=0.15),
}
# Fixed patterns over the folds, of mean 0 and standard deviation 1: a truth that does not move.
_DIFFICULTY = np.array([-1.2, 0.4, 1.3, -1.0, 0.5])
_INTERACTION = np.array([0.9, -1.4, 0.3, 1.1, -0.9])


def paired_dice(
    scenario: Scenario, cases: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Draws a study.

    Args:
        scenario: Where it comes from.
        cases: How many, a multiple of 5.
        rng: Source of randomness.

    Returns:
        Differences of Dice (first method minus second) and the fold of each case.
    """
    fold = np.arange(cases) % FOLDS
    easiness = 1.9 + scenario.folds * _DIFFICULTY[fold] + rng.normal(0, 0.7, cases)
    luck = rng.normal(0, 1, FOLDS)[fold] if scenario.retrained else 0.0
    first = (
        easiness
        + scenario.gain
        + scenario.interaction * _INTERACTION[fold]
        + scenario.retrained * luck
        + rng.normal(0, scenario.noise, cases)
        - (rng.exponential(scenario.skew, cases) if scenario.skew else 0.0)
        - 3.0 * (rng.random(cases) < scenario.failures)
    )
    second = easiness + rng.normal(0, scenario.noise, cases)
    return special.expit(first) - special.expit(second), fold.astype(str)


def true_difference(scenario: Scenario) -> float:
    """Mean difference over very many cases, and over very many trainings if those differ."""
    rng = np.random.default_rng(1)
    studies = 10_000 if scenario.retrained else 1
    draws = (paired_dice(scenario, _TRUTH_CASES // studies, rng)[0] for _ in range(studies))
    return float(np.mean([draw.mean() for draw in draws]))


def balanced(scenario: Scenario) -> Scenario:
    """The scenario with the gain at which the mean difference is 0."""
    low, high = 0.0, 2.0
    for _ in range(20):
        middle = (low + high) / 2
        higher = true_difference(Scenario(**asdict(scenario) | {"gain": middle})) > 0
        low, high = (low, middle) if higher else (middle, high)
    return Scenario(**asdict(scenario) | {"gain": (low + high) / 2})


def measure(
    scenario: Scenario, cases: int, *, repetitions: int, resamples: int, seed: int
) -> dict[str, float]:
    """Repeats a study.

    Args:
        scenario: Where its cases come from.
        cases: Of each study.
        repetitions: How often.
        resamples: Of the bootstrap.
        seed: Of the studies.

    Returns:
        Part of the studies in which each interval holds the true difference (``interval``: that of
        `refsam3d compare`; ``bca`` and ``student``: the two that it is made of; ``uncorrected``:
        BCa stratified by fold without the two corrections), the mean ``width`` of the first, and
        the part with p < 0.05 (``rejected``).
    """
    truth = true_difference(scenario)
    rng = np.random.default_rng([seed, cases, zlib.crc32(scenario.about.encode())])
    counts = dict.fromkeys(("interval", "bca", "student", "uncorrected", "rejected"), 0)
    width = 0.0
    for repetition in range(repetitions):
        values, folds = paired_dice(scenario, cases, rng)
        how = {"resamples": resamples, "seed": repetition}
        groups = strata_of(values, list(folds))
        ends = {
            "interval": mean_interval(values, list(folds), **how),
            "bca": bca_interval(groups, resamples, np.random.default_rng(repetition)),
            "student": student_interval(groups),
            "uncorrected": _bca(groups, **how),
        }
        for name, (low, high) in ends.items():
            counts[name] += int(low <= truth <= high)
        width += ends["interval"][1] - ends["interval"][0]
        counts["rejected"] += paired_test(values) < 0.05
    return {name: count / repetitions for name, count in counts.items()} | {
        "width": width / repetitions,
        "difference": truth,
    }


def _bca(groups: list[np.ndarray], *, resamples: int, seed: int) -> tuple[float, float]:
    def pooled(*samples: np.ndarray, axis: int) -> np.ndarray:
        return sum(s.sum(axis=axis) for s in samples) / sum(s.shape[axis] for s in samples)

    found = stats.bootstrap(
        groups, pooled, n_resamples=resamples, vectorized=True, rng=np.random.default_rng(seed)
    )
    return found.confidence_interval


def main() -> None:
    """Runs all scenarios and writes the tables."""
    parser = argparse.ArgumentParser(description="Coverage of intervals, and false positives.")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--repetitions", type=int, default=2000)
    parser.add_argument("--resamples", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    key = "skewed, no mean difference"
    scenarios = SCENARIOS | LIMITS | {key: balanced(LIMITS[key])}
    result: dict[str, Any] = {
        "repetitions": args.repetitions,
        "resamples": args.resamples,
        "seed": args.seed,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}",
        "versions": {"python": platform.python_version()}
        | {name: version(name) for name in ("refsam3d_nnunet", "scipy", "numpy")},
        "scenarios": {name: asdict(scenario) for name, scenario in scenarios.items()},
        "results": {},
    }
    for name, scenario in scenarios.items():
        for cases in SIZES:
            found = measure(
                scenario,
                cases,
                repetitions=args.repetitions,
                resamples=args.resamples,
                seed=args.seed,
            )
            result["results"].setdefault(name, {})[str(cases)] = found
            print(f"{name}, {cases} cases: {found}", flush=True)
    result["seconds"] = round(time.perf_counter() - started)
    write_json(args.output / "intervals.json", result)
    (args.output / "intervals.md").write_text(_markdown(result), encoding="utf-8")


def _markdown(result: dict[str, Any]) -> str:
    columns = ["interval", "bca", "student", "uncorrected", "rejected"]
    rows = [
        [name, cases, f"{found['difference']:+.4f}", f"{found['width']:.4f}"]
        + [f"{found[column]:.3f}" for column in columns]
        for name, sizes in result["results"].items()
        for cases, found in sizes.items()
    ]
    titles = ["scenario", "cases", "true difference", "width", "coverage", "BCa"]
    titles += ["Student's t", "BCa uncorrected", "p < 0.05"]
    about = "\n".join(f"- {name}: {one['about']}" for name, one in result["scenarios"].items())
    versions = ", ".join(f"{name} {number}" for name, number in result["versions"].items())
    return (
        f"{result['repetitions']} studies each, {result['resamples']} resamples, seed "
        f"{result['seed']}; {result['machine']}, {versions}, {result['seconds']} s.\n\n"
        f"{table(titles, rows)}\n\n{about}\n"
    )


if __name__ == "__main__":
    main()
