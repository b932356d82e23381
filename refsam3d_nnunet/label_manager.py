"""nnU-Net's label manager, for logits that are interpolated a slab at a time."""

from __future__ import annotations

import numpy as np
import torch
from nnunetv2.utilities.label_handling.label_handling import LabelManager
from torch import Tensor

from refsam3d_nnunet.resampling import DeferredLogits


class RefSAM3DLabelManager(LabelManager):
    """Makes segmentations and probabilities of what ``refsam3d_resample_logits`` returns.

    Arrays and tensors go to nnU-Net's methods. Arguments are those of nnU-Net.
    """

    def apply_inference_nonlin(
        self, logits: np.ndarray | Tensor | DeferredLogits
    ) -> np.ndarray | Tensor:
        """Probabilities of logits, k z y x.

        Of deferred logits all are made; beside them there are never more than a few slices.
        """
        if not isinstance(logits, DeferredLogits):
            return super().apply_inference_nonlin(logits)
        with torch.no_grad():
            return logits.probabilities(self.inference_nonlin)

    def convert_logits_to_segmentation(
        self, predicted_logits: np.ndarray | Tensor | DeferredLogits
    ) -> np.ndarray | Tensor:
        """Label values z y x of logits k z y x; int16 on the CPU for deferred ones.

        Raises:
            ValueError: If the number of channels is not that of the labels or regions.
        """
        if not isinstance(predicted_logits, DeferredLogits):
            return super().convert_logits_to_segmentation(predicted_logits)
        if predicted_logits.shape[0] != self.num_segmentation_heads:
            raise ValueError(
                f"Logits have {predicted_logits.shape[0]} channels, but the data set's labels "
                f"make {self.num_segmentation_heads}. Use the dataset.json that the model was "
                f"trained with."
            )
        if self.has_regions and self.inference_nonlin is not torch.sigmoid:
            # It may look at all channels at once.
            return super().convert_logits_to_segmentation(predicted_logits.full())
        convert = self._regions_in if self.has_regions else _largest_in
        segmentation = torch.empty(predicted_logits.shape[1:], dtype=torch.int16)
        with torch.no_grad():
            for slices in predicted_logits.slabs():
                segmentation[slices] = convert(predicted_logits, slices).cpu()
        return segmentation

    def _regions_in(self, logits: DeferredLogits, slices: slice) -> Tensor:
        """Later regions of ``regions_class_order`` lie over earlier ones."""
        shape = (slices.stop - slices.start, *logits.shape[2:])
        labels = torch.zeros(shape, dtype=torch.int16, device=logits.device)
        for channel, value in enumerate(self.regions_class_order):
            labels[torch.sigmoid(logits.slab(channel, slices)) > 0.5] = value
        return labels


def _largest_in(logits: DeferredLogits, slices: slice) -> Tensor:
    """Channel of the largest logit, the first of equal ones, with one channel in hand at a time."""
    largest = logits.slab(0, slices).clone()  # it may be a view of the logits
    labels = torch.zeros(largest.shape, dtype=torch.int16, device=logits.device)
    for channel in range(1, logits.shape[0]):
        other = logits.slab(channel, slices)
        labels.masked_fill_(other > largest, channel)
        torch.maximum(largest, other, out=largest)
    return labels
