"""Two processes over gloo: every tuned parameter takes part, and the copies stay equal."""

import os

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.nn.parallel import DistributedDataParallel

from refsam3d_nnunet.network.refsam3d import RefSAM3D
from refsam3d_nnunet.network.tuning import apply_tuning
from refsam3d_nnunet.optim import adamw
from tests.network.conftest import TEXT_DIM, TEXT_WORDS, random_text, tiny_config


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
    optimizer = adamw(parallel, lr=1e-3, weight_decay=0.0)
    for _ in range(2):
        optimizer.zero_grad()
        sum(m.square().mean() for m in parallel(torch.randn(1, 1, 6, 20, 24))).backward()
        optimizer.step()
    torch.save(network.state_dict(), os.path.join(folder, f"rank{rank}.pth"))
    dist.destroy_process_group()


@pytest.mark.parametrize("mode", ["adapter", "scratch"])
def test_ranks_stay_equal(tmp_path, mode):
    mp.spawn(train_two_steps, (str(tmp_path), mode), nprocs=2)
    one, two = (torch.load(tmp_path / f"rank{r}.pth", weights_only=True) for r in (0, 1))
    for name, tensor in one.items():
        assert torch.equal(tensor, two[name]), name
