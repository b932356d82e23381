"""Prompts as the network sees them: stored text embeddings and the cross-modal projector."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from refsam3d_nnunet.network.mlp import mlp


class TextPrompts(nn.Module):
    """Text tokens of all prompts.

    The text encoder is frozen and a prompt is fixed, so its embedding is a constant: word states
    and sentence vector are buffers, filled once, saved with the checkpoint, and the text encoder
    itself is no part of the network. One projector maps words and sentences alike to the
    decoder's channels.

    nnU-Net skips ``.seg_layers.`` when it takes over pretrained weights: what depends on the
    number of classes lives below that name.

    References:
        Gao & Lu 2024 (RefSAM3D), arXiv:2412.05605, sec. 3.2 (cross-modal projector).
        Li et al. 2023 (RefSAM), arXiv:2307.00997.

    Args:
        num_prompts: Prompts, one per output channel.
        num_words: Words of the longest prompt.
        text_dim: Channels of the text encoder.
        dim: Channels of the decoder.
    """

    def __init__(self, num_prompts: int, num_words: int, text_dim: int, dim: int) -> None:
        super().__init__()
        self.seg_layers = nn.Module()
        for name, tensor in (
            ("words", torch.zeros(num_prompts, num_words, text_dim)),
            ("mask", torch.zeros(num_prompts, num_words, dtype=torch.bool)),
            ("sentences", torch.zeros(num_prompts, text_dim)),
        ):
            self.seg_layers.register_buffer(name, tensor)
        self.projector = mlp(text_dim, text_dim // 2, dim)

    def store(self, words: Tensor, mask: Tensor, sentences: Tensor) -> None:
        """Fills the buffers.

        Args:
            words: Word states, k l c.
            mask: True where a word is real and not padding, k l.
            sentences: Sentence vectors, k c.

        Raises:
            ValueError: If a shape is not the one the network was built for.
        """
        for name, tensor in (("words", words), ("mask", mask), ("sentences", sentences)):
            buffer = self.seg_layers.get_buffer(name)
            if tensor.shape != buffer.shape:
                raise ValueError(
                    f"Text embeddings '{name}' have shape {tuple(tensor.shape)}, the network was "
                    f"built for {tuple(buffer.shape)} (prompts, words, channels)."
                )
            buffer.copy_(tensor)

    def forward(self) -> tuple[Tensor, Tensor, Tensor]:
        """Projects all prompts.

        Returns:
            Text tokens (n c), the words of all prompts then their sentences; which of them are
            real (n); the projected sentences (k c).
        """
        stored = self.seg_layers
        words, sentences = self._projected(stored.words), self._projected(stored.sentences)
        real = torch.cat([stored.mask.flatten(), stored.mask.new_ones(len(sentences))])
        return torch.cat([words.flatten(0, 1), sentences]), real, sentences

    def _projected(self, text: Tensor) -> Tensor:
        # Encoders differ in scale by orders of magnitude, words and sentences of one do too.
        return self.projector(F.layer_norm(text, text.shape[-1:]))
