"""nnU-Net's Dice and cross-entropy, computed without one volume of logits per prompt.

Softmax Dice and cross-entropy of k prompts need, for each voxel, all k logits at once but no
voxel's neighbours. So they are computed piece by piece: the logits of a piece are made from
the network's features (:class:`PromptMasks`), their sums are taken, and the piece is forgotten;
backward makes it again and writes the gradients of features and class weights. Nothing of the
size of prompts times voxels is ever kept, and a piece stays in the processor's cache.
"""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from nnunetv2.training.loss.compound_losses import DC_and_CE_loss
from nnunetv2.utilities.ddp_allgather import AllGatherGrad
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from refsam3d_nnunet.network.prompt_masks import PromptMasks

# Logits of a piece: in a CPU's second-level cache, and enough to fill a GPU.
CPU_PIECE, GPU_PIECE = 2**18, 2**23
# Voxels that one product sums over. In a batch of products cuBLAS gives each of them to few of a
# GPU's multiprocessors, however long its sum; and a CPU with short vector registers adds so many
# numbers one after another that the fourth digit is lost.
LONGEST_SUM = 2**11
# Voxels: pieces of half-precision features start at multiples of 16 bytes, as fast kernels want.
ALIGNED = 8
IGNORED = -1


class PromptMaskLoss(nn.Module):
    """An nnU-Net loss for masks in either form.

    Labels with softmax Dice and cross-entropy, nnU-Net's default, go the cheap way described
    above; the value and the gradients are nnU-Net's. For regions the logits are multiplied
    out first. Tensors, as in validation, go to nnU-Net's loss as they are.

    Args:
        loss: What nnU-Net's trainer built, for one resolution.
    """

    def __init__(self, loss: nn.Module) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, output: Tensor | PromptMasks, target: Tensor) -> Tensor:
        """The loss of one resolution.

        Args:
            output: Logits b k ..., or masks not yet multiplied out.
            target: Label of each voxel, b 1 ... (regions: one channel each).
        """
        if not isinstance(output, PromptMasks):
            return self.loss(output, target)
        if not isinstance(self.loss, DC_and_CE_loss):
            return self.loss(output.logits(), target)
        return self._dice_and_cross_entropy(output, target)

    def _dice_and_cross_entropy(self, masks: PromptMasks, target: Tensor) -> Tensor:
        labels = target.flatten(1).long()
        if self.loss.ignore_label is not None:
            labels = labels.masked_fill(labels == self.loss.ignore_label, IGNORED)
        with _without_autocast(labels.device.type):  # sums over voxels overflow in half precision
            entropy, hit, predicted, true = _MaskSums.apply(
                *masks[:2], masks.features.flatten(2), labels
            )
        dice = self._dice(hit, predicted, true)
        return self.loss.weight_ce * entropy / true.sum().clamp(min=1) - (
            self.loss.weight_dice * dice
        )

    def _dice(self, hit: Tensor, predicted: Tensor, true: Tensor) -> Tensor:
        """Mean soft Dice of the foreground, from the sums (b k) of each class."""
        settings = self.loss.dc
        sums = [one if settings.do_bg else one[:, 1:] for one in (hit, predicted, true)]
        if settings.batch_dice:
            sums = [one.sum(0) for one in sums]
            if settings.ddp:  # after the sum: NCCL wants contiguous tensors of one shape
                sums = [AllGatherGrad.apply(one).sum(0) for one in sums]
        hit, predicted, true = sums
        whole = (true + predicted + settings.smooth).clamp_min(1e-8)
        return ((2 * hit + settings.smooth) / whole).mean()


