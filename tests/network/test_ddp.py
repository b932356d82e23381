"""Two processes over gloo: every tuned parameter takes part, and the copies stay equal."""

import os

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.nn.parallel import DistributedDataParallel

from refsam3d_nnunet.loss import PromptMaskLoss
from refsam3d_nnunet.network.prompt_masks import PromptMasks
from refsam3d_nnunet.network.refsam3d import RefSAM3D
from refsam3d_nnunet.network.tuning import apply_tuning
from refsam3d_nnunet.optim import adamw
from tests.network.conftest import TEXT_DIM, TEXT_WORDS, random_text, tiny_config
from tests.nnunet_loss import nnunet_loss


def train_two_steps(rank: int, folder: str, mode: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    torch.manual_seed(rank)  # different weights at first: DDP must hand out those of rank 0
    network = RefSAM3D(
        1,
        3,
        text_dim=TEXT_DIM,
        text_words=TEXT_WORDS,
        deep_supervision=True,
        **tiny_config().to_json(),
    )
    network.text.store(*random_text(3))
    apply_tuning(network, mode)
    parallel = DistributedDataParallel(network.train())  # no find_unused_parameters, as nnU-Net
    parallel.broadcast_buffers = False  # as the trainer does
    optimizer = adamw(parallel, lr=1e-3, weight_decay=0.0)
    for _ in range(2):
        optimizer.zero_grad()
        sum(m.square().mean() for m in parallel(torch.randn(1, 1, 6, 20, 24))).backward()
        optimizer.step()
    torch.save(network.state_dict(), os.path.join(folder, f"rank{rank}.pth"))
    dist.destroy_process_group()


def compare_losses(rank: int, folder: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    theirs = nnunet_loss(ddp=True)
    generator = torch.Generator().manual_seed(rank)  # ranks see different patches
    shapes = ((2, 3, 4), (2, 3, 1), (2, 4, 5, 6, 7))
    tensors = [torch.randn(shape, generator=generator) for shape in shapes]
    masks = PromptMasks(*(tensor.requires_grad_() for tensor in tensors))
    target = torch.randint(3, (2, 1, 5, 6, 7), generator=generator).float()
    gather, contiguous = dist.all_gather, []
    dist.all_gather = lambda to, of, **named: (
        contiguous.append(of.is_contiguous()) or gather(to, of, **named)
    )
    ours, wanted = PromptMaskLoss(theirs)(masks, target), theirs(masks.logits(), target)
    torch.testing.assert_close(ours, wanted)
    assert contiguous
    assert all(contiguous)  # NCCL refuses others
    gradients = torch.autograd.grad(ours, masks), torch.autograd.grad(wanted, masks)
    torch.testing.assert_close(*gradients)
    dist.destroy_process_group()


def test_dice_counts_the_voxels_of_all_ranks(tmp_path):
    mp.spawn(compare_losses, (str(tmp_path),), nprocs=2)


@pytest.mark.parametrize("mode", ["adapter", "scratch"])
def test_ranks_stay_equal(tmp_path, mode):
    mp.spawn(train_two_steps, (str(tmp_path), mode), nprocs=2)
    one, two = (torch.load(tmp_path / f"rank{r}.pth", weights_only=True) for r in (0, 1))
    for name, tensor in one.items():
        assert torch.equal(tensor, two[name]), name
