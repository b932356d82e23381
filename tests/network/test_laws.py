"""What must hold for any weights."""

import statistics

import pytest
import torch

from refsam3d_nnunet.network.adapter import Adapter3D
from refsam3d_nnunet.network.refsam3d import LARGEST_LOGIT, RefSAM3D
from refsam3d_nnunet.network.tuning import apply_tuning, is_pretrained
from tests.network.conftest import random_text, tiny_config

PATCH = (6, 20, 24)


@torch.no_grad()
def test_permuting_prompts_permutes_channels(build):
    network = build(prompts=4).eval()
    x = torch.randn(2, 1, *PATCH)
    order = torch.tensor([2, 0, 3, 1])
    before = network(x)
    network.text.store(*(tensor[order] for tensor in random_text(4)))

    torch.testing.assert_close(network(x), before[:, order], rtol=1e-4, atol=1e-4)
    assert (before[:, order] - before).abs().max() > 0.01


@torch.no_grad()
def test_padding_words_change_nothing(build):
    network = build().eval()
    x = torch.randn(1, 1, *PATCH)
    before = network(x)
    words, mask, sentences = random_text(3)
    noise = torch.randn_like(words)
    network.text.store(words + noise * ~mask[..., None], mask, sentences)
    assert torch.equal(network(x), before)

    network.text.store(words + noise * mask[..., None], mask, sentences)
    assert (network(x) - before).abs().max() > 1e-3, "real words must matter"


@torch.no_grad()
def test_same_prompt_same_mask_whatever_its_place(build):
    network = build(prompts=3).eval()
    words, mask, sentences = random_text(3)
    for tensor in (words, mask, sentences):
        tensor[2] = tensor[0]
    network.text.store(words, mask, sentences)
    masks = network(torch.randn(1, 1, *PATCH))

    torch.testing.assert_close(masks[:, 2], masks[:, 0], rtol=1e-4, atol=1e-4)
    assert (masks[:, 1] - masks[:, 0]).abs().max() > 0.01


@torch.no_grad()
@pytest.mark.parametrize("residual", [True, False])
def test_fresh_class_tokens_keep_what_sets_classes_apart(build, residual):
    def apart(seed: int) -> float:
        changes = {"residual_class_tokens": residual, "seed": seed}
        network = build(prompts=8, awake=False, **changes).train()
        network.masks_as_products = True
        weights = network(torch.randn(1, 1, *PATCH)).weights[0]  # of the masks, k c
        return float((weights - weights.mean(dim=0)).square().sum() / weights.square().sum())

    kept = statistics.median(map(apart, range(5)))  # single networks differ by chance
    assert (kept > 0.1) is residual, "SAM's first self-attention makes all tokens their mean"


@torch.no_grad()
@pytest.mark.parametrize("stem_tokens", [True, False])
def test_frozen_tokens_know_modalities_apart_by_the_stem_alone(build, stem_tokens):
    network = build(channels=2, stem_tokens=stem_tokens).eval()
    kernel = network.image_encoder.patch_embed.proj.weight
    kernel[:, 1] = kernel[:, 0]  # as pretrained weights arrive
    x = torch.randn(1, 2, *PATCH)

    def tokens(image):
        return network.image_encoder(image, network.image_stem(image)[-1])[0]

    torch.testing.assert_close(tokens(x), tokens(x))
    change = (tokens(x.flip(1)) - tokens(x)).abs().max()
    assert bool(change > 1e-2) is stem_tokens


@torch.no_grad()
def test_fresh_adapter_is_the_identity():
    x = torch.randn(2, 3, 4, 5, 16)
    adapter = Adapter3D(16, 4)
    assert torch.equal(adapter(x), x)
    torch.nn.init.normal_(adapter.up.weight)
    assert not torch.equal(adapter(x), x)


@torch.no_grad()
def test_fresh_cross_attention_leaves_levels_as_they_are(build):
    network = build(awake=False)
    text, real, _ = network.text()
    level = torch.randn(2, 3, 5, 6, 16)
    assert torch.equal(network.cross_attention[0](level, text, real), level)


@pytest.mark.parametrize("mode", ["adapter", "full", "scratch"])
@pytest.mark.parametrize("patch", [PATCH, (1, 20, 24)], ids=["volume", "slice"])
def test_every_tuned_parameter_has_a_gradient_and_no_frozen_one(build, mode, patch):
    token = (2 if patch[0] > 1 else 1, 4, 4)
    network = build(channels=3, labels=2, deep=True, patch_size=patch, token_size=token)
    apply_tuning(network, mode)
    sum(mask.square().sum() for mask in network.train()(torch.randn(2, 3, *patch))).backward()

    for name, parameter in network.named_parameters():
        frozen = mode == "adapter" and is_pretrained(name)
        if frozen:
            assert parameter.grad is None, name
        else:
            assert parameter.grad.abs().max() > 0, name
    tuned = sum(p.requires_grad for p in network.parameters())
    assert 0 < tuned < len(list(network.parameters())) or mode != "adapter"


def test_frozen_parts_stay_in_eval(build):
    network = build()
    apply_tuning(network, "adapter")
    network.train()
    block = network.image_encoder.blocks[0]
    assert not block.mlp.training
    assert not block.attn.qkv.training
    assert block.adapter.training
    assert network.mask_decoder.training


