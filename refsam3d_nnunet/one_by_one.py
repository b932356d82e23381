"""Online validation of a batch, one sample at a time.

nnU-Net's ``validation_step`` holds several volumes of the logits of all classes. A training step of
this network does not (see ``loss.py``), and the batch is planned for that: with many classes a
whole batch would not fit in validation.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

Batch = dict[str, Any]


def refuse_uneven(batch_size: int, ranks: int) -> None:
    """Refuses a batch that would give some ranks more samples than others.

    Dice over the batch of all ranks takes one message from each rank for each loss. nnU-Net's own
    loss is no better off: its messages would be of different lengths.

    Args:
        batch_size: Samples of a step on all ranks together.
        ranks: Number of GPUs.

    Raises:
        ValueError: If the batch is no multiple of the ranks.
    """
    if batch_size % ranks:
        fewer = batch_size - batch_size % ranks
        raise ValueError(
            f"A batch of {batch_size} cannot be shared evenly by {ranks} GPUs, which Dice over the "
            f"batch (batch_dice in the plan) needs: set batch_size of this configuration to "
            f"{fewer or ranks} or {fewer + ranks} in plans.json, or use another number of GPUs."
        )


def samples(batch: Batch) -> Iterator[Batch]:
    """Each sample of a batch of nnU-Net's data loader, as a batch of one.

    Args:
        batch: ``data``, b c ..., and ``target``, b 1 ... or a list of such, finest first.
    """
    target = batch["target"]
    for i in range(len(batch["data"])):
        one = [t[i : i + 1] for t in target] if isinstance(target, list) else target[i : i + 1]
        yield {"data": batch["data"][i : i + 1], "target": one}


def joined(outputs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What nnU-Net's ``validation_step`` gives for a batch, from that of its samples.

    Counts add up; the loss is the mean.
    """
    counts = {key: sum(one[key] for one in outputs) for key in ("tp_hard", "fp_hard", "fn_hard")}
    return {"loss": np.asarray(np.mean([one["loss"] for one in outputs])), **counts}
