"""A file of text embeddings, so that known phrases need no text encoder."""

from __future__ import annotations

import io
import json
import logging
import re
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from refsam3d_nnunet.files import replacing
from refsam3d_nnunet.text.encoders import (
    TextEmbedding,
    canonical_id,
    load_text_encoder,
    local_folder,
    weights_sha256,
)

FORMAT = 1

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class BankResult:
    """Embeddings of the phrases asked for, and where they come from.

    Args:
        embedding: One row per phrase, in the order asked.
        encoder_id: Name of the text encoder that made them.
        weights_sha256: Hash of its weights.
        encoder_loaded: False if the bank knew every phrase.
        path: File that has them; None if there was to be none.
    """

    embedding: TextEmbedding
    encoder_id: str
    weights_sha256: str
    encoder_loaded: bool
    path: Path | None = None

    def to_json(self) -> dict[str, Any]:
        """Origin and shape, as the plan's ``text`` block holds them."""
        _, words, dim = self.embedding.words.shape
        return {
            "encoder": self.encoder_id,
            "weights_sha256": self.weights_sha256,
            "dim": dim,
            "words": words,
        }


@dataclass(frozen=True, eq=False)
class TextBank:
    """Content of a bank file.

    Args:
        encoder_id: Name of the text encoder that made it.
        weights_sha256: Hash of its weights.
        dim: Channels of a hidden state.
        phrases: Phrase -> (words [l, c], sentence [c]), float32.
    """

    encoder_id: str
    weights_sha256: str
    dim: int
    phrases: dict[str, tuple[np.ndarray, np.ndarray]]


def embed(phrases: Sequence[str], *, encoder: str = "auto", bank: Path | None = None) -> BankResult:
    """Looks phrases up in a bank, and encodes and stores those that are not in it.

    Args:
        phrases: Prompts, taken literally.
        encoder: Name as in :func:`~refsam3d_nnunet.text.encoders.load_text_encoder`. With "auto"
            a bank that exists decides; otherwise it must come from the encoder of that name, or
            from the same weights.
        bank: File to look into and add to, made if missing; None to encode everything. If it is
            of another encoder, a file beside it is. If it cannot be written, the result is still
            returned and a warning logged.

    Raises:
        ValueError: If there is no phrase or an empty one, one is too long, or the bank is damaged
            or of another version of the encoder.
        TextEncoderNotFoundError: If an encoder is needed and cannot be had; an OSError.
    """
    if not phrases or any(not phrase.strip() for phrase in phrases):
        raise ValueError(f"Wanted are phrases such as 'left kidney', got {list(phrases)}")
    bank, stored = (None, None) if bank is None else _bank_of(bank, encoder)
    known = {} if stored is None else dict(stored.phrases)
    missing = [phrase for phrase in dict.fromkeys(phrases) if phrase not in known]
    if not missing:
        return _result(stored, phrases, bank, encoder_loaded=False)

    if stored is not None and encoder == "auto":
        tower = load_text_encoder(stored.encoder_id, download=False)
    else:
        tower = load_text_encoder(encoder)
    if stored is not None and tower.weights_sha256 != stored.weights_sha256:
        raise _other_encoder(bank, stored, f"the weights of {tower.id!r} here are others")
    fresh = tower.encode(missing)
    known |= {phrase: fresh.phrase(i) for i, phrase in enumerate(missing)}
    content = TextBank(tower.id, tower.weights_sha256, tower.dim, known)
    if bank is not None:
        _store(bank, content)
    return _result(content, phrases, bank, encoder_loaded=True)


