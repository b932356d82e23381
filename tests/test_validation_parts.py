"""Batches cut for validation, and what is made of the parts; see also test_trainer.py."""

import numpy as np
import pytest
import torch

from refsam3d_nnunet.validation_parts import joined, parts_of


@pytest.mark.parametrize(
    ("most", "sizes"), [(1, [1] * 7), (3, [3, 3, 1]), (4, [4, 3]), (7, [7]), (9, [7])]
)
def test_parts_are_of_about_the_same_size_and_make_up_the_batch(most, sizes):
    data = torch.arange(7.0)[:, None]
    target = [data + 10, data + 20]
    parts = list(parts_of({"data": data, "target": target}, most))
    assert [len(part["data"]) for part in parts] == sizes
    assert torch.equal(torch.cat([part["data"] for part in parts]), data)
    for level, whole in enumerate(target):
        assert torch.equal(torch.cat([part["target"][level] for part in parts]), whole)
    one = list(parts_of({"data": data, "target": target[0]}, most))
    assert torch.equal(torch.cat([part["target"] for part in one]), target[0])


def test_counts_add_up_and_the_loss_is_the_mean_over_samples():
    def output(loss: float, *counts: int) -> dict:
        arrays = {key: np.array(counts) for key in ("tp_hard", "fp_hard", "fn_hard")}
        return {"loss": np.array(loss), **arrays}

    whole = joined([output(1.0, 3, 0), output(4.0, 2, 5)], [2, 1])
    assert whole["loss"] == 2  # (2 * 1 + 1 * 4) / 3
    assert whole["tp_hard"].tolist() == [5, 5]
