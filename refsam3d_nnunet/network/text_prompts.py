"""Prompts as the network sees them: stored text embeddings and the cross-modal projector."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from refsam3d_nnunet.network.mlp import mlp
from refsam3d_nnunet.network.sentence_space import SentenceSpace

_STORED = ("words", "mask", "sentences")
# Text tokens that the image looks at. Beyond, the words of so many prompts cost more than the
# levels they are to inform, and the sentences have to do.
MOST_WORDS = 256


class TextPrompts(nn.Module):
    """Text tokens of all classes, from one phrase each.

    The text encoder is frozen and a phrase is fixed, so its embedding is a constant: word states
    and sentence vector are buffers, filled once, saved with the checkpoint, and the text encoder
    itself is no part of the network. A class may have several phrases: training uses the ones
    that were drawn last, evaluation the first of each class. Only these are projected, so that a
    step costs the same whatever the number of phrases. Sentences pass :class:`SentenceSpace`,
    which sets the classes apart; one projector maps words and sentences alike to the decoder's
    channels.

    nnU-Net skips ``.seg_layers.`` when it takes over pretrained weights: what depends on the
    number of classes lives below that name.

    References:
        Gao & Lu 2024 (RefSAM3D), arXiv:2412.05605, sec. 3.2 (cross-modal projector).
        Li et al. 2023 (RefSAM), arXiv:2307.00997.

    Args:
        num_phrases: Phrases of each class, one class per output channel.
        num_words: Words of the longest phrase.
        text_dim: Channels of the text encoder.
        dim: Channels of the decoder.
    """

    def __init__(self, num_phrases: Sequence[int], num_words: int, text_dim: int, dim: int) -> None:
        super().__init__()
        self.seg_layers = nn.Module()
        total = sum(num_phrases)
        for name, tensor in zip(
            _STORED,
            (
                torch.zeros(total, num_words, text_dim),
                torch.zeros(total, num_words, dtype=torch.bool),
                torch.zeros(total, text_dim),
            ),
            strict=True,
        ):
            self.seg_layers.register_buffer(name, tensor)
        self.seg_layers.space = SentenceSpace(text_dim)
        self.num_phrases = list(num_phrases)
        self.uses_words = len(num_phrases) * num_words <= MOST_WORDS
        first = torch.tensor([sum(num_phrases[:i]) for i in range(len(num_phrases))])
        # Rows of the stored phrases; all ranks of a training draw the same ones.
        self.register_buffer("canonical", first, persistent=False)
        self.register_buffer("drawn", first.clone(), persistent=False)
        self._others: tuple[Tensor, Tensor, Tensor] | None = None
        self.projector = mlp(text_dim, text_dim // 2, dim)

    def store(self, words: Tensor, mask: Tensor, sentences: Tensor) -> None:
        """Fills the buffers, class by class with the canonical phrase first.

        Args:
            words: Word states of p phrases, p l c.
            mask: True where a word is real and not padding, p l.
            sentences: Sentence vectors, p c.

        Raises:
            ValueError: If a shape is not the one the network was built for.
        """
        for name, tensor in zip(_STORED, (words, mask, sentences), strict=True):
            buffer = self.seg_layers.get_buffer(name)
            if tensor.shape != buffer.shape:
                raise ValueError(
                    f"Text embeddings '{name}' have shape {tuple(tensor.shape)}, the network was "
                    f"built for {tuple(buffer.shape)} (phrases, words, channels)."
                )
            buffer.copy_(tensor)
        self.seg_layers.space.fit(sentences, self.num_phrases)

    def draw(self, choice: Sequence[int]) -> None:
        """Chooses the phrases of the next training steps.

        Args:
            choice: For each class the index of one of its phrases.

        Raises:
            ValueError: If a class has no such phrase.
        """
        pairs = list(zip(choice, self.num_phrases, strict=True))
        if not all(0 <= index < count for index, count in pairs):
            raise ValueError(f"Phrases {list(choice)} of classes with {self.num_phrases} phrases")
        self.drawn.copy_(self.canonical + torch.as_tensor(choice, device=self.drawn.device))

    def stored(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Words (n l c), mask (n l) and sentences (n c) of some of the stored phrases."""
        words, mask, sentences = (self.seg_layers.get_buffer(name)[rows] for name in _STORED)
        return words, mask, sentences

    def replace(self, words: Tensor, mask: Tensor, sentences: Tensor) -> None:
        """Uses other phrases than the canonical ones in evaluation; not in the state dict.

        Args:
            words: Word states, one phrase a class, k l c; l may be any number.
            mask: True where a word is real and not padding, k l.
            sentences: Sentence vectors, k c.
        """
        self._others = (words, mask, sentences)

    def restore(self) -> None:
        """Goes back to the canonical phrases."""
        self._others = None

    def forward(self) -> tuple[Tensor, Tensor, Tensor]:
        """Projects one phrase of each class.

        Returns:
            Text tokens (n c), the words of all phrases, unless there are too many, then their
            sentences; which of them are real (n); the projected sentences (k c).
        """
        words, mask, sentences = self._current()
        if not self.uses_words:
            words, mask = words[:, :0], mask[:, :0]
        real = torch.cat([mask.flatten(), mask.new_ones(len(sentences))])
        # Encoders differ in scale by orders of magnitude, words and sentences of one do too.
        words = self.projector(F.layer_norm(words, words.shape[-1:]))
        sentences = self.projector(self.seg_layers.space(sentences))
        return torch.cat([words.flatten(0, 1), sentences]), real, sentences

    def _current(self) -> tuple[Tensor, Tensor, Tensor]:
        if self.training:
            return self.stored(self.drawn)
        if self._others is None:
            return self.stored(self.canonical)
        words, mask, sentences = (t.to(self.drawn.device) for t in self._others)
        self._others = words, mask, sentences  # copied to the device once, not for every patch
        return self._others
