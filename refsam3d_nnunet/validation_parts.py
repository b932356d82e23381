"""Online validation of a batch, in parts that take no more memory than a training step.

nnU-Net's ``validation_step`` holds several volumes of the logits of all classes. A training step of
this network does not (see ``loss.py``), and the batch is planned for that: with many classes a
whole batch would not fit in validation. With few classes it does, and the parts are the batch.
"""

import math
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


def parts_of(batch: Batch, most: int) -> Iterator[Batch]:
    """A batch of nnU-Net's data loader in parts of about the same size.

    Args:
        batch: ``data``, b c ..., and ``target``, b 1 ... or a list of such, finest first.
        most: Samples that a part may have, from 1 up.
    """
    data, target = batch["data"], batch["target"]
    size = math.ceil(len(data) / math.ceil(len(data) / most))
    for start in range(0, len(data), size):
        part = slice(start, start + size)
        cut = [t[part] for t in target] if isinstance(target, list) else target[part]
        yield {"data": data[part], "target": cut}


def joined(outputs: Sequence[dict[str, Any]], sizes: Sequence[int]) -> dict[str, Any]:
    """What nnU-Net's ``validation_step`` gives for a batch, from that of its parts.

    Counts add up; the loss is the mean over samples.

    Args:
        outputs: Of every part.
        sizes: Samples of every part.
    """
    counts = {key: sum(one[key] for one in outputs) for key in ("tp_hard", "fp_hard", "fn_hard")}
    loss = np.average([one["loss"] for one in outputs], weights=sizes)
    return {"loss": np.asarray(loss), **counts}
