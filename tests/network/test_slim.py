"""Slim state dicts: what they lack, who can load them, and who refuses."""

import copy

import pytest
import torch
from torch import nn

from refsam3d_nnunet.design import design_network
from refsam3d_nnunet.network.refsam3d import RefSAM3D
from refsam3d_nnunet.network.slim import (
    BACKBONE_HASH,
    backbone_hash,
    backbone_tensors,
    hash_tensor,
    is_slim,
    slim_from_now_on,
)
from refsam3d_nnunet.network.tuning import apply_tuning

ONE, OTHER = "1f" * 32, "e0" * 32


@pytest.fixture
def adapted(build):
    """A network in adapter mode whose frozen tensors are those of the backbone ONE."""
    network = build()
    apply_tuning(network, "adapter")
    return network


class Shelf:
    """Backbones by their hash, and what was asked for."""

    def __init__(self, **backbones):
        self.backbones, self.asked = backbones, []

    def __call__(self, sha256):
        self.asked.append(sha256)
        return {name: tensor.clone() for name, tensor in self.backbones[sha256].items()}


def slim_state(network, sha256=ONE):
    """What such a network saves; copies, as in a file."""
    slim = copy.deepcopy(network)
    slim_from_now_on(slim, sha256)
    return copy.deepcopy(slim.state_dict())


def other_weights(network):
    """The same network with other numbers everywhere."""
    other = copy.deepcopy(network)
    for tensor in other.state_dict().values():
        if tensor.is_floating_point():
            tensor.add_(1)
    return other


def test_it_lacks_what_is_frozen_and_nothing_else(adapted):
    whole, slim = adapted.state_dict(), slim_state(adapted)
    frozen = {name for name, p in adapted.named_parameters() if not p.requires_grad}
    assert frozen
    assert set(slim) == (set(whole) - frozen) | {BACKBONE_HASH}
    assert set(backbone_tensors(adapted)) == frozen
    assert backbone_hash(slim) == ONE
    assert slim[BACKBONE_HASH].shape == (32,)


def test_what_a_family_of_checkpoints_leaves_to_be_tuned_is_kept(build):
    """A plain ViT has no relative positions: their tables are tuned."""
    network = build()
    apply_tuning(network, "adapter", "vit")
    table = "image_encoder.blocks.0.attn.rel_pos_h"
    slim = slim_state(network)
    assert table in slim
    other = other_weights(network)
    apply_tuning(other, "adapter", "sam")  # whatever this one freezes
    other.backbone.find = Shelf(**{ONE: backbone_tensors(network)})
    for _ in range(2):
        other.load_state_dict(slim)
        for name, tensor in network.state_dict().items():
            assert torch.equal(other.state_dict()[name], tensor), name


@pytest.mark.parametrize("into", ["adapter", "full", "scratch"])
def test_any_network_loads_it_bit_by_bit(adapted, into):
    network = other_weights(adapted)
    apply_tuning(network, into)
    network.backbone.find = Shelf(**{ONE: backbone_tensors(adapted)})
    network.load_state_dict(slim_state(adapted))
    loaded = network.state_dict()
    assert not is_slim(loaded)
    for name, tensor in adapted.state_dict().items():
        assert torch.equal(loaded[name], tensor), name


def test_a_state_dict_is_not_changed_by_loading_it(adapted):
    adapted.backbone.find = Shelf(**{ONE: backbone_tensors(adapted)})
    slim = slim_state(adapted)
    before = list(slim)
    adapted.load_state_dict(slim)
    assert list(slim) == before


def test_what_the_state_dict_has_goes_before_the_backbone(adapted):
    """It was tuned in that training, though another one froze it."""
    state = slim_state(adapted)
    state["image_encoder.pos_embed"] = adapted.image_encoder.pos_embed.detach() + 1
    adapted.backbone.find = Shelf(**{ONE: backbone_tensors(copy.deepcopy(adapted))})
    adapted.load_state_dict(state)
    assert torch.equal(adapted.image_encoder.pos_embed, state.pop("image_encoder.pos_embed"))
    adapted.load_state_dict(state)
    (wanted,) = adapted.backbone.find.backbones.values()
    assert torch.equal(adapted.image_encoder.pos_embed, wanted["image_encoder.pos_embed"])


def test_the_backbone_is_asked_for_once(adapted):
    """nnU-Net's predictor loads a state dict per case and fold."""
    network = other_weights(adapted)
    network.backbone.find = shelf = Shelf(**{ONE: backbone_tensors(adapted)})
    for _ in range(3):
        network.load_state_dict(slim_state(adapted))
    assert shelf.asked == [ONE]


def test_a_whole_state_dict_between_slim_ones(adapted):
    network, other = copy.deepcopy(adapted), other_weights(adapted)
    network.backbone.find = shelf = Shelf(**{ONE: backbone_tensors(adapted)})
    network.load_state_dict(slim_state(adapted))
    network.load_state_dict(other.state_dict())
    assert torch.equal(network.image_encoder.pos_embed, other.image_encoder.pos_embed)
    network.load_state_dict(slim_state(adapted))
    assert torch.equal(network.image_encoder.pos_embed, adapted.image_encoder.pos_embed)
    assert shelf.asked == [ONE, ONE]


