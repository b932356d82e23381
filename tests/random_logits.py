"""Logits of four classes or regions, and data sets that they may belong to."""

import pytest
import torch

LABELS = {"background": 0, "liver": 1, "spleen": 2, "aorta": 3}
REGIONS = {"background": 0, "all": [1, 2, 3], "core": [2, 3], "enhancing": 3, "other": 4}
ORDER = [1, 2, 3, 7]
KINDS = pytest.mark.parametrize(("labels", "order"), [(LABELS, None), (REGIONS, ORDER)])


def make_logits(*shape, dtype=torch.float32, seed=0):
    return (4 * torch.randn(4, *shape, generator=torch.Generator().manual_seed(seed))).to(dtype)
