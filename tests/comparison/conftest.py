"""Evaluations made of numbers, without images."""

import numpy as np
import pandas as pd
import pytest

from refsam3d_nnunet.evaluation.table import COLUMNS, Evaluation

DICE = np.random.default_rng(0).beta(8, 2, 30)  # of 30 cases
FAST = {"resamples": 300}


@pytest.fixture
def evaluation():
    """A function that makes an evaluation of `{class: [value of case 0, of case 1, ...]}`."""

    def make(values, *, metric="dice", folds=None, cases=None, volumes=None, **info):
        count = len(next(iter(values.values())))
        cases = cases or [f"case_{i:02}" for i in range(count)]
        folds = [str(i % 5) for i in range(count)] if folds is None else folds
        rows = []
        for i, (case, fold) in enumerate(zip(cases, folds, strict=True)):
            for label, (name, row) in enumerate(values.items(), start=1):
                rows.append((case, fold, str(label), name, metric, float(row[i])))
                volume = 1.0 + i if volumes is None else volumes[i]
                rows.append((case, fold, str(label), name, "volume_reference", volume))
        table = pd.DataFrame(rows, columns=list(COLUMNS))
        return Evaluation(table, {"format": 1, "library": {"monai": "1"}, **info})

    return make
