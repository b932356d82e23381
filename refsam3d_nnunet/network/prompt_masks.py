"""Masks as a product: what the network hands to the loss instead of one volume per prompt."""

from typing import NamedTuple

import torch
from torch import Tensor


class PromptMasks(NamedTuple):
    """Masks of all prompts at one resolution, not yet multiplied out.

    ::

        logit_k[v] = w_k · feature[v] + b_k

    With many prompts the logits are the largest tensors of a training step by far; the features
    are the same for any number of prompts. :mod:`refsam3d_nnunet.loss` works on this form.

    Args:
        weights: w, b k c.
        bias: b, b k 1.
        features: b c D H W, or b c H W.
    """

    weights: Tensor
    bias: Tensor
    features: Tensor

    def logits(self) -> Tensor:
        """Multiplies out: b k and the features' extent."""
        masks = torch.baddbmm(self.bias, self.weights, self.features.flatten(2))
        return masks.view(*masks.shape[:2], *self.features.shape[2:])

    def cropped(self, extent: tuple[int, int, int]) -> "PromptMasks":
        """The near corner of the volume, extent voxels along each axis."""
        d, h, w = extent
        return self._replace(features=self.features[:, :, :d, :h, :w])

    def flat(self) -> "PromptMasks":
        """A volume of one slice as an image, b c H W."""
        return self._replace(features=self.features[:, :, 0])
