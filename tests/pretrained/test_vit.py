"""Plain ViTs of timm and transformers in our image encoder: the same numbers come out."""

import re

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from transformers import (
    Dinov2Config,
    Dinov2Model,
    ViTConfig,
    ViTMAEConfig,
    ViTMAEForPreTraining,
    ViTModel,
)

from refsam3d_nnunet.config import NetworkConfig
from refsam3d_nnunet.network.refsam3d import RefSAM3D
from refsam3d_nnunet.pretrained.families import in_sam_form
from refsam3d_nnunet.pretrained.sam import NO_RELATIVE_POSITIONS, load_encoder

DIM, DEPTH, HEADS, PATCH, SIDE = 48, 4, 3, 8, 5
SIZES = {
    "hidden_size": DIM,
    "num_hidden_layers": DEPTH,
    "num_attention_heads": HEADS,
    "intermediate_size": 4 * DIM,
    "image_size": SIDE * PATCH,
    "patch_size": PATCH,
    "layer_norm_eps": 1e-6,
}
CONFIG = NetworkConfig(
    patch_size=(1, SIDE * PATCH, SIDE * PATCH),
    token_size=(1, PATCH, PATCH),
    window_size=(1, SIDE, SIDE),
    embed_dim=DIM,
    depth=DEPTH,
    num_heads=HEADS,
    global_blocks=(0, 1, 2, 3),
    level_blocks=(0, 1, 2, 3),
    adapter_dim=8,
    decoder_dim=16,
    stem_channels=(4, 8, 16),
)


def _network():
    torch.manual_seed(1)
    return RefSAM3D(3, 2, text_dim=8, text_words=2, **CONFIG.to_json()).eval()


