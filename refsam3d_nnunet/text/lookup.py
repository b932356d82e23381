"""Which class a person means."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from refsam3d_nnunet.text.names import BACKGROUND
from refsam3d_nnunet.text.phrases import ClassPhrases, meaning


def find_class(phrase: str, classes: Sequence[ClassPhrases]) -> int | None:
    """Finds the class that a phrase names, by label, by phrase or by synonym.

    Args:
        phrase: What the user wrote; case does not matter.
        classes: All classes of a model.

    Returns:
        Index of the one class it names; None if there is none, or more than one.
    """
    wanted = _plain(phrase)
    for named in (
        lambda c: wanted == _plain(c.label),
        lambda c: wanted in map(_plain, (*c.training, *c.held_out)),
        lambda c: meaning(phrase) == meaning(c.canonical),
    ):
        found = [index for index, one in enumerate(classes) if named(one)]
        if len(found) == 1:
            return found[0]
    return None


def select_classes(spoken: str, classes: Sequence[ClassPhrases]) -> list[int]:
    """Reads a list of trained classes, such as "left kidney;spleen".

    Args:
        spoken: Labels or phrases with semicolons between them.
        classes: All classes of the model.

    Returns:
        Indices of the classes, in the order given.

    Raises:
        ValueError: If an entry is empty, unknown, the background, or names a class again.
    """
    chosen: list[int] = []
    for phrase in (part.strip() for part in spoken.split(";")):
        if not phrase:
            raise ValueError(
                f"An empty prompt in {spoken!r}: wanted is a list such as 'left kidney;spleen'."
            )
        index = find_class(phrase, classes)
        if index is None:
            raise ValueError(
                f"This model was not trained on {phrase!r}. Did you mean "
                f"{' or '.join(map(repr, nearest(phrase, classes)))}? 'refsam3d prompts -m "
                f"MODELFOLDER' lists all; 'refsam3d predict' takes free text."
            )
        if index in chosen:
            raise ValueError(
                f"{phrase!r} is a duplicate prompt: {classes[index].canonical!r} is in {spoken!r} "
                f"already."
            )
        if classes[index].label == BACKGROUND:
            raise ValueError("'background' is always predicted and cannot be asked for.")
        chosen.append(index)
    return chosen


def nearest(phrase: str, classes: Sequence[ClassPhrases], count: int = 3) -> list[str]:
    """Canonical phrases spelled most like this one, the most similar first."""
    foreground = [c for c in classes if c.label != BACKGROUND]

    def likeness(one: ClassPhrases) -> float:
        names = {_plain(name) for name in (one.label, *one.training, *one.held_out)}
        return max(difflib.SequenceMatcher(None, _plain(phrase), n).ratio() for n in names)

    return [c.canonical for c in sorted(foreground, key=likeness, reverse=True)[:count]]


def _plain(phrase: str) -> str:
    return " ".join(phrase.replace("_", " ").lower().split())
