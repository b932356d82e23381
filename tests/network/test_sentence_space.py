"""The map that sets classes apart, checked on sentences whose classes are known."""

import pytest
import torch
import torch.nn.functional as F

from refsam3d_nnunet.network.sentence_space import SentenceSpace
from refsam3d_nnunet.network.text_prompts import TextPrompts

DIM, PHRASES = 32, [6, 4, 5]


def sentences(noise: float = 1.0) -> torch.Tensor:
    """Three classes; the second and third differ little, the phrases of each differ much."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, DIM, generator=generator)

    common, first, side, style = draw(), draw(), draw(), draw(3)
    centers = torch.stack([common + first, common + 0.15 * side, common - 0.15 * side])
    wording = torch.randn(sum(PHRASES), 3, generator=generator) @ style
    return centers.repeat_interleave(torch.tensor(PHRASES), dim=0) + noise * wording


def fitted(text: torch.Tensor) -> SentenceSpace:
    space = SentenceSpace(DIM)
    space.fit(text, PHRASES)
    return space


def centers(text: torch.Tensor) -> torch.Tensor:
    return torch.stack([one.mean(0) for one in text.split(PHRASES)])


def cosines(vectors: torch.Tensor) -> torch.Tensor:
    unit = F.normalize(vectors, dim=-1)
    return unit @ unit.T


def test_classes_that_lie_close_come_apart_and_their_phrases_together():
    text = sentences()
    plain = F.layer_norm(text, (DIM,))
    mapped = fitted(text)(text)
    assert cosines(centers(plain))[1, 2] > 0.6
    # Three directions as far apart as they can be have cosines of -1/2.
    torch.testing.assert_close(cosines(centers(mapped)), torch.eye(3) * 1.5 - 0.5, atol=0.2, rtol=0)
    for before, after in zip(plain.split(PHRASES), mapped.split(PHRASES), strict=True):
        assert after.var(dim=0).sum() < 0.5 * before.var(dim=0).sum()


def test_a_phrase_never_seen_comes_nearest_to_its_own_class():
    space, text = fitted(sentences()), sentences()
    generator = torch.Generator().manual_seed(1)
    own = torch.arange(3).repeat_interleave(20)
    new = centers(sentences(noise=0))[own] + 0.1 * torch.randn(60, DIM, generator=generator)
    unit = F.normalize(centers(space(text)), dim=-1)
    assert torch.equal((F.normalize(space(new), dim=-1) @ unit.T).argmax(1), own)


def test_scale_and_offset_of_the_encoder_do_not_matter():
    text = sentences()
    torch.testing.assert_close(
        fitted(text)(text), fitted(100 * text + 7)(100 * text + 7), atol=1e-3, rtol=1e-3
    )


def test_the_order_of_classes_does_not_matter():
    text = sentences()
    turned = torch.cat([text.split(PHRASES)[i] for i in (2, 0, 1)])
    space = SentenceSpace(DIM)
    space.fit(turned, [5, 6, 4])
    torch.testing.assert_close(space(text), fitted(text)(text), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("scale", [1.0, 0.0], ids=["words", "nothing"])
@pytest.mark.parametrize("phrases", [[15], [5, 5, 5]], ids=["one class", "three equal ones"])
def test_what_has_no_difference_stays(phrases, scale):
    text = scale * sentences()[:5].repeat(3, 1)
    space = fitted(sentences())  # an earlier map is forgotten
    space.fit(text, phrases)
    torch.testing.assert_close(space(text), F.layer_norm(text, (DIM,)), atol=1e-4, rtol=1e-4)


def test_more_classes_than_channels_and_single_phrases():
    text = torch.randn(40, 16, generator=torch.Generator().manual_seed(2))
    space = SentenceSpace(16)
    space.fit(text, [1] * 40)
    mapped = space(text)
    assert mapped.isfinite().all()
    assert torch.linalg.matrix_rank(mapped) >= 15  # layer norm takes one


def test_many_classes_of_which_some_are_all_but_the_same():
    """Small differences are raised, but not to any size: they may be noise."""
    generator = torch.Generator().manual_seed(3)
    text = torch.randn(20, DIM, generator=generator)
    text[1] = text[0] + 1e-3 * torch.randn(DIM, generator=generator)
    space = SentenceSpace(DIM)
    space.fit(text, [1] * 20)
    cosine = cosines(space(text)) - 2 * torch.eye(20)
    assert cosine[0, 1] > 0.9
    cosine[0, 1] = cosine[1, 0] = 0
    assert cosine.max() < 0.3
    assert cosines(F.layer_norm(text, (DIM,)))[0].sort().values[-3] > 0.3


def test_a_checkpoint_without_the_map_is_read_as_the_identity():
    prompts = TextPrompts(PHRASES, 1, DIM, 16)
    prompts.store(torch.zeros(15, 1, DIM), torch.ones(15, 1, dtype=torch.bool), sentences())
    before = {name: t for name, t in prompts.state_dict().items() if ".space." not in name}
    prompts.load_state_dict(before)
    plain = F.layer_norm(sentences()[[0, 6, 10]], (DIM,))
    torch.testing.assert_close(prompts()[2], prompts.projector(plain), atol=1e-4, rtol=1e-4)


def test_the_network_stores_the_map_where_nnunet_leaves_it_alone():
    """It depends on the labels, as all below '.seg_layers.' does, and travels with checkpoints."""
    prompts = TextPrompts(PHRASES, 1, DIM, 16)
    prompts.store(torch.zeros(15, 1, DIM), torch.ones(15, 1, dtype=torch.bool), sentences())
    state = prompts.state_dict()
    torch.testing.assert_close(state["seg_layers.space.matrix"], fitted(sentences()).matrix)
    other = TextPrompts(PHRASES, 1, DIM, 16)
    other.load_state_dict(state)
    assert torch.equal(other()[2], prompts()[2])
