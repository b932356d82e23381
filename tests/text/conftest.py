"""Text encoders that the tests share."""

import json
from pathlib import Path

import pytest
import torch

from refsam3d_nnunet.text.encoders import load_text_encoder


def _write_clip_tokenizer(folder: Path) -> int:
    """Byte-pair files as OpenAI's repositories hold them; returns the size of the vocabulary."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    merges = [("l", "i"), ("v", "e"), ("li", "ve"), ("live", "r</w>"), ("a", "t</w>")]
    symbols = [*letters, *(f"{letter}</w>" for letter in letters), *map("".join, merges)]
    symbols += ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {symbol: i for i, symbol in enumerate(symbols)}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    lines = ["#version: 0.2", *map(" ".join, merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    config = {"tokenizer_class": "CLIPTokenizer", "model_max_length": 77}
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    return len(vocabulary)


def _clip_config(vocabulary: int) -> dict:
    return {
        "vocab_size": vocabulary,
        "hidden_size": 24,
        "intermediate_size": 40,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": 20,
        "bos_token_id": vocabulary - 2,
        "eos_token_id": vocabulary - 1,
        "pad_token_id": vocabulary - 1,
    }


@pytest.fixture(scope="module", params=["text tower", "whole CLIP"])
def clip(request, tmp_path_factory):
    """A tiny random CLIP: its folder, and its text tower as transformers builds it."""
    from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPTextModel

    folder = tmp_path_factory.mktemp("clip")
    text = _clip_config(_write_clip_tokenizer(folder))
    torch.manual_seed(0)
    if request.param == "text tower":
        model = CLIPTextModel(CLIPTextConfig(**text))
    else:
        vision = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
        vision |= {"num_attention_heads": 2, "image_size": 32, "patch_size": 16}
        model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=8))
    for parameter in model.parameters():  # the usual small start would hide a skipped layer
        torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(folder)
    return folder, (model if request.param == "text tower" else model.text_model).eval()


@pytest.fixture(scope="module")
def minilm():
    return load_text_encoder("minilm")
