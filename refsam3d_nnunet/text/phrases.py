"""The prompt bank: what each class may be called, in training and in the test of training."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from refsam3d_nnunet.text.names import (
    BACKGROUND,
    class_prompts,
    given_phrases,
    head_names,
    mentions_side,
)
from refsam3d_nnunet.text.synonyms import synonyms_of

# "perform {} segmentation" is the prompt of the paper.
TEMPLATES = (
    "{}",
    "perform {} segmentation",
    "segment the {}",
    "the {}",
    "{} segmentation",
    "mask of the {}",
)
HELD_OUT_TEMPLATES = ("delineate the {}", "where is the {}", "outline of the {}")
SIDE_FORMS = ("{side} {base}", "{base} on the {side}")
HELD_OUT_SIDE_FORM = "{side} sided {base}"
MOST_TRAINED = 16  # of a class: bounds the checkpoint, not the cost of a step

_FRAMES = tuple(
    re.compile(re.escape(template).replace(r"\{\}", "(.+)"), re.IGNORECASE)
    for template in sorted((*TEMPLATES[1:], *HELD_OUT_TEMPLATES), key=len, reverse=True)
)
_SIDE = re.compile(
    r"^(left|right)[- ]?(?:sided)? (.+)$|^(.+?) (?:on|of) the (left|right)(?: side)?$|"
    r"^(.+?),? (left|right)$",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class ClassPhrases:
    """What one output of the network may be called.

    Args:
        label: Name in ``dataset.json``.
        training: Phrases to train with; the first is the canonical one, used in evaluation.
        held_out: Phrases that no training sees.
    """

    label: str
    training: tuple[str, ...]
    held_out: tuple[str, ...] = ()

    @property
    def canonical(self) -> str:
        """The phrase used in evaluation."""
        return self.training[0]

    def to_json(self) -> dict[str, Any]:
        """As the plan holds it."""
        return {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in asdict(self).items()
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> ClassPhrases:
        """Reads what :meth:`to_json` wrote."""
        return cls(content["label"], tuple(content["training"]), tuple(content["held_out"]))


def phrase_bank(
    dataset_json: Mapping[str, Any], prompts_file: Path | None = None
) -> list[ClassPhrases]:
    """Phrases of every output head, in nnU-Net's order.

    A label's name, or the one phrase that the user gave for it, is the canonical phrase; synonyms
    and templates follow. A list of phrases from the user is taken literally and is all there is.
    No phrase serves two classes: what two would share, neither gets.

    Args:
        dataset_json: Content of a data set's ``dataset.json``.
        prompts_file: JSON file, label -> phrase or list of phrases, that goes before
            ``dataset_json["refsam3d"]["prompts"]``.

    Raises:
        ValueError: If a label has no usable name, or the user's phrases are malformed, name a
            label without a head, or are the same for two labels.
        FileNotFoundError: If there is no such file.
    """
    given = given_phrases(dataset_json, prompts_file)
    prompts = class_prompts(dataset_json, prompts_file)
    classes, protected = [], []
    for label, prompt in zip(head_names(dataset_json), prompts, strict=True):
        own = given.get(label, [prompt])
        others = {other.lower() for other in prompts if other != prompt}
        literal = ClassPhrases(label, tuple(own))
        classes.append(literal if len(own) > 1 else _expanded(label, prompt, others))
        protected.append(own)
    _refuse_shared(classes, protected)
    return _disjoint(classes, protected)


def background_of(classes: Sequence[ClassPhrases]) -> int | None:
    """The output channel of the background; None for regions, which may overlap and have none."""
    return next((i for i, one in enumerate(classes) if one.label == BACKGROUND), None)


def training_phrases(classes: Sequence[ClassPhrases]) -> list[str]:
    """What a model is trained with, in the order in which it stores their embeddings."""
    return [phrase for one in classes for phrase in one.training]


def refuse_alike(classes: Sequence[ClassPhrases], sentences: np.ndarray, encoder: str) -> None:
    """Refuses classes whose canonical phrases are the same to the text encoder.

    No parameter belongs to a class, so they would get the same mask. An encoder reads words of a
    language that it does not know all alike.

    Args:
        classes: Of every output head.
        sentences: Sentence vectors of :func:`training_phrases`, p c.
        encoder: Name of the text encoder, for the message.

    Raises:
        ValueError: If two are closer than rounding explains; the message names both labels.
    """
    counts = [len(one.training) for one in classes]
    vectors = sentences[np.cumsum([0, *counts[:-1]])].astype(np.float64)
    for i, one in enumerate(classes):
        distances = np.linalg.norm(vectors[:i] - vectors[i], axis=1)
        if (same := distances <= 1e-3 * np.linalg.norm(vectors[i])).any():
            other = classes[int(np.argmax(same))]
            raise ValueError(
                f"The text encoder {encoder!r} reads {other.canonical!r} and {one.canonical!r} as "
                f"the same words, so the network could not tell the labels {other.label!r} and "
                f"{one.label!r} apart. Give them English phrases, in dataset.json: "
                f'"refsam3d": {{"prompts": {{"{one.label}": "..."}}}}, or name an encoder of their '
                f"language in REFSAM3D_TEXT_ENCODER."
            )


def drawn_phrases(
    num_phrases: Sequence[int], fold: int | str, epoch: int, iteration: int
) -> list[int]:
    """One phrase per class, the same on all ranks and again after a resumed run.

    Args:
        num_phrases: Phrases of each class.
        fold: Its number, or "all".
        epoch: Counted from 0.
        iteration: Of this epoch, counted from 0.

    Returns:
        For each class the index of one of its phrases.
    """
    generator = np.random.default_rng([0 if fold == "all" else 1 + int(fold), epoch, iteration])
    return generator.integers(num_phrases).tolist()


def core(phrase: str) -> str:
    """A phrase without the sentence around it: "segment the left kidney" -> "left kidney"."""
    phrase = " ".join(phrase.split()).rstrip(".?!")
    for frame in _FRAMES:
        if match := frame.fullmatch(phrase):
            return core(match[1])
    return phrase


def split_side(phrase: str) -> tuple[str | None, str]:
    """Side and structure: "kidney on the left" and "left kidney" -> ("left", "kidney").

    Returns:
        "left", "right" or None, and the rest in lower case. A phrase that names both sides, or
        one in another way, has no side that can be split off.
    """
    phrase = " ".join(phrase.lower().replace("-", " ").split())
    match = _SIDE.match(phrase)
    if match is None:
        return None, phrase
    first, base, base_2, side_2, base_3, side_3 = match.groups()
    side, base = first or side_2 or side_3, base or base_2 or base_3
    return (None, phrase) if mentions_side([base]) else (side, base)


def meaning(phrase: str) -> tuple[str | None, str]:
    """Side and structure of a phrase, the same for all that the synonym table calls the same."""
    side, base = split_side(core(phrase))
    base = base.removeprefix("the ")
    names = synonyms_of(base) or synonyms_of(base.removesuffix("s"))
    return side, names[0] if names else base


def _expanded(label: str, prompt: str, taken: set[str]) -> ClassPhrases:
    """Synonyms times templates; some of both are held out."""
    side, base = split_side(prompt)
    names = [_with_side(SIDE_FORMS[0], side, name) for name in synonyms_of(base) if name != base]
    names = [name for name in names if name not in taken]
    tests = [names.pop()] if len(names) > 1 else []
    if side:
        names.insert(0, _with_side(SIDE_FORMS[1], side, base))
        tests.append(_with_side(HELD_OUT_SIDE_FORM, side, base))
    # All names bare, then all in the first template, and so on until there are enough.
    training = [template.format(name) for template in TEMPLATES for name in (prompt, *names)]
    held_out = [template.format(prompt) for template in HELD_OUT_TEMPLATES]
    held_out += [template.format(name) for name in tests for template in TEMPLATES[:2]]
    return ClassPhrases(label, tuple(training[:MOST_TRAINED]), tuple(held_out))


def _with_side(form: str, side: str | None, base: str) -> str:
    return form.format(side=side, base=base) if side else base


def _refuse_shared(classes: Sequence[ClassPhrases], protected: Sequence[Sequence[str]]) -> None:
    owner: dict[str, str] = {}
    for one, own in zip(classes, protected, strict=True):
        for phrase in own:
            other = owner.setdefault(phrase.lower(), one.label)
            if other != one.label:
                raise ValueError(
                    f"Labels {other!r} and {one.label!r} share the phrase {phrase!r}, so the "
                    f"network could not tell them apart. Take it from one of them."
                )


def _disjoint(
    classes: Sequence[ClassPhrases], protected: Sequence[Sequence[str]]
) -> list[ClassPhrases]:
    """Takes away what two classes share; what is a class's own by name or by the user stays."""
    claimed = {phrase.lower() for own in protected for phrase in own}
    uses = Counter(phrase.lower() for c in classes for phrase in {*c.training, *c.held_out})
    shared = {phrase for phrase, count in uses.items() if count > 1} | claimed
    return [
        ClassPhrases(
            c.label,
            tuple(p for p in c.training if p in own or p.lower() not in shared),
            tuple(p for p in c.held_out if p.lower() not in shared),
        )
        for c, own in zip(classes, protected, strict=True)
    ]
