"""From the labels of a ``dataset.json`` to one phrase per output head of nnU-Net."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

BACKGROUND = "background"
IGNORE_LABEL = "ignore"

GENERIC_WORDS = frozenset({"label", "class", "structure", "roi", "object"})
# English, Latin, German, French, Italian, Spanish and Portuguese, as labels have them.
_LEFT = (
    "left lft sinister sinistra sinistrum links linke linker linkes gauche sinistro izquierdo "
    "izquierda esquerdo esquerda"
)
_RIGHT = (
    "right rgt dexter dextra dextrum rechts rechte rechter rechtes droit droite destro destra "
    "derecho derecha direito direita"
)
SIDES = dict.fromkeys(_LEFT.split(), "left") | dict.fromkeys(_RIGHT.split(), "right")
_PAIRS = {"l": "r", "lt": "rt", "sx": "dx", "li": "re", "left": "right"}
INITIALS = dict.fromkeys(_PAIRS, "left") | dict.fromkeys(_PAIRS.values(), "right")
TWINS = _PAIRS | {right: left for left, right in _PAIRS.items()}

_CAMEL_HUMP = re.compile(r"(?<=[a-z])(?=[A-Z])")
_SEPARATORS = re.compile(r"(?:[\s_\-()\[\]]|[.,](?!\d))+")
_SIDE_WORD = re.compile(rf"(?<![a-z])({'|'.join(SIDES)})(?![a-z])", re.IGNORECASE)
# An initial written together with its structure: "lkidney", "lunglt", "kidney l1". A vowel behind
# lt or rt says that the t is the structure's: "rtibia", but "rtkidney".
_FUSED = (
    re.compile(r"(?P<initial>[lr]t(?![aeiou])|l|r)(?P<rest>.+)"),
    re.compile(r"(?P<rest>.+?)(?P<initial>lt|rt|l|r)(?P<number>\d*)"),
    # A whole word too: "leftkidney", "kidneyright2".
    re.compile(r"(?P<initial>left|right)(?P<rest>.+)"),
    re.compile(r"(?P<rest>.+?)(?P<initial>left|right)(?P<number>\d*)"),
)


def clean_label_name(name: str) -> str:
    """Turns a label of a ``dataset.json`` into the phrase a person would say.

    Underscores, dashes and CamelCase humps become spaces, and everything becomes lower case,
    acronyms too: text encoders for prompts fold the case, so that "GTV" and "gtv" would be one
    phrase anyway. The one side word of a name goes first, in English, also where it is written
    lft or rgt or in another language: "kidney_left" -> "left kidney", "rib_left_1" -> "left rib 1",
    "Atrium_dextrum" -> "right atrium". A lone l or r stays as it is, for by itself it may mean
    anything; :func:`class_prompts` reads it when its twin is there.

    Args:
        name: Label as written in ``dataset.json``.

    Raises:
        ValueError: If the name says nothing about the structure, such as "1" or "label_3".
    """
    words = [SIDES.get(word, word) for word in _words(name)]
    bare = {re.sub(r"\d+", "", word) for word in words}
    if not any(word not in GENERIC_WORDS and re.search(r"[^\W_]", word) for word in bare):
        raise ValueError(
            f"Label {name!r} does not say what it marks, so it cannot be a text prompt. Rename "
            f"it in dataset.json, or add what it marks to dataset.json, as in "
            f'"refsam3d": {{"prompts": {{"{name}": "liver"}}}}.'
        )
    sides = [word for word in words if word in ("left", "right")]
    if len(sides) == 1:
        words.remove(sides[0])
        words.insert(0, sides[0])
    return " ".join(words)


def head_names(dataset_json: Mapping[str, Any]) -> list[str]:
    """Names nnU-Net's output heads, in nnU-Net's order.

    With plain labels there is one head per label value, ascending, background first. With
    regions (some label lists several values) there is one head per entry in the order of the
    file, and none for background. The ignore label has no head.

    Args:
        dataset_json: Content of a data set's ``dataset.json``.

    Raises:
        ValueError: If there are no labels, a value is no number, or two labels share a value.
    """
    labels = dataset_json.get("labels")
    if not isinstance(labels, Mapping) or not labels:
        raise ValueError('dataset.json has no "labels"; nnU-Net wants {"background": 0, ...}')
    values = {name: _values(name, value) for name, value in labels.items() if name != IGNORE_LABEL}
    if any(isinstance(value, (list, tuple)) and len(value) > 1 for value in labels.values()):
        return [name for name, value in values.items() if set(value) != {0}]

    by_value: dict[int, str] = {}
    for name, (value,) in values.items():
        if value in by_value:
            raise ValueError(
                f"Labels {by_value[value]!r} and {name!r} of dataset.json share the value {value}, "
                f"so one output would have two names. Give each value one name."
            )
        by_value[value] = name
    return [by_value[value] for value in sorted(by_value)]


def class_prompts(dataset_json: Mapping[str, Any], prompts_file: Path | None = None) -> list[str]:
    """Gives the phrase of every output head, in nnU-Net's order.

    A phrase is the first of the user's own, used as written, or else the cleaned label name. The
    initials l, r, lt, rt, sx and dx count as left and right in names that differ by them alone:
    "Parotid_L" next to "Parotid_R", also written together with the name: "LKidney" next to
    "RKidney".

    Args:
        dataset_json: Content of a data set's ``dataset.json``.
        prompts_file: See :func:`given_phrases`.

    Raises:
        ValueError: If a name is no usable phrase, the user's phrases are malformed or name a
            label without a head, or two heads would get the same phrase.
        FileNotFoundError: If there is no such file.
    """
    names = head_names(dataset_json)
    given = given_phrases(dataset_json, prompts_file)
    spelled = _spell_out_initials(names)
    phrases = [
        given[name][0] if name in given else clean_label_name(spelled[name]) for name in names
    ]
    owner: dict[str, str] = {}
    for name, phrase in zip(names, phrases, strict=True):
        other = owner.setdefault(phrase.lower(), name)
        if other != name:
            raise ValueError(
                f"Labels {other!r} and {name!r} have the same phrase {phrase!r}, so the network "
                f"could not tell them apart. Rename one in dataset.json, or give it a phrase of "
                f'its own: "refsam3d": {{"prompts": {{"{name}": "..."}}}}.'
            )
    return phrases


def given_phrases(
    dataset_json: Mapping[str, Any], prompts_file: Path | None = None
) -> dict[str, list[str]]:
    """The user's own phrases: label -> phrases, from ``dataset_json["refsam3d"]["prompts"]``.

    Args:
        dataset_json: Content of a data set's ``dataset.json``.
        prompts_file: JSON file of the same form as that entry, which goes before it.

    Raises:
        ValueError: If they are malformed, or name a label that has no output head.
        FileNotFoundError: If there is no such file.
    """
    names = head_names(dataset_json)
    block = dataset_json.get("refsam3d", {})
    prompts = block.get("prompts", {}) if isinstance(block, Mapping) else None
    if not isinstance(prompts, Mapping):
        raise ValueError(
            f'"refsam3d" in dataset.json must look like {{"prompts": {{"label": "phrase"}}}}, '
            f"got {block!r}"
        )
    given = _checked(prompts, names, '"refsam3d" in dataset.json')
    if prompts_file is not None:
        given |= _checked(_read_prompts(prompts_file), names, str(prompts_file))
    return given


def mentions_side(phrases: Iterable[str]) -> bool:
    """Tells whether any phrase holds a word of ``SIDES``, such as left ("bright" does not).

    If so, an image mirrored across the patient's midline no longer fits its prompts.

    Args:
        phrases: Prompts of the output heads.
    """
    return any(_SIDE_WORD.search(phrase) for phrase in phrases)


def _words(name: str) -> list[str]:
    return _SEPARATORS.sub(" ", _CAMEL_HUMP.sub(" ", name)).lower().split()


def _values(name: str, value: object) -> list[int]:
    try:
        numbers = [int(v) for v in (value if isinstance(value, (list, tuple)) else [value])]
    except (TypeError, ValueError):
        numbers = []
    if not numbers:
        raise ValueError(
            f"Label {name!r} of dataset.json has the value {value!r}, which is neither a number "
            f'nor a list of numbers; nnU-Net v2 wants "name": number.'
        )
    return numbers


def _spell_out_initials(names: Sequence[str]) -> dict[str, str]:
    split = {name: _words(name) for name in names}
    there = list(split.values())
    return {
        name: next((" ".join(said) for twin, said in _readings(words) if twin in there), name)
        for name, words in split.items()
    }


def _readings(words: list[str]) -> Iterator[tuple[list[str], list[str]]]:
    """Ways to read an initial in a name: the words of the other side's name, and what this says."""
    for i, word in enumerate(words):
        before, after = words[:i], words[i + 1 :]
        # Alone they are no sides, but organs: LI is an intestine, RE a rectum.
        if word in TWINS and (len(words) > 1 or word not in ("li", "re")):
            yield [*before, TWINS[word], *after], [*before, INITIALS[word], *after]
        for found in filter(None, (pattern.fullmatch(word) for pattern in _FUSED)):
            parts = {"number": "", **found.groupdict()}
            if len(words) == 1 and parts["rest"].isdigit():
                continue  # "L1" next to "R1" may be a vertebra next to a rib
            initial, (start, end) = parts["initial"], found.span("initial")
            twin = word[:start] + TWINS[initial] + word[end:]
            said = f"{INITIALS[initial]} {parts['rest']} {parts['number']}".strip()
            yield [*before, twin, *after], [*before, said, *after]