def test_unknown_tuning_mode(build):
    with pytest.raises(ValueError, match="Unknown tuning mode 'lora'; there are adapter, full"):
        apply_tuning(build(), "lora")


@pytest.mark.parametrize(
    ("patch", "token", "stem"),
    [
        ((28, 64, 64), (4, 16, 16), (2, 4, 4, 4)),
        ((20, 48, 40), (2, 16, 16), (2, 4, 4, 4)),
        ((40, 56, 40), (8, 8, 8), (2, 4, 4)),
        ((5, 7, 9), (4, 4, 4), (2, 4)),
        ((16, 40, 40), (1, 8, 8), (2, 4, 4)),
        ((3, 6, 5), (2, 2, 2), (2,)),
    ],
    ids=str,
)
@pytest.mark.parametrize("channels", [1, 4])
@torch.no_grad()
def test_any_patch_goes_in_and_comes_out_at_its_shape(build, patch, token, stem, channels):
    network = build(
        channels=channels,
        patch_size=patch,
        token_size=token,
        stem_channels=stem,
        auxiliary_masks=len(stem) - 1,
    ).eval()
    assert network(torch.randn(2, channels, *patch)).shape == (2, 3, *patch)


@pytest.mark.parametrize("patch", [(5, 12, 18), (10, 20, 21), (18, 13, 30)], ids=str)
@torch.no_grad()
def test_auxiliary_masks_have_the_shape_of_nnunets_targets(build, patch):
    from batchgeneratorsv2.transforms.utils.deep_supervision_downsampling import (
        DownsampleSegForDSTransform,
    )

    network = build(
        deep=True,
        patch_size=patch,
        token_size=(8, 8, 8),
        stem_channels=(2, 4, 4),
        auxiliary_masks=2,
    )
    scales = [[1 / s for s in network.config.stride_of(level)] for level in range(3)]
    targets = DownsampleSegForDSTransform(scales)(segmentation=torch.zeros(1, *patch))
    masks = network(torch.randn(1, 1, *patch))
    assert [m.shape[2:] for m in masks] == [t.shape[1:] for t in targets["segmentation"]]


@torch.no_grad()
def test_a_plane_is_a_volume_of_one_slice(build):
    network = build(patch_size=(1, 20, 24), token_size=(1, 4, 4)).eval()
    x = torch.randn(2, 1, 20, 24)
    assert torch.equal(network(x), network(x[:, :, None])[:, :, 0])


@torch.no_grad()
def test_auxiliary_masks_come_only_when_asked_for(build):
    network = build(deep=True).eval()
    shapes = [tuple(mask.shape) for mask in network(torch.randn(1, 1, *PATCH))]
    assert shapes == [(1, 3, 6, 20, 24), (1, 3, 6, 10, 12)]  # thick slices are halved last
    network.deep_supervision = False
    assert network(torch.randn(1, 1, *PATCH)).shape == (1, 3, *PATCH)


@torch.no_grad()
def test_predicted_logits_are_bounded_and_own_their_memory(build):
    network = build().eval()
    for parameter in network.mask_decoder.hyper_networks.parameters():
        parameter.mul_(100)
    logits = network(torch.randn(1, 1, *PATCH))
    assert logits.abs().max() == LARGEST_LOGIT
    logits += 1  # nnU-Net adds mirrored predictions in place
    assert logits.is_contiguous()


@torch.no_grad()
def test_saved_and_loaded_networks_agree(build, tmp_path):
    network = build().eval()
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    other = build(awake=False).eval()
    other.load_state_dict(torch.load(tmp_path / "weights.pth", weights_only=True))
    x = torch.randn(1, 1, *PATCH)
    assert torch.equal(network(x), other(x))


def test_only_text_buffers_depend_on_the_number_of_classes(build):
    """nnU-Net skips '.seg_layers.' when it takes over weights from another label set."""
    few, many = build(prompts=2).state_dict(), build(prompts=9).state_dict()
    differing = {name for name in few if few[name].shape != many[name].shape}
    assert differing == {f"text.seg_layers.{n}" for n in ("words", "mask", "sentences")}


def test_wrong_patch_size_is_named(build):
    with pytest.raises(ValueError, match=r"built for patches of \(6, 20, 24\).*got \(6, 20, 20\)"):
        build()(torch.randn(1, 1, 6, 20, 20))


def test_text_of_another_number_of_prompts_is_refused(build):
    with pytest.raises(ValueError, match=r"shape \(4, 5, 24\).*built for \(3, 5, 24\)"):
        build().text.store(*random_text(4))


def test_network_without_text_says_which_trainer_gives_it():
    with pytest.raises(ValueError, match="-tr RefSAM3DTrainer"):
        RefSAM3D(1, 3, deep_supervision=True, **tiny_config().to_json())


@torch.no_grad()
def test_half_precision_agrees_with_single(build):
    network = build().eval()
    x = torch.randn(1, 1, *PATCH)
    single = network(x)
    with torch.autocast("cpu", torch.bfloat16):
        half = network(x)
    assert half.dtype == torch.bfloat16
    assert (half - single).abs().mean() < 0.05 * single.abs().mean()
