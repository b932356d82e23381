"""A space of sentences in which the classes of the training lie far apart."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Direction of least variance over the one of most, among those in which classes differ.
SMALLEST_SHARE = 0.1
# How much of what no class differs in is kept, against what classes differ in.
OUTSIDE = 0.3


class SentenceSpace(nn.Module):
    """Regularised linear discriminant of the training's phrases; fixed, not learned.

    A text encoder puts "right parotid gland" and "left parotid gland" next to each other (cosine
    0.96 in MiniLM), and the phrases of one class farther apart than the classes are. A network
    that starts from such vectors finds the classes late. So sentences are mapped ::

        s -> layer_norm((layer_norm(s) - m) · A)

    with m the mean of the classes and A such that phrases of one class come together (whitening
    within classes), classes come apart (whitening between them, up to a limit for differences
    that are very small), and directions in which no classes differ shrink. The map follows from
    the phrases alone and treats all classes alike: it belongs to none, and new phrases go through
    it as the trained ones do. Checkpoints that are older than the map are read as the identity.

    References:
        Fisher 1936, doi:10.1111/j.1469-1809.1936.tb02137.x: linear discriminants.
        Hatch et al. 2006, doi:10.21437/Interspeech.2006-183: whitening within classes.

    Args:
        dim: Channels of the text encoder.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("matrix", torch.eye(dim))

    def reset(self) -> None:
        """Goes back to the identity."""
        self.mean.zero_()
        self.matrix.copy_(torch.eye(len(self.matrix)))

    def fit(self, sentences: Tensor, num_phrases: Sequence[int]) -> None:
        """Finds the map; of a single class, or of classes that say the same, it is the identity.

        Args:
            sentences: Sentence vectors, p c, class by class.
            num_phrases: Phrases of each class; their sum is p.
        """
        classes = _normalised(sentences.double()).split(list(num_phrases))
        centers = torch.stack([phrases.mean(0) for phrases in classes])
        mean = centers.mean(0)
        apart = centers - mean
        self.reset()
        if len(centers) < 2 or apart.norm() <= 1e-6 * mean.norm():
            return
        within = sum(torch.cov(one.T, correction=0) for one in classes) / len(classes)
        together = _whitening(within, (within.trace() + apart.square().sum() / len(apart)) / 2)
        self.mean.copy_(mean)
        self.matrix.copy_(together @ _spreading(apart @ together))

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args: object) -> None:
        state_dict.setdefault(f"{prefix}mean", torch.zeros_like(self.mean))
        state_dict.setdefault(f"{prefix}matrix", torch.eye(len(self.matrix)))
        super()._load_from_state_dict(state_dict, prefix, *args)

    def forward(self, sentences: Tensor) -> Tensor:
        """Maps sentences (... c) to the same shape."""
        return _normalised((_normalised(sentences) - self.mean) @ self.matrix)


def _normalised(sentences: Tensor) -> Tensor:
    # Encoders differ in scale by orders of magnitude.
    return F.layer_norm(sentences, sentences.shape[-1:])


def _whitening(covariance: Tensor, ridge: Tensor) -> Tensor:
    """Inverse square root of a covariance, to which a ridge of that trace is added."""
    variances, axes = torch.linalg.eigh(covariance)
    variances = variances.clamp(min=0) + ridge / len(covariance)
    return axes @ torch.diag(variances.rsqrt()) @ axes.T


def _spreading(apart: Tensor) -> Tensor:
    """Map after which the rows (deviations of class centres, k c) vary alike in all directions."""
    _, spread, axes = torch.linalg.svd(apart, full_matrices=False)
    rank = min(len(apart) - 1, apart.shape[1])  # deviations add up to nothing
    spread, axes = spread[:rank], axes[:rank]
    spread = (spread.square() + (SMALLEST_SHARE * spread[0]) ** 2).sqrt()
    inside = axes.T @ torch.diag(1 / spread) @ axes
    outside = torch.eye(apart.shape[1], dtype=apart.dtype) - axes.T @ axes
    return inside + OUTSIDE / spread.mean() * outside
