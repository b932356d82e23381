"""RefSAM3DTrainer with one thing changed, for the search of architectures.

nnU-Net finds it with ``nnUNet_extTrainer`` set to this file's folder.
"""

import os

import torch
from nnunetv2.utilities.crossval_split import generate_crossval_split
from refsam3d_seeded import RefSAM3DTrainerSeeded
from torch import nn

from refsam3d_nnunet.network.text_prompts import TextPrompts


class RefSAM3DTrainerVariant(RefSAM3DTrainerSeeded):
    """RefSAM3DTrainer on a part of the training cases, changed as BENCHMARK_VARIANT says.

    What a plan can say is in the plan; here is what only code can: ``text=plain`` gives the
    network sentences as the encoder made them, ``text=random`` fixed random vectors in their
    place, one for each class, ``phrases=one`` the canonical phrases alone, ``depth=random`` random
    depth kernels of the tokens in place of the mean over slices. The validation cases of the fold
    are left alone: the training cases are split once more.
    """

    def do_split(self) -> tuple[list[str], list[str]]:
        """Training and validation cases, all from the fold's training cases."""
        cases = sorted(super().do_split()[0])
        split = generate_crossval_split(cases, seed=12345, n_splits=5)[0]
        return [str(case) for case in split["train"]], [str(case) for case in split["val"]]

    def initialize(self) -> None:
        """Builds the network, changed."""
        super().initialize()
        change_text(self._bare_network().text)
        if _asked("depth") == "random":
            depth = self._bare_network().image_encoder.patch_embed.depth_weight
            nn.init.normal_(depth, std=depth.shape[1] ** -0.5)

    def _draw_phrases(self) -> None:
        if _asked("phrases") != "one":
            super()._draw_phrases()

    def perform_actual_validation(self, save_probabilities: bool = False) -> None:
        """Nothing: what is compared is the validation patches' Dice."""


def change_text(text: TextPrompts) -> None:
    """Does what ``text=`` asks for."""
    asked = _asked("text")
    if asked is None:
        return
    text.seg_layers.space.reset()
    if asked == "random":
        generator = torch.Generator().manual_seed(0)
        words, sentences = (text.seg_layers.get_buffer(name) for name in ("words", "sentences"))
        for rows in torch.arange(len(sentences)).split(text.num_phrases):
            words[rows] = sentences[rows] = torch.randn(sentences.shape[1], generator=generator)


def _asked(name: str) -> str | None:
    changes = os.environ["BENCHMARK_VARIANT"].split("+")
    return dict(one.partition("=")[::2] for one in changes).get(name)