def read_bank(path: Path) -> TextBank:
    """Reads a bank.

    Raises:
        OSError: If the file cannot be opened.
        ValueError: If the file is no bank, is damaged, or is of another format version.
    """
    content = path.read_bytes()
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            header = json.loads(str(arrays["header"]))
            if header["format"] == FORMAT:
                return _checked(header, arrays)
    except (
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        EOFError,
        NotImplementedError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        raise ValueError(
            f"{path} is not a readable bank of text embeddings ({error}). Delete it; it is made "
            f"again when it is needed."
        ) from error
    raise ValueError(
        f"{path} is a bank of text embeddings of format {header['format']}, and this version of "
        f"refsam3d_nnunet reads format {FORMAT}. Delete it; it is made again when it is needed."
    )


def write_bank(path: Path, bank: TextBank) -> None:
    """Writes a bank, at once or not at all.

    Raises:
        OSError: If the file cannot be written.
    """
    header = {
        "format": FORMAT,
        "encoder_id": bank.encoder_id,
        "weights_sha256": bank.weights_sha256,
        "dim": bank.dim,
        "phrases": list(bank.phrases),
    }
    arrays = {"header": np.array(json.dumps(header))}
    for i, (words, sentence) in enumerate(bank.phrases.values()):
        arrays[f"{i}.words"], arrays[f"{i}.sentence"] = words, sentence
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary, temporary.open("xb") as stream:
        np.savez(stream, **arrays)


def _checked(header: dict[str, Any], arrays: np.lib.npyio.NpzFile) -> TextBank:
    phrases = {}
    for i, phrase in enumerate(header["phrases"]):
        words, sentence = arrays[f"{i}.words"], arrays[f"{i}.sentence"]
        shapes_fit = (
            words.shape == (len(words), header["dim"]) and sentence.shape == words.shape[1:]
        )
        if not shapes_fit or not len(words) or {words.dtype, sentence.dtype} != {np.dtype("f4")}:
            raise ValueError(f"the arrays of {phrase!r} have the wrong form")
        phrases[phrase] = (words, sentence)
    return TextBank(header["encoder_id"], header["weights_sha256"], header["dim"], phrases)


def _is_of(bank: TextBank, encoder: str) -> bool:
    """Whether a bank is of the encoder asked for, as far as can be told without loading it."""
    named = canonical_id(encoder)
    folder_given = Path(named).is_dir()  # the same path may hold other weights by now
    if encoder == "auto" or (named == bank.encoder_id and not folder_given):
        return True
    folder = local_folder(encoder)
    return folder is not None and weights_sha256(folder) == bank.weights_sha256


def _bank_of(path: Path, encoder: str) -> tuple[Path, TextBank | None]:
    """The bank and its content, or where it is of another encoder, the file beside it of this one.

    Plans of one data set may have different encoders: each keeps what it has encoded. A bank of
    that name with other weights is no bank of another encoder, but one that is out of date.
    """
    stored = read_bank(path) if path.exists() else None
    if stored is None or _is_of(stored, encoder):
        return path, stored
    name = canonical_id(encoder)
    if stored.encoder_id != name:
        path = path.with_name(f"{path.stem}_{_file_name(name)}{path.suffix}")
        stored = read_bank(path) if path.exists() else None
        if stored is None or _is_of(stored, encoder):
            return path, stored
    raise _other_encoder(path, stored, f"the text encoder {encoder!r} is asked for")


def _file_name(encoder_id: str) -> str:
    return re.sub(r"[^\w.]+", "-", encoder_id).strip("-")[-80:]


def _other_encoder(path: Path | None, bank: TextBank, conflict: str) -> ValueError:
    return ValueError(
        f"The bank {path} was made by the text encoder {bank.encoder_id!r} (weights "
        f"{bank.weights_sha256[:12]}), but {conflict}. Delete the file, or ask for "
        f"{bank.encoder_id!r}."
    )


def _store(path: Path, content: TextBank) -> None:
    try:
        if path.exists():  # another process may have added phrases meanwhile
            current = read_bank(path)
            if current.weights_sha256 == content.weights_sha256:
                content = replace(content, phrases=current.phrases | content.phrases)
        write_bank(path, content)
    except OSError as error:
        _log.warning("Could not store text embeddings in %s: %s", path, error)


def _result(
    bank: TextBank, phrases: Sequence[str], path: Path | None, *, encoder_loaded: bool
) -> BankResult:
    embedding = TextEmbedding.stack([bank.phrases[phrase] for phrase in phrases])
    return BankResult(embedding, bank.encoder_id, bank.weights_sha256, encoder_loaded, path)
