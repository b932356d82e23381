"""Subsets and plans of benchmarks/pretraining.py."""

from typing import Any

import numpy as np

ALL = "all"
# What a plan says about pretrained weights.
WEIGHTS = ("checkpoint", "family", "decoder_checkpoint")

Json = dict[str, Any]


def with_subset(splits: list[Json], cases: str, seed: int = 0) -> tuple[list[Json], int]:
    """Fold 0, or a fold with its validation cases and a few of its training cases.

    Few cases are among more cases, since they are the first ones of one random order.

    Args:
        splits: Content of splits_final.json, whose fold 0 has all training cases.
        cases: How many training cases, or "all".
        seed: Of the random order.

    Returns:
        The splits, with another fold at their end where there was none, and the fold's number.

    Raises:
        ValueError: If there are fewer training cases.
    """
    train = splits[0]["train"]
    if cases == ALL:
        return splits, 0
    count = int(cases)
    if not 0 < count < len(train):
        raise ValueError(f"--cases {cases}: want 1 to {len(train) - 1} of {len(train)}, or all")
    order = np.random.default_rng(seed).permutation(sorted(train)).tolist()
    chosen = {"train": sorted(order[:count]), "val": splits[0]["val"]}
    if chosen in splits:
        return splits, splits.index(chosen)
    return [*splits, chosen], len(splits)


def derived_plans(base: Json, name: str, mode: str) -> Json:
    """The same plan under another name and in another tuning mode.

    Patch, batch, tokens and the folder of preprocessed data stay: the memory formula, by which
    the planner chooses them, depends on the tuning mode.

    Args:
        base: Content of a plan made with pretrained weights.
        name: Of the new plans.
        mode: adapter, full or scratch.
    """
    block = {**base["refsam3d"], "tuning": mode}
    if mode == "scratch":
        block |= {key: None for key in WEIGHTS if key in block}
    return {**base, "plans_name": name, "refsam3d": block}
