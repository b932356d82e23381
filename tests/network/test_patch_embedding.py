import torch
import torch.nn.functional as F

from refsam3d_nnunet.network.patch_embedding import PatchEmbedding3D


def two_convolutions(embed: PatchEmbedding3D, x: torch.Tensor) -> torch.Tensor:
    """The paper's form: (1, k, k), then a depth-wise (k, 1, 1)."""
    depth, height, width = embed.token_size
    plane = embed.proj.weight
    if hasattr(embed, "label_weight"):
        plane = torch.cat([plane, embed.label_weight], dim=1)
    x = F.conv3d(x, plane[:, :, None], embed.proj.bias, stride=(1, height, width))
    weight = embed.depth_weight[:, None, :, None, None]
    x = F.conv3d(x, weight, embed.depth_bias, stride=(depth, 1, 1), groups=len(weight))
    return x.movedim(1, -1)


@torch.no_grad()
def test_one_projection_equals_the_two_convolutions():
    torch.manual_seed(0)
    embed = PatchEmbedding3D(2, 10, (4, 2, 8), label_channels=3)
    for parameter in embed.parameters():
        torch.nn.init.normal_(parameter)
    x = torch.randn(2, 5, 8, 6, 16)

    torch.testing.assert_close(embed(x), two_convolutions(embed, x), rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_at_first_a_token_is_sams_embedding_of_its_mean_slice():
    torch.manual_seed(0)
    embed = PatchEmbedding3D(3, 10, (4, 2, 2))
    x = torch.randn(1, 3, 4, 6, 8)

    torch.testing.assert_close(
        embed(x)[:, 0].movedim(-1, 1), embed.proj(x.mean(2)), rtol=1e-5, atol=1e-5
    )


@torch.no_grad()
def test_labels_of_the_previous_stage_start_without_influence():
    embed = PatchEmbedding3D(1, 10, (2, 2, 2), label_channels=2)
    x = torch.randn(1, 3, 4, 4, 4)
    other = x.clone()
    other[:, 1:] = 1 - other[:, 1:]

    assert torch.equal(embed(x), embed(other))
