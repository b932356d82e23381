"""nnU-Net's predictor, with free text in place of the trained classes."""

from __future__ import annotations

from collections import UserDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nnunetv2.inference.export_prediction import (
    convert_predicted_logits_to_segmentation_with_correct_shape,
)
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from torch import Tensor

import refsam3d_nnunet._autoload  # noqa: F401 - nnU-Net finds the trainer, .pth files or not
from refsam3d_nnunet.environment import read_settings
from refsam3d_nnunet.network.text_prompts import TextPrompts
from refsam3d_nnunet.plans import trained_classes
from refsam3d_nnunet.prediction.arguments import SIMILARITY
from refsam3d_nnunet.prediction.listing import checkpoint_files, read_block
from refsam3d_nnunet.prediction.matching import (
    Match,
    checked_prompts,
    match,
    names_of,
    structure_of,
)
from refsam3d_nnunet.slim.backbone import looking_first_in
from refsam3d_nnunet.text.bank import embed
from refsam3d_nnunet.text.encoders import TextEmbedding
from refsam3d_nnunet.text.names import BACKGROUND
from refsam3d_nnunet.text.phrases import background_of, training_phrases


class RefSAM3DPredictor(nnUNetPredictor):
    """Predicts the trained classes, or what free phrases say.

    Each phrase takes the place of the trained class that it comes nearest to, the other classes
    stay in the text as they were trained, and a voxel of a class that nobody asked for is
    background. Until :meth:`set_prompts` is called this is nnU-Net's predictor. Arguments are
    those of nnU-Net.
    """

    def initialize_from_trained_model_folder(
        self,
        model_training_output_dir: str,
        use_folds: Sequence[int | str] | None,
        checkpoint_name: str = "checkpoint_final.pth",
    ) -> None:
        """Loads a model, see nnU-Net.

        Raises:
            FileNotFoundError: If folder or checkpoints do not exist, or slim ones lack their
                backbone.
            ValueError: If the model is not RefSAM3D, a cascade's second stage, or
                REFSAM3D_PROMPTS is set, which is for nnUNetv2_predict.
        """
        folder = Path(model_training_output_dir)
        self.block: dict[str, Any] = read_block(folder)
        self.classes = trained_classes(self.block)
        if read_settings().prompts is not None:
            raise ValueError("REFSAM3D_PROMPTS is for nnUNetv2_predict: unset it, or use that.")
        self.checkpoints = checkpoint_files(folder, use_folds, checkpoint_name)
        use_folds = [path.parent.name.removeprefix("fold_") for path in self.checkpoints]
        with looking_first_in(folder):
            super().initialize_from_trained_model_folder(str(folder), use_folds, checkpoint_name)
        if self.configuration_manager.previous_stage_name is not None:
            raise ValueError(
                f"{folder} is the second stage of a cascade, whose input is the labels that the "
                f"first predicted; this predictor has none, and the stage cannot follow free text. "
                f"Use nnUNetv2_predict, or the first stage."
            )
        self._trained_labels = self.dataset_json
        self._heads: list[int] | None = None
        self._order: list[int] = []

    def set_prompts(
        self,
        prompts: Sequence[str],
        *,
        bank: Path | None = None,
        threshold: float = SIMILARITY,
        verbatim: bool = False,
    ) -> list[Match]:
        """Asks for other things than the trained classes; label i + 1 is prompt i.

        Args:
            prompts: Free phrases. A phrase of the training needs no text encoder.
            bank: File that keeps the embeddings of other phrases, made if missing.
            threshold: Similarity below which a match carries a warning.
            verbatim: Whether a new phrase is said alone, and not with the nearest trained one.

        Returns:
            One match per prompt.

        Raises:
            ValueError: If a prompt is empty, there twice, means the background or the same class
                as another one, is longer than the text encoder reads, or the text encoder or bank
                at hand is not that of the model.
            OSError: If the text encoder is needed and cannot be had.
        """
        prompts = checked_prompts(prompts)
        phrases = self._embeddings(prompts, bank)
        found = [
            match(prompt, self.classes, lambda name: phrases[name][1], threshold=threshold)
            for prompt in prompts
        ]
        heads = [head for head, _ in found]
        for i, head in enumerate(heads):
            if head in heads[:i]:
                raise ValueError(
                    f"{prompts[heads.index(head)]!r} and {prompts[i]!r} both come nearest to "
                    f"{self.classes[head].canonical!r}, and a class can follow one phrase at a "
                    f"time. Ask for one of them, or for each in a run of its own."
                )
        said = [phrases[one.canonical] for one in self.classes]
        for head, one in found:
            alone = verbatim or phrases.is_trained(one.prompt)
            said[head] = _said(one.prompt, one.nearest_phrase, phrases, alone=alone)
        self._say(said)
        self._ask_for(heads)
        return [one for _, one in found]

    def use_phrases(
        self, phrases: Sequence[str], *, bank: Path | None = None, verbatim: bool = False
    ) -> None:
        """Words the trained classes otherwise, one phrase each; the labels stay the trained ones.

        Args:
            phrases: One per class.
            bank: See :meth:`set_prompts`.
            verbatim: See :meth:`set_prompts`.

        Raises:
            ValueError: If their number is not that of the classes; see :meth:`set_prompts`.
            OSError: If the text encoder is needed and cannot be had.
        """
        if len(phrases) != len(self.classes):
            raise ValueError(f"Wanted are {len(self.classes)} phrases, got {len(phrases)}.")
        known, said = self._embeddings(phrases, bank), []
        for i, phrase in enumerate(phrases):
            alone = verbatim or known.is_trained(phrase) or i == self._background
            nearest = phrase
            if not alone:
                _, found = match(phrase, self.classes, lambda name: known[name][1], threshold=0)
                nearest = found.nearest_phrase
            said.append(_said(phrase, nearest, known, alone=alone))
        self._say(said)
        self._heads, self.dataset_json = None, self._trained_labels
        self.label_manager = self.plans_manager.get_label_manager(self.dataset_json)

    def _say(self, said: Sequence[tuple[np.ndarray, np.ndarray]]) -> None:
        stacked = TextEmbedding.stack(said)
        self._text.replace(*map(torch.from_numpy, stacked.arrays()))

    def segment(
        self, array: np.ndarray, properties: dict[str, Any], *, probabilities: bool = False
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Segments one image in this process.

        Args:
            array: Intensities, c z y x.
            properties: ``{"spacing": [z, y, x] in mm}``.
            probabilities: Whether they are wanted too.

        Returns:
            Label values z y x, and probabilities (k z y x, background first unless the model was
            trained on regions) or None.
        """
        preprocessor = self.configuration_manager.preprocessor_class(verbose=False)
        data, _, properties = preprocessor.run_case_npy(
            array,
            None,
            dict(properties),
            self.plans_manager,
            self.configuration_manager,
            self.dataset_json,
        )
        logits = self.predict_logits_from_preprocessed_data(torch.from_numpy(data)).cpu()
        result = convert_predicted_logits_to_segmentation_with_correct_shape(
            logits,
            self.plans_manager,
            self.configuration_manager,
            self.label_manager,
            properties,
            return_probabilities=probabilities,
        )
        if not probabilities:
            return result, None
        labels, chances = result
        if self._heads is not None and self._background is None:
            chances = chances[np.argsort(self._order)]
        return labels, chances

    def predict_logits_from_preprocessed_data(self, data: Tensor) -> Tensor:
        """Logits of the prompts, k z y x, from a preprocessed image; see nnU-Net."""
        if self._heads is None:
            return super().predict_logits_from_preprocessed_data(data)
        asked_labels = self.label_manager
        self.label_manager = self.plans_manager.get_label_manager(self._trained_labels)
        try:  # nnU-Net counts the network's channels by its labels
            logits = super().predict_logits_from_preprocessed_data(data)
        finally:
            self.label_manager = asked_labels
        asked = logits[self._heads]
        if self._background is None:
            return asked
        rest = [i for i in range(len(logits)) if i not in self._heads]
        return torch.cat([logits[rest].amax(dim=0, keepdim=True), asked])

    @property
    def _text(self) -> TextPrompts:
        return getattr(self.network, "_orig_mod", self.network).text

    @property
    def _background(self) -> int | None:
        return background_of(self.classes)

    def _ask_for(self, heads: list[int]) -> None:
        """Gives nnU-Net the labels 1, 2, ... for these output channels."""
        regions = self._background is None  # nnU-Net knows regions by their lists
        self._order = list(range(len(heads)))
        if regions:
            # The later covers the earlier: in the order of the training a part is not lost below
            # the whole.
            self._order.sort(key=heads.__getitem__)
        self._heads = [heads[i] for i in self._order]
        values = [i + 1 for i in self._order]
        labels = {f"prompt {i}": [i, i] if regions else i for i in values}
        self.dataset_json = {**self._trained_labels, "labels": {BACKGROUND: 0, **labels}}
        if regions:
            self.dataset_json["regions_class_order"] = values
        self.label_manager = self.plans_manager.get_label_manager(self.dataset_json)

    def _embeddings(self, prompts: Sequence[str], bank: Path | None) -> _Phrases:
        """Words and sentence of trained phrases from the model, of others from the encoder."""
        training = [phrase.lower() for phrase in training_phrases(self.classes)]
        stored = TextEmbedding(
            *(t.cpu().numpy() for t in self._text.stored(torch.arange(len(training))))
        )
        phrases = _Phrases({phrase: stored.phrase(i) for i, phrase in enumerate(training)})
        if all(prompt in phrases for prompt in prompts):
            return phrases
        structures = [name for one in self.classes for name in names_of(one).values()]
        wanted = [*prompts, *map(structure_of, prompts), *structures]
        new = [phrase for phrase in dict.fromkeys(wanted) if phrase not in phrases]
        own = self.block["text"]
        result = embed(new, encoder=read_settings().text_encoder or own["encoder"], bank=bank)
        if result.weights_sha256 != own["weights_sha256"]:
            raise ValueError(
                f"The model was trained with the text encoder {own['encoder']!r} (weights "
                f"{own['weights_sha256'][:12]}), and {result.encoder_id!r} here has the weights "
                f"{result.weights_sha256[:12]}: name the right one in REFSAM3D_TEXT_ENCODER."
            )
        for i, phrase in enumerate(new):
            phrases[phrase] = result.embedding.phrase(i)
        return phrases


def _said(
    prompt: str, nearest: str, phrases: _Phrases, *, alone: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Words (l c) and sentence (c) of a prompt, alone or with the nearest trained phrase.

    A network that has learned a dozen phrases of a class may take a word of a new one for that of
    another class. The words of both stand side by side, their sentence vectors are averaged.
    """
    words, sentence = phrases[prompt]
    if alone:
        return words, sentence
    more_words, other = phrases[nearest]
    return np.concatenate([words, more_words]), (sentence + other) / 2


class _Phrases(UserDict):
    """Phrase, whatever its case -> (words, sentence). The first ones are those of the training."""

    def __init__(self, trained: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> None:
        super().__init__(trained)
        self._trained = frozenset(self.data)

    def is_trained(self, phrase: str) -> bool:
        """Whether the model was trained with a phrase."""
        return phrase.lower() in self._trained

    def __contains__(self, phrase: object) -> bool:
        return str(phrase).lower() in self.data

    def __getitem__(self, phrase: str) -> tuple[np.ndarray, np.ndarray]:
        return self.data[phrase.lower()]

    def __setitem__(self, phrase: str, embedding: tuple[np.ndarray, np.ndarray]) -> None:
        self.data[phrase.lower()] = embedding