def test_frozen_tensors_that_are_tuned_are_read_again(adapted):
    network = copy.deepcopy(adapted)
    apply_tuning(network, "full")
    network.backbone.find = Shelf(**{ONE: backbone_tensors(adapted)})
    network.load_state_dict(slim_state(adapted))
    with torch.no_grad():
        network.image_encoder.pos_embed.add_(1)  # as a step of training
    network.load_state_dict(slim_state(adapted))
    assert torch.equal(network.image_encoder.pos_embed, adapted.image_encoder.pos_embed)


def test_two_backbones_in_one_ensemble(adapted):
    other, network = other_weights(adapted), other_weights(adapted)
    shelf = Shelf(**{ONE: backbone_tensors(adapted), OTHER: backbone_tensors(other)})
    network.backbone.find = shelf
    for source, sha256 in ((adapted, ONE), (other, OTHER), (adapted, ONE)):
        network.load_state_dict(slim_state(source, sha256))
        for name, tensor in backbone_tensors(source).items():
            assert torch.equal(network.state_dict()[name], tensor), name


def test_a_slim_training_refuses_another_backbone(adapted):
    slim_from_now_on(adapted, ONE)
    adapted.backbone.find = Shelf()
    with pytest.raises(ValueError, match=f"{OTHER}, and this training adapts another one, {ONE}"):
        adapted.load_state_dict(slim_state(adapted, OTHER))


def test_after_a_whole_state_dict_a_slim_training_saves_whole_ones(adapted):
    """Its frozen tensors may be any: leaving them out could lose them."""
    network = copy.deepcopy(adapted)
    slim_from_now_on(network, ONE)
    assert is_slim(network.state_dict())
    network.load_state_dict(other_weights(adapted).state_dict())
    assert not is_slim(network.state_dict())


def test_nobody_told_it_where_backbones_are(adapted):
    with pytest.raises(ValueError, match="refsam3d weights merge"):
        other_weights(adapted).load_state_dict(slim_state(adapted))


@pytest.mark.parametrize(
    "damaged", [torch.zeros(31, dtype=torch.uint8), torch.zeros(32)], ids=["length", "kind"]
)
def test_an_entry_that_is_no_hash(adapted, damaged):
    with pytest.raises(ValueError, match="32 bytes of a SHA-256"):
        adapted.load_state_dict({**slim_state(adapted), BACKBONE_HASH: damaged})


def test_a_backbone_of_other_shapes_is_refused_by_torch(adapted, build):
    wider = build(patch_size=(6, 24, 24))
    apply_tuning(wider, "adapter")
    adapted.backbone.find = shelf = Shelf(**{ONE: backbone_tensors(wider)})
    for _ in range(2):
        with pytest.raises(RuntimeError, match=r"size mismatch for image_encoder\.pos_embed"):
            adapted.load_state_dict(slim_state(adapted))
    assert shelf.asked == [ONE, ONE], "it has not got this backbone"


@pytest.mark.parametrize("wrap", [torch.compile, lambda n: nn.ModuleDict({"module": n})])
def test_wrappers_with_a_prefix(adapted, wrap):
    """As torch.compile names tensors, and as DDP does."""
    network = other_weights(adapted)
    network.backbone.find = Shelf(**{ONE: backbone_tensors(adapted)})
    outer = wrap(network)
    (prefix,) = {name.split(".")[0] for name in outer.state_dict()}
    outer.load_state_dict({f"{prefix}.{name}": t for name, t in slim_state(adapted).items()})
    loaded = network.state_dict()
    for name, tensor in adapted.state_dict().items():
        assert torch.equal(loaded[name], tensor), name
    network.backbone.slim = True
    assert set(outer.state_dict()) == {f"{prefix}.{name}" for name in slim_state(adapted)}


@pytest.mark.parametrize("patch", [(64, 64, 64), (512, 512)])
def test_five_folds_of_vit_b_take_a_third_of_the_space(patch):
    """In numbers, of which a checkpoint of nnU-Net has also two per tuned one: the moments."""
    config = design_network(patch, [1.0] * len(patch), "vit_b")
    with torch.device("meta"):
        network = RefSAM3D(1, 3, text_dim=384, text_words=6, **config.to_json())
    apply_tuning(network, "adapter")
    whole = sum(tensor.numel() for tensor in network.state_dict().values())
    tuned = sum(p.numel() for p in network.parameters() if p.requires_grad)
    backbone = sum(tensor.numel() for tensor in backbone_tensors(network).values())
    slim_from_now_on(network, ONE)
    slim = sum(tensor.numel() for tensor in network.state_dict().values())
    assert 5 * slim + backbone < 0.30 * 5 * (whole + 2 * tuned)
    assert 5 * slim + backbone < 0.37 * 5 * whole


def test_hash_and_back():
    state = {BACKBONE_HASH: hash_tensor("00ff" * 16)}
    assert backbone_hash(state) == "00ff" * 16
