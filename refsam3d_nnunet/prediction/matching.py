"""Which trained class a free phrase comes nearest to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from refsam3d_nnunet.text.lookup import find_class
from refsam3d_nnunet.text.names import BACKGROUND
from refsam3d_nnunet.text.phrases import ClassPhrases, core, meaning, split_side


@dataclass(frozen=True)
class Match:
    """A prompt and the class whose place it takes.

    Args:
        prompt: What the user wrote.
        label: The class's name in the training's ``dataset.json``.
        canonical: Its canonical phrase.
        nearest_phrase: The trained phrase of that class most similar to the prompt.
        similarity: Cosine of their sentence vectors, sentence around and side left aside.
        found_by: "name" if the prompt bank or the synonyms knew the phrase, else "similarity".
        warning: What the user should know, or None.
    """

    prompt: str
    label: str
    canonical: str
    nearest_phrase: str
    similarity: float
    found_by: str
    warning: str | None


def checked_prompts(prompts: Sequence[object]) -> list[str]:
    """Prompts with single spaces.

    Raises:
        ValueError: If there is none, one is empty or no text, or two are the same.
    """
    for prompt in prompts:
        if not isinstance(prompt, str) or not prompt.strip():
            raise ValueError(f"A prompt must be a phrase such as 'left kidney', got {prompt!r}.")
    if not prompts:
        raise ValueError("There is no prompt; give at least one, such as 'left kidney'.")
    clean = [" ".join(prompt.split()) for prompt in prompts]
    for i, prompt in enumerate(clean):
        if prompt.lower() in (other.lower() for other in clean[:i]):
            raise ValueError(f"The prompt {prompt!r} is there twice.")
    return clean


def names_of(one: ClassPhrases) -> dict[str, str]:
    """The trained phrases of a class that are a mere name -> their structure, without side."""
    bare = [phrase for phrase in one.training if core(phrase) == phrase] or [one.canonical]
    return {phrase: structure_of(phrase) for phrase in bare}


def _comparable(prompt: str, one: ClassPhrases) -> dict[str, str]:
    """The names of a class, or the one phrase that the prompt is."""
    for phrase in one.training:
        if phrase.lower() == prompt.lower():
            return {phrase: structure_of(prompt)}
    return names_of(one)


def structure_of(phrase: str) -> str:
    """A phrase without sentence and side: "segment the left kidney" -> "kidney"."""
    return split_side(core(phrase))[1]


def match(
    prompt: str,
    classes: Sequence[ClassPhrases],
    vector: Callable[[str], np.ndarray],
    *,
    threshold: float,
) -> tuple[int, Match]:
    """Finds the class of a prompt.

    A phrase that the bank or the synonym table knows has its class by that; over others the
    cosine of the structures' sentence vectors decides. Left and right are no matter of degree: a
    phrase of one side never takes the place of a class of the other, and a side that two phrases
    share makes them no more similar.

    Args:
        prompt: What the user wrote.
        classes: All classes of the model.
        vector: Gives the sentence vector (c) of a structure.
        threshold: Similarity below which there is a warning.

    Returns:
        Index of the class, and the match.

    Raises:
        ValueError: If the prompt names the background, or only sides that the model has not.
    """
    known = find_class(prompt, classes)
    if known is not None and classes[known].label == BACKGROUND:
        raise ValueError(f"{prompt!r} means the background, which is always predicted as 0.")
    side = meaning(prompt)[0]
    candidates = [
        index
        for index, one in enumerate(classes)
        if one.label != BACKGROUND
        and known in (None, index)
        and (known is not None or not side or meaning(one.canonical)[0] in (None, side))
    ]
    if not candidates:
        raise ValueError(f"The model was trained on no structure of the side in {prompt!r}.")
    similarity, index, phrase = max(
        (_similarity(prompt, base, vector), index, phrase)
        for index in candidates
        for phrase, base in _comparable(prompt, classes[index]).items()
    )
    found = classes[index]
    return index, Match(
        prompt,
        found.label,
        found.canonical,
        phrase,
        round(similarity, 4),
        "similarity" if known is None else "name",
        _warning(prompt, side, found, similarity=similarity, threshold=threshold),
    )


def _similarity(prompt: str, base: str, vector: Callable[[str], np.ndarray]) -> float:
    own = structure_of(prompt)
    if own == base:
        return 1.0
    a, b = vector(own), vector(base)
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


def _warning(
    prompt: str, side: str | None, found: ClassPhrases, *, similarity: float, threshold: float
) -> str | None:
    warnings = []
    if similarity < threshold:
        warnings.append(
            f"{prompt!r} is far from every phrase of the training: the nearest, of "
            f"{found.canonical!r}, has similarity {similarity:.2f} (below {threshold:.2f}). "
            f"Expect {found.canonical!r} or nothing of use."
        )
    trained_side = meaning(found.canonical)[0]
    if side != trained_side:
        warnings.append(
            f"{prompt!r} names {side or 'no'} side, and the nearest trained class is "
            f"{found.canonical!r}."
        )
    return " ".join(warnings) or None
