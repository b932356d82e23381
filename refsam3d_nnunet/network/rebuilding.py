"""What backward can make again at little cost is not kept between forward and backward."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def rebuilding(
    *tensors: tuple[Tensor, Callable[[], Tensor]],
) -> AbstractContextManager[object]:
    """Within it, operations do not keep the given tensors for backward but how to make them.

    An activation, a norm or a copy costs next to nothing beside the matrix products around it,
    but its result takes as much memory. The function that makes the tensor again must read only
    what is kept anyway, under no autograd, and give the same numbers.

    Under torch.compile nothing is done: its partitioner makes the same choice itself.

    Args:
        tensors: Pairs of a tensor that is about to be used, and a function that makes it again.
    """
    if torch.compiler.is_compiling() or not torch.is_grad_enabled():
        return nullcontext()
    recipes = {tensor.data_ptr(): (tensor.numel(), make) for tensor, make in tensors}

    def pack(tensor: Tensor) -> Tensor | tuple[Callable[[], Tensor], torch.Size]:
        numel, make = recipes.get(tensor.data_ptr(), (0, None))
        whole = make is not None and numel == tensor.numel()
        # Detached: an operation that kept its own result would refer to itself, and a forward
        # pass without backward would never be forgotten.
        return (make, tensor.shape) if whole else tensor.detach()

    def unpack(kept: Tensor | tuple[Callable[[], Tensor], torch.Size]) -> Tensor:
        if isinstance(kept, Tensor):
            return kept
        make, shape = kept
        with torch.no_grad():
            return make().view(shape)

    return torch.autograd.graph.saved_tensors_hooks(pack, unpack)