class _MaskSums(torch.autograd.Function):
    """Sums over voxels of what a softmax over prompts gives.

    From weights (b k c), bias (b k 1), features (b c n) and labels (b n): the cross-entropy
    summed over all voxels; the probability of each class summed over its true voxels, b k; the
    same over all voxels, b k; the number of true voxels, b k. Voxels labelled IGNORED do not count.
    """

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401 - autograd's
        weights: Tensor,
        bias: Tensor,
        features: Tensor,
        labels: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        b, k, _ = weights.shape
        entropy = features.new_zeros((), dtype=torch.float32)
        predicted = features.new_zeros(b, k, 1, dtype=torch.float32)
        true = features.new_zeros(b, k, 2, dtype=torch.float32)  # their probability, their number
        classes = torch.arange(k, device=labels.device)[:, None]
        log_total = torch.empty_like(labels, dtype=torch.float32)
        for piece in _pieces(features, k):
            z, label = _logits(weights, bias, features[..., piece]), labels[:, None, piece]
            real, label = label != IGNORED, label.clamp(min=0)
            highest = z.amax(1, keepdim=True)
            z -= highest
            of_label = z.gather(1, label)
            z.exp_()
            total = z.sum(1, keepdim=True)
            log = total.log()
            log_total[:, None, piece] = log + highest
            entropy += (log - of_label).mul_(real).sum()
            share = real / total
            # Products and not scatter_add_, which adds one voxel after another: a hundredth is
            # lost to rounding over millions of voxels.
            of_class = (label == classes).to(share.dtype)
            true += _over_voxels(of_class, torch.cat([of_label.exp_() * share, real], dim=1))
            predicted += _over_voxels(z, share)
        ctx.save_for_backward(weights, bias, features, labels, log_total)
        hit, count = true.unbind(-1)
        ctx.mark_non_differentiable(count)
        return entropy, hit, predicted[..., 0], count

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any,  # noqa: ANN401 - autograd's
        d_entropy: Tensor,
        d_hit: Tensor,
        d_predicted: Tensor,
        _: Tensor,
    ) -> tuple:
        weights, bias, features, labels, log_total = ctx.saved_tensors
        d_weights = torch.zeros_like(weights, dtype=torch.float32)
        d_bias = torch.zeros_like(bias, dtype=torch.float32)
        d_features = torch.empty_like(features)
        for piece in _pieces(features, weights.shape[1]):
            part, label = features[..., piece], labels[:, None, piece]
            real, label = label != IGNORED, label.clamp(min=0)
            p = _logits(weights, bias, part).sub_(log_total[:, None, piece]).exp_().mul_(real)
            # By the softmax's Jacobian, with g the gradient of each probability:
            # dz_j = p_j (g_j - sum_i p_i g_i), and p_j - 1[j is the label] from the entropy.
            of_label = p.gather(1, label) * d_hit.gather(1, label[:, 0])[:, None]
            mean = d_predicted[:, None] @ p + of_label
            dz = p * (d_predicted[..., None] + d_entropy)
            dz.addcmul_(p, mean, value=-1)
            dz.scatter_add_(1, label, of_label - d_entropy * real)
            d_bias += dz.sum(-1, keepdim=True)
            dz = dz.to(features.dtype)
            d_weights += _over_voxels(dz, part)
            d_features[..., piece] = weights.to(dz.dtype).mT @ dz
        return d_weights.to(weights.dtype), d_bias.to(bias.dtype), d_features, None


def _without_autocast(device_type: str) -> AbstractContextManager:
    # nnU-Net has none on mps, and older versions of torch refuse even to switch it off there.
    return nullcontext() if device_type == "mps" else torch.autocast(device_type, enabled=False)


def _pieces(features: Tensor, prompts: int) -> list[slice]:
    size = CPU_PIECE if features.device.type == "cpu" else GPU_PIECE
    step = max(1, size // (features.shape[0] * prompts * ALIGNED)) * ALIGNED
    return [slice(at, at + step) for at in range(0, features.shape[-1], step)]


def _over_voxels(one: Tensor, other: Tensor) -> Tensor:
    """Products of ``one`` (b k n) and ``other`` (b c n) summed over voxels: b k c.

    Those of half precision are put together in single precision, so that long sums stay in range.
    """
    whole = one.shape[-1] // LONGEST_SUM
    rest = whole * LONGEST_SUM
    sums = (one[..., rest:] @ other[..., rest:].mT).float()
    if not whole:
        return sums
    # Parts of the sum as products of their own: b k n -> b s k m.
    one, other = (
        x[..., :rest].unflatten(-1, (whole, LONGEST_SUM)).transpose(1, 2) for x in (one, other)
    )
    return sums + (one @ other.mT).float().sum(1)


def _logits(weights: Tensor, bias: Tensor, features: Tensor) -> Tensor:
    """Logits b k n in single precision, multiplied in the precision of the features."""
    kind = features.dtype
    return torch.baddbmm(bias.to(kind), weights.to(kind), features).float()