def _read_prompts(path: Path) -> Mapping[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"REFSAM3D_PROMPTS_FILE names {path}, which does not exist."
        ) from error
    except ValueError as error:
        raise ValueError(f"{path} is no readable JSON ({error}).") from error
    if not isinstance(content, Mapping):
        raise ValueError(
            f'{path} must look like {{"label": "phrase", "other label": ["phrase", "phrase"]}}, '
            f"got a {type(content).__name__}."
        )
    return content


def _checked(prompts: Mapping[str, Any], names: Sequence[str], source: str) -> dict[str, list[str]]:
    given = {}
    for name, value in prompts.items():
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise ValueError(
                f"{source} has a prompt for {name!r}, but no output of nnU-Net has that name; "
                f"there are {', '.join(map(repr, names))}.{hint}"
            )
        phrases = value if isinstance(value, list) and value else [value]
        if not all(isinstance(phrase, str) and phrase.strip() for phrase in phrases):
            raise ValueError(
                f"{source}: the prompt for {name!r} must be a phrase such as "
                f'"left kidney", or a list of phrases, got {value!r}'
            )
        given[name] = [" ".join(phrase.split()) for phrase in phrases]
        if len({phrase.lower() for phrase in given[name]}) < len(phrases):
            raise ValueError(f"{source}: the prompts for {name!r} hold a phrase twice: {value!r}")
    return given