def _shaken(model):
    """No two numbers agree, LayerScale included."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.2 * torch.randn_like(parameter))
    return model.eval()


def _timm(**options):
    sizes = {"embed_dim": DIM, "depth": DEPTH, "num_heads": HEADS, "patch_size": PATCH}
    return _shaken(VisionTransformer(img_size=SIDE * PATCH, num_classes=5, **sizes, **options))


def _grey():
    """A picture in grey: the three colours are shared by the channels."""
    torch.manual_seed(2)
    return torch.randn(2, 1, SIDE * PATCH, SIDE * PATCH).expand(-1, 3, -1, -1)


def _hidden_of_timm(model, picture):
    """Image tokens after every block, the class token never there."""
    x = model.patch_embed(picture) + model.pos_embed[:, -(SIDE**2) :]
    outputs = []
    for block in model.blocks:
        x = block(x)
        outputs.append(x)
    return outputs


def _hidden_of_transformers(model, picture):
    embeddings = model.embeddings
    x = embeddings.patch_embeddings(picture) + embeddings.position_embeddings[:, -(SIDE**2) :]
    outputs = []
    for layer in model.encoder.layer if hasattr(model, "encoder") else model.layers:
        x = layer(x)
        x = x[0] if isinstance(x, tuple) else x
        outputs.append(x)
    return outputs


MODELS = {
    "timm": (_timm, _hidden_of_timm),
    "timm without class token": (
        lambda: _timm(class_token=False, global_pool="avg"),
        _hidden_of_timm,
    ),
    "timm with LayerScale and registers": (
        lambda: _timm(init_values=0.1, reg_tokens=2),
        _hidden_of_timm,
    ),
    "DINOv2 of transformers": (
        lambda: _shaken(Dinov2Model(Dinov2Config(**SIZES))),
        _hidden_of_transformers,
    ),
    "ViT of transformers": (
        lambda: _shaken(ViTModel(ViTConfig(**SIZES))),
        _hidden_of_transformers,
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_the_same_tokens_come_out(name):
    make, hidden = MODELS[name]
    model, network, picture = make(), _network(), _grey()
    report = load_encoder(in_sam_form(model.state_dict()), dict(network.state_dict()))

    with torch.no_grad():
        ours = network.image_encoder.stages(picture[:, :, None])
        theirs = hidden(model, picture)
    for level, wanted in zip(ours, theirs, strict=True):
        torch.testing.assert_close(level.flatten(1, 3), wanted, rtol=1e-4, atol=1e-4)
    fresh = {name for name in report.fresh if name.startswith("image_encoder.")}
    assert all(re.search(r"depth|adapter|necks|rel_pos", name) for name in fresh)
    assert report.fresh["image_encoder.blocks.0.attn.rel_pos_h"] == NO_RELATIVE_POSITIONS


# The words of transformers 4, in which the published files of ViT and DINOv2 are written.
OLD_WORDS = {
    r"(^|encoder\.)layer(s?)\.(\d+)": r"encoder.layer.\3",
    r"attention\.(q|k|v)_proj": r"attention.attention.\1_",
    r"attention\.o_proj": "attention.output.dense",
}
OLD_MLP = {r"mlp\.fc1": "intermediate.dense", r"mlp\.fc2": "output.dense"}
QKV = {"q_": "query", "k_": "key", "v_": "value"}


def _in_old_words(state, words):
    renamed = {}
    for new_name, tensor in state.items():
        old_name = new_name
        for new, old in words.items():
            old_name = re.sub(new, old, old_name)
        old_name = re.sub(r"(?<=attention\.)[qkv]_(?=\.)", lambda found: QKV[found[0]], old_name)
        renamed[old_name] = tensor
    return renamed


@pytest.mark.parametrize("prefix", ["", "backbone.", "model.vit."])
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("DINOv2 of transformers", OLD_WORDS),
        ("ViT of transformers", OLD_WORDS | OLD_MLP),
    ],
)
def test_both_spellings_of_transformers(name, words, prefix):
    new = MODELS[name][0]().state_dict()
    old = {prefix + n: t for n, t in _in_old_words(new, words).items()}
    assert prefix + "encoder.layer.0.attention.attention.query.weight" in old
    one, two = in_sam_form(new), in_sam_form(old)
    assert one.state.keys() == two.state.keys()
    for tensor in one.state:
        assert torch.equal(one.state[tensor], two.state[tensor]), tensor


def test_masked_autoencoder_with_its_decoder():
    config = ViTMAEConfig(
        **SIZES,
        decoder_hidden_size=16,
        decoder_num_hidden_layers=1,
        decoder_num_attention_heads=2,
        decoder_intermediate_size=32,
    )
    state = _shaken(ViTMAEForPreTraining(config)).state_dict()
    network = _network()
    report = load_encoder(in_sam_form(state), dict(network.state_dict()))
    assert {"vit.embeddings.cls_token"} < set(report.ignored)
    assert any(name.startswith("decoder.") for name in report.ignored)


def test_every_tensor_of_the_file_has_a_fate():
    state = _timm(init_values=0.1).state_dict()
    form = in_sam_form(state)
    used = {name for names in form.made_of.values() for name in names}
    scales = {name for name in state if "gamma" in name}
    assert used | scales | set(form.ignored) == set(state)
    assert form.changed["image_encoder.blocks.0.attn.proj.weight"] == "LayerScale folded in"
    assert form.changed["image_encoder.pos_embed"] == "without the 1 in front of the image's"
    assert not used & set(form.ignored)


def test_layer_scale_is_folded_by_hand():
    state = _timm(init_values=0.1).state_dict()
    form = in_sam_form(state)
    scale = state["blocks.1.ls2.gamma"]
    for row in (0, DIM - 1):
        wanted = state["blocks.1.mlp.fc2.weight"][row] * scale[row]
        assert torch.equal(form.state["image_encoder.blocks.1.mlp.lin2.weight"][row], wanted)
    wanted = state["blocks.1.mlp.fc2.bias"] * scale
    assert torch.equal(form.state["image_encoder.blocks.1.mlp.lin2.bias"], wanted)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions(dtype):
    """What is computed from half precision is computed in float32."""
    state = {name: tensor.to(dtype) for name, tensor in _timm(init_values=0.1).state_dict().items()}
    network = _network()
    load_encoder(in_sam_form(state), dict(network.state_dict()))
    scale = state["blocks.0.ls2.gamma"].float()
    product = state["blocks.0.mlp.fc2.weight"].float() * scale[:, None]
    assert torch.equal(network.image_encoder.blocks[0].mlp.lin2.weight, product)
    assert {p.dtype for p in network.parameters()} == {torch.float32}


BAD = {
    "gated MLP": (
        lambda s: s | {"blocks.0.mlp.w12.weight": torch.zeros(2)},
        "1 tensors that a plain ViT has not: blocks.0.mlp.w12.weight",
    ),
    "table that is not square": (
        lambda s: s | {"pos_embed": torch.zeros(1, 24, DIM)},
        "24 rows, which are no square of image tokens",
    ),
    "table of another form": (
        lambda s: s | {"pos_embed": torch.zeros(1, DIM, 5, 5)},
        r"positions is \[1, 48, 5, 5\], wanted is \[1, tokens, channels\]",
    ),
    "missing tensor": (
        lambda s: {n: t for n, t in s.items() if n != "blocks.2.norm1.bias"},
        "1 places: image_encoder.blocks.2.norm1.bias is not in the file",
    ),
    "no table of positions": (
        lambda s: {n: t for n, t in s.items() if n != "pos_embed"},
        "image_encoder.pos_embed is not in the file",
    ),
    "other width of the MLP": (
        lambda s: s | {"blocks.1.mlp.fc1.weight": torch.zeros(2 * DIM, DIM)},
        r"blocks.1.mlp.lin1.weight is \[96, 48\] in the file and \[192, 48\]",
    ),
    "infinite number": (
        lambda s: s | {"blocks.1.mlp.fc1.bias": torch.full((4 * DIM,), torch.inf)},
        "infinite or undefined numbers in blocks.1.mlp.fc1.bias",
    ),
    "fewer blocks": (
        lambda s: {n: t for n, t in s.items() if not n.startswith("blocks.3.")},
        r"holds .*\(48 channels, 3 blocks, \? heads\), but the network is planned with",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_near_misses_copy_nothing(name):
    spoil, message = BAD[name]
    network = _network()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with pytest.raises(ValueError, match=message):
        load_encoder(in_sam_form(spoil(_timm().state_dict())), dict(network.state_dict()))
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_two_encoders_in_one_file():
    state = _timm().state_dict()
    both = {f"{part}.{name}": t for part in ("student", "teacher") for name, t in state.items()}
    with pytest.raises(ValueError, match="holds 2 image encoders, student., teacher."):
        in_sam_form(both)


def test_half_of_a_layer():
    state = MODELS["ViT of transformers"][0]().state_dict()
    del state[next(name for name in state if "k_proj.weight" in name or "key.weight" in name)]
    with pytest.raises(ValueError, match="2 of queries, keys and values of one layer"):
        in_sam_form(state)
