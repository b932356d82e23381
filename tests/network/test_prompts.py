"""Several phrases a class, other phrases at prediction, and classes that are left out."""

import pytest
import torch

from refsam3d_nnunet.network.refsam3d import HIDDEN_LOGIT, LARGEST_LOGIT
from tests.network.conftest import TEXT_DIM, TEXT_WORDS, random_text, tiny_config

PATCH, CPU = (6, 20, 24), torch.device("cpu")
PHRASES = [1, 3, 2]


@pytest.fixture
def network(build):
    """Three classes with one, three and two phrases, on the weights of the one-phrase network."""
    from refsam3d_nnunet.network.text_prompts import TextPrompts

    network = build(seed=1)  # one that finds all classes in noise
    projector = network.text.projector
    network.text = TextPrompts(PHRASES, TEXT_WORDS, TEXT_DIM, tiny_config().decoder_dim)
    network.text.projector = projector
    network.text.store(*random_text(6))
    return network.eval()


def picked(*rows: int) -> tuple[torch.Tensor, ...]:
    return tuple(tensor[list(rows)] for tensor in random_text(6))


def projected(network, *rows: int) -> torch.Tensor:
    return network.text.projector(network.text.seg_layers.space(picked(*rows)[2]))


def current(network) -> torch.Tensor:
    return network.text()[2]


@torch.no_grad()
def test_training_uses_the_drawn_phrases_and_evaluation_the_canonical_ones(network):
    network.text.draw([0, 2, 1])
    x = torch.randn(1, 1, *PATCH)
    canonical = network(x)
    network.text.replace(*picked(0, 3, 5))
    replaced = network(x)
    network.text.restore()
    assert torch.equal(network(x), canonical)
    assert (replaced - canonical).abs().max() > 0.01

    drawn = network.train()(x)
    torch.testing.assert_close(drawn.clamp(-LARGEST_LOGIT, LARGEST_LOGIT), replaced)


@torch.no_grad()
def test_replacing_the_phrases_by_themselves_changes_nothing(network):
    x = torch.randn(1, 1, *PATCH)
    before = network(x)
    network.text.replace(*picked(0, 1, 4))
    assert torch.equal(network(x), before)


@torch.no_grad()
def test_replacing_phrases_may_have_more_words(network):
    x = torch.randn(1, 1, *PATCH)
    before = network(x)
    words, mask, sentences = picked(0, 1, 4)
    longer = torch.nn.functional.pad(words, (0, 0, 0, 3))
    network.text.replace(longer, torch.nn.functional.pad(mask, (0, 3)), sentences)
    torch.testing.assert_close(network(x), before, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_exchanging_two_phrases_exchanges_their_masks(network):
    x = torch.randn(1, 1, *PATCH)
    before = network(x)
    network.text.replace(*picked(0, 4, 1))
    torch.testing.assert_close(network(x), before[:, [0, 2, 1]], rtol=1e-4, atol=1e-4)
    assert (before[:, 1] - before[:, 2]).abs().max() > 0.01


def test_a_phrase_that_a_class_does_not_have(network):
    for choice in ([0, 3, 0], [0, -1, 0]):
        with pytest.raises(ValueError, match=r"classes with \[1, 3, 2\] phrases"):
            network.text.draw(choice)


def test_a_step_projects_one_phrase_a_class(network):
    seen = []
    network.text.projector.register_forward_hook(lambda _, args, out: seen.append(args[0].shape))
    for mode in (True, False):
        network.train(mode).text()
    assert {shape[0] for shape in seen} == {len(PHRASES)}


def test_prompt_state_is_not_in_the_state_dict(network):
    before = set(network.state_dict())
    network.text.draw([0, 1, 1])
    network.text.replace(*picked(0, 3, 5))
    network.hide([1], background=0)
    assert set(network.state_dict()) == before
    network.load_state_dict(network.state_dict())
    assert torch.equal(current(network.train()), projected(network, 0, 2, 5))
    assert torch.equal(current(network.eval()), projected(network, 0, 3, 5))


@torch.no_grad()
def test_hidden_classes_go_to_the_background_and_nothing_else_changes(network):
    x = torch.randn(2, 1, *PATCH)
    before = network(x)
    network.hide([1], background=0)
    after = network(x)
    assert torch.equal(after[:, 2], before[:, 2])
    assert (after[:, 1] == HIDDEN_LOGIT).all()
    expected = before.argmax(1)
    assert (expected == 1).any()
    assert torch.equal(after.argmax(1), expected.masked_fill(expected == 1, 0))
    network.hide([], background=None)
    assert torch.equal(network(x), before)


@torch.no_grad()
def test_hidden_classes_stay_finite_in_half_precision_however_small_the_step(network):
    from nnunetv2.inference.sliding_window_prediction import (
        compute_gaussian,
        compute_steps_for_sliding_window,
    )

    size, tile = 96, 48
    weights = compute_gaussian((tile,), value_scaling_factor=10, dtype=torch.float64, device=CPU)
    (starts,) = compute_steps_for_sliding_window((size,), (tile,), 0.1)
    total = torch.zeros(size, dtype=torch.float64)
    for start in starts:
        total[start : start + tile] += weights
    most = total.max() ** 3 / 10**2  # of three axes; nnU-Net scales their product, not each
    assert most * -HIDDEN_LOGIT < torch.finfo(torch.half).max < most * LARGEST_LOGIT


@torch.no_grad()
def test_hidden_regions_are_empty_and_the_others_as_they_were(network):
    x = torch.randn(1, 1, *PATCH)
    before = network(x)
    network.hide([0, 2], background=None)
    after = network(x)
    assert torch.equal(after[:, 1], before[:, 1])
    assert not (after[:, [0, 2]].sigmoid() > 1e-40).any()


@torch.no_grad()
def test_training_knows_no_hidden_classes(network):
    x = torch.randn(1, 1, *PATCH)
    before = network.train()(x)
    network.hide([1, 2], background=0)
    assert torch.equal(network(x), before)
