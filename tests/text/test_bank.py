"""The bank of text embeddings, with an encoder that counts what it is asked."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from refsam3d_nnunet.text import bank as bank_module
from refsam3d_nnunet.text.bank import TextBank, embed, read_bank, write_bank
from refsam3d_nnunet.text.encoders import CLIP_ID, TextEmbedding, local_folder, weights_sha256

DIM = 5


@dataclass
class LetterEncoder:
    """A word per letter, so that phrases differ in length and every value can be foretold."""

    id: str = "letters"
    weights_sha256: str = "ab" * 32
    dim: int = DIM
    asked: list[str] = field(default_factory=list)

    def encode(self, phrases):
        self.asked += phrases
        rows = [np.tile(np.float32([[ord(c)] for c in p]), (1, self.dim)) for p in phrases]
        return TextEmbedding.stack([(words, words.mean(0)) for words in rows])


@pytest.fixture
def encoder(monkeypatch):
    letters = LetterEncoder()
    monkeypatch.setattr(bank_module, "load_text_encoder", lambda name, **_: letters)
    monkeypatch.setattr(bank_module, "local_folder", lambda name: None)
    return letters


@pytest.fixture
def no_encoder(monkeypatch):
    def refuse(name, **_):
        raise AssertionError("the encoder was loaded")

    return lambda: monkeypatch.setattr(bank_module, "load_text_encoder", refuse)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "new folder" / "bank.npz"


def _equal(a: TextEmbedding, b: TextEmbedding) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(a.arrays(), b.arrays(), strict=True))


@pytest.mark.parametrize("name", ["letters", "auto"])
def test_a_second_time_needs_no_encoder(name, encoder, no_encoder, path):
    first = embed(["liver", "spleen"], encoder=name, bank=path)
    no_encoder()
    second = embed(["liver", "spleen"], encoder=name, bank=path)

    assert (first.encoder_loaded, second.encoder_loaded) == (True, False)
    assert _equal(first.embedding, second.embedding)
    assert first.to_json() == second.to_json()
    assert second.to_json() == {
        "encoder": "letters",
        "weights_sha256": "ab" * 32,
        "dim": DIM,
        "words": 6,
    }


def test_only_new_phrases_are_encoded(encoder, path):
    embed(["liver", "spleen"], encoder="letters", bank=path)
    result = embed(["aorta", "liver", "aorta"], encoder="letters", bank=path)

    assert encoder.asked == ["liver", "spleen", "aorta"]
    assert list(read_bank(path).phrases) == ["liver", "spleen", "aorta"]
    assert result.embedding.words.shape == (3, 5, DIM)  # trimmed to the longest one asked for
    assert result.embedding.words[:, 0, 0].tolist() == [ord("a"), ord("l"), ord("a")]


def test_order_is_the_callers(encoder, path):
    embed(["liver", "spleen"], encoder="letters", bank=path)
    swapped = embed(["spleen", "liver"], encoder="letters", bank=path).embedding

    assert swapped.words[:, 0, 0].tolist() == [ord("s"), ord("l")]
    assert swapped.mask.sum(1).tolist() == [6, 5]
    assert swapped.sentence[1, 0] == np.float32([ord(c) for c in "liver"]).mean()


def test_without_a_bank(encoder):
    assert embed(["liver"], encoder="letters").encoder_loaded
    assert embed(["liver"], encoder="letters").encoder_loaded
    assert encoder.asked == ["liver", "liver"]


def test_odd_phrases_survive(encoder, path):
    phrases = ["Milz & Leber", "肝臓", 'a/b\\c: "d"', "x" * 300]
    embed(phrases, encoder="letters", bank=path)
    assert list(read_bank(path).phrases) == phrases


@pytest.mark.parametrize("phrases", [[], [""], ["liver", " "]])
def test_no_phrase(phrases, encoder):
    with pytest.raises(ValueError, match="Wanted are phrases"):
        embed(phrases, encoder="letters")


def test_each_encoder_has_a_bank(encoder, no_encoder, path):
    embed(["liver"], encoder="letters", bank=path)
    before = path.read_bytes()
    encoder.id, encoder.weights_sha256 = CLIP_ID, "cd" * 32
    embed(["liver"], encoder="clip", bank=path)
    other = path.with_name("bank_openai-clip-vit-base-patch16.npz")
    assert sorted(path.parent.iterdir()) == sorted([path, other])
    assert path.read_bytes() == before
    no_encoder()
    for name, of in (("letters", "letters"), ("clip", CLIP_ID), ("auto", "letters")):
        assert embed(["liver"], encoder=name, bank=path).encoder_id == of

    other.write_bytes(before)
    with pytest.raises(ValueError, match="patch16.npz was made by .*'letters'.*'clip' is asked.*D"):
        embed(["liver"], encoder="clip", bank=path)


def test_other_weights_under_the_same_name(encoder, path):
    embed(["liver"], encoder="letters", bank=path)
    encoder.weights_sha256 = "cd" * 32
    before = path.read_bytes()
    with pytest.raises(ValueError, match="the weights of 'letters' here are others"):
        embed(["spleen"], encoder="letters", bank=path)
    assert path.read_bytes() == before


def test_the_same_weights_under_another_name(path, no_encoder):
    """A bank moves to a machine where the encoder lies in another folder."""
    folder = local_folder("minilm")
    embedding = LetterEncoder().encode(["liver"])
    elsewhere = TextBank("/elsewhere", weights_sha256(folder), DIM, {"liver": embedding.phrase(0)})
    write_bank(path, elsewhere)
    no_encoder()

    for name in (str(folder), "minilm", "auto", "/elsewhere"):
        assert embed(["liver"], encoder=name, bank=path).encoder_id == "/elsewhere"


def test_a_folder_is_known_by_its_weights_not_its_path(tmp_path, path):
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    (tmp_path / "model.safetensors").write_bytes(b"new weights")
    embedding = LetterEncoder().encode(["liver"])
    write_bank(path, TextBank(str(tmp_path), "00" * 32, DIM, {"liver": embedding.phrase(0)}))
    with pytest.raises(ValueError, match="Delete the file"):
        embed(["liver"], encoder=str(tmp_path), bank=path)


def test_auto_stays_with_the_banks_encoder(path, monkeypatch):
    loaded = []

    def load(name, *, download=True):
        loaded.append((name, download))
        return LetterEncoder(id=name)

    monkeypatch.setattr(bank_module, "load_text_encoder", load)
    embed(["liver"], encoder="someone/encoder", bank=path)
    embed(["liver", "spleen"], encoder="auto", bank=path)
    assert loaded == [("someone/encoder", True), ("someone/encoder", False)]


def _damage(raw: bytes) -> dict[str, bytes]:
    flipped = bytearray(raw)
    flipped[len(raw) // 2] ^= 0xFF
    return {
        "empty": b"",
        "truncated": raw[: len(raw) // 2],
        "flipped": bytes(flipped),
        "text": b"not found\n" * 99,
    }


@pytest.mark.parametrize("damage", ["empty", "truncated", "flipped", "text"])
def test_a_damaged_bank(damage, encoder, path):
    embed(["liver"], encoder="letters", bank=path)
    path.write_bytes(_damage(path.read_bytes())[damage])
    with pytest.raises(ValueError, match="bank.npz is not a readable bank.*Delete it"):
        embed(["liver"], encoder="letters", bank=path)


def _rewritten(path, **changes):
    with np.load(path) as arrays:
        content = dict(arrays)
    header = json.loads(str(content["header"])) | changes
    np.savez(path, **{**content, "header": np.array(json.dumps(header))})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 99}, "of format 99, .* reads format 1"),
        ({"dim": DIM + 1}, "'liver' have the wrong form"),
        ({"phrases": ["liver", "spleen"]}, "not a readable bank"),
    ],
)
def test_a_bank_that_contradicts_itself(changes, message, encoder, path):
    embed(["liver"], encoder="letters", bank=path)
    _rewritten(path, **changes)
    with pytest.raises(ValueError, match=message):
        read_bank(path)


def test_arrays_that_are_no_bank(tmp_path):
    np.save(tmp_path / "array.npy", np.zeros(3))
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    np.savez(tmp_path / "code.npz", header=np.array([{"format": 1}], dtype=object))
    for name in ("array.npy", "other.npz", "code.npz"):
        with pytest.raises(ValueError, match=f"{name} is not a readable bank"):
            read_bank(tmp_path / name)


def _half_a_write(stream, **_):
    stream.write(b"half a fi")
    raise OSError("disk full")


def _no_rename(*_):
    raise OSError("disk full")


@pytest.mark.parametrize(
    ("module", "name", "failure"), [(np, "savez", _half_a_write), (os, "replace", _no_rename)]
)
def test_a_failed_write_leaves_the_old_bank(
    module, name, failure, encoder, path, monkeypatch, caplog
):
    embed(["liver"], encoder="letters", bank=path)
    before = path.read_bytes()
    monkeypatch.setattr(module, name, failure)
    result = embed(["spleen"], encoder="letters", bank=path)

    assert result.embedding.words.shape == (1, 6, DIM)
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    assert "disk full" in caplog.text


def test_phrases_of_another_process_are_kept(encoder, path, monkeypatch):
    embed(["liver"], encoder="letters", bank=path)
    stored = read_bank(path)

    def encode_slowly(phrases):
        others = {**stored.phrases, "aorta": stored.phrases["liver"]}
        write_bank(path, replace(stored, phrases=others))
        return LetterEncoder().encode(phrases)

    monkeypatch.setattr(encoder, "encode", encode_slowly)
    embed(["spleen"], encoder="letters", bank=path)
    assert set(read_bank(path).phrases) == {"liver", "aorta", "spleen"}


def test_a_known_phrase_imports_neither_torch_nor_transformers(encoder, path):
    encoder.id = "minilm"
    embed(["liver"], encoder="letters", bank=path)
    code = (
        "import sys; from pathlib import Path; from refsam3d_nnunet.text.bank import embed;"
        f"r = embed(['liver'], encoder='minilm', bank=Path({str(path)!r}));"
        "print(r.encoder_loaded, {'torch', 'transformers'} & set(sys.modules))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False set()"


def test_with_minilm(path):
    fresh = embed(["liver", "left kidney"], encoder="minilm", bank=path)
    known = embed(["liver", "left kidney"], encoder="minilm", bank=path)

    assert (fresh.encoder_id, fresh.embedding.words.shape) == ("minilm", (2, 4, 384))
    assert _equal(fresh.embedding, known.embedding)
