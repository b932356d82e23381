import torch
from segment_anything.modeling.prompt_encoder import PositionEmbeddingRandom

from refsam3d_nnunet.network.position import FourierPosition


def test_a_slice_has_sams_positions():
    """Without a depth row the codes are those of SAM's prompt encoder, whose rows are x, y."""
    sam = PositionEmbeddingRandom(8)
    ours = FourierPosition(16, (1, 5, 7))
    x, y = sam.positional_encoding_gaussian_matrix
    ours.gaussian.copy_(torch.stack([torch.randn(8), y, x]))

    torch.testing.assert_close(ours()[0].movedim(-1, 0), sam((5, 7)), rtol=1e-5, atol=1e-5)


def test_autocast_leaves_positions_alone():
    ours = FourierPosition(16, (2, 3, 4))
    with torch.autocast("cpu", torch.bfloat16):
        codes = ours()
    assert torch.equal(codes, ours())
