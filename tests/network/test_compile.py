"""torch.compile sees one graph: nothing in a step makes it fall back to Python."""

import pytest
import torch


@pytest.fixture
def compiled_as_one():
    """Compiles whole or fails; the graph runs as it is, without a compiler of C++."""
    torch._dynamo.reset()
    yield lambda network: torch.compile(network, backend="eager", fullgraph=True)
    torch._dynamo.reset()


def test_training_is_one_graph_for_all_phrases(build, compiled_as_one):
    network = build(prompts=3, deep=True).train()
    network.masks_as_products = True
    compiled, image = compiled_as_one(network), torch.randn(2, 1, 6, 20, 24)
    compiled(image)
    network.text.draw([0, 0, 0])
    with torch._dynamo.config.patch(error_on_recompile=True):
        masks = compiled(image)
    for one, other in zip(masks, network(image), strict=True):
        torch.testing.assert_close(one.logits(), other.logits())
    sum(mask.logits().sum() for mask in masks).backward()


@torch.no_grad()
def test_prediction_is_one_graph(build, compiled_as_one):
    network, image = build(prompts=3).eval(), torch.randn(1, 1, 6, 20, 24)
    network.hide([2], background=0)
    torch.testing.assert_close(compiled_as_one(network)(image), network(image))
