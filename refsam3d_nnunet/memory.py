"""How much memory a training step takes, by closed formulas.

Counted is what autograd keeps between forward and backward, layer by layer, and the parameters
with their gradients and optimiser states. tests/test_memory.py compares both with a real network.

Symbols as in the formulas below: n tokens, m tokens in windows (padding included), e channels of
a token, r of the adapter, c of the decoder, v voxels of a resolution, s channels of its stem.
"""

import math
from dataclasses import dataclass

from refsam3d_nnunet.config import Extent, NetworkConfig

GB = 2**30
TWO_WAY_LAYERS = 2
HEADS = 8
# What a process holds on a GPU before the first tensor, in GB.
CUDA_CONTEXT_GB = 0.6
# Numbers in a tensor up to which cuDNN's usual kernels can count.
LARGEST_TENSOR = 2**31 - 1
# What nnU-Net's validation holds of a class in a voxel: softmax, one-hot codes, hits and misses.
VALIDATION_BYTES = 30


@dataclass(frozen=True)
class Saved:
    """Numbers that autograd keeps for one sample.

    Args:
        compute: Kept in the precision of the computation, half under autocast.
        full: Kept in single precision always, the inputs of layer norms.
        softmax: Kept as a softmax and as a factor of the product that follows: one tensor in
            single precision, two under autocast, which takes softmax in single precision.
    """

    compute: int = 0
    full: int = 0
    softmax: int = 0

    def __add__(self, other: "Saved") -> "Saved":
        return Saved(
            self.compute + other.compute, self.full + other.full, self.softmax + other.softmax
        )

    def bytes(self, compute_size: int) -> int:
        """Bytes, with 2 (float16) or 4 (float32) for each number of the computation."""
        softmax = self.softmax * (4 + _copy_size(compute_size))
        return self.compute * compute_size + self.full * 4 + softmax


@dataclass(frozen=True)
class Task:
    """What the memory depends on beside the architecture.

    Args:
        channels: Input channels.
        prompts: Prompts, one per output channel.
        tuning: adapter, full or scratch.
        text_dim: Channels of the text encoder.
        label_channels: How many of the input channels are labels of a previous stage.
        regions: Whether the prompts are regions that may overlap.
    """

    channels: int
    prompts: int
    tuning: str = "scratch"
    text_dim: int = 512
    label_channels: int = 0
    regions: bool = False


def step_gb(config: NetworkConfig, task: Task, batch_size: int, compute_size: int = 2) -> float:
    """Memory of a training step, or of a validation step if that takes more, in GB of 2^30 bytes.

    Validation has the logits of all classes, but at worst goes sample by sample.

    Args:
        config: Architecture.
        task: Channels, prompts and tuning mode.
        batch_size: Samples in a step.
        compute_size: Bytes of a number in the computation, 2 under float16 autocast.
    """
    total, tuned = parameters(config, task)
    # Single-precision weights; of those tuned also gradients and AdamW's two moments. Autocast
    # keeps a half-precision copy of all.
    static = 4 * total + 12 * tuned + _copy_size(compute_size) * total
    samples = batch_size * _sample_bytes(config, task, compute_size)
    return CUDA_CONTEXT_GB + (static + max(samples, _validation_bytes(config, task))) / GB


def validation_samples(
    config: NetworkConfig, task: Task, batch_size: int, compute_size: int = 2
) -> int:
    """Samples that validation may hold at once without taking more memory than a training step.

    Args:
        config: Architecture.
        task: Channels, prompts and tuning mode.
        batch_size: Samples in a training step.
        compute_size: Bytes of a number in the computation, 2 under float16 autocast.

    Returns:
        From 1, which may take more, to the batch size.
    """
    step = batch_size * _sample_bytes(config, task, compute_size)
    return min(batch_size, max(1, step // _validation_bytes(config, task)))


def most_samples(config: NetworkConfig) -> int:
    """Samples of a step whose largest tensor stays within LARGEST_TENSOR.

    That is a joined skip or, of large tokens in 2D, the middle of an MLP. nnU-Net's own plans are
    far below.
    """
    joined = (2 * s * _voxels(config, i) for i, s in enumerate(config.stem_channels))
    return LARGEST_TENSOR // max(*joined, 4 * config.embed_dim * _tokens(config))


def saved_activations(config: NetworkConfig, task: Task) -> Saved:
    """What autograd keeps of a forward pass of one sample, loss aside."""
    total = _embedding(config, task)
    for block in range(max(config.level_blocks) + 1):
        total += _block(config, config.window_of(block))
    total += Saved(_tokens(config) * config.embed_dim)  # the deepest output, for its neck
    for _ in config.level_blocks:
        total += _level(config)
    return total + _two_way(config, task) + _convolutions(config)


def parameters(config: NetworkConfig, task: Task) -> tuple[int, int]:
    """Number of parameters: all, and those that are tuned."""
    frozen = sum(_frozen_parameters(config, task))
    total = frozen + _new_encoder_parameters(config, task) + _decoder_parameters(config, task)
    return total, total - frozen if task.tuning == "adapter" else total


def _sample_bytes(config: NetworkConfig, task: Task, compute_size: int) -> int:
    """What a training step holds of a sample."""
    kept = saved_activations(config, task).bytes(compute_size) + _loss_bytes(config, task)
    # nnU-Net's step holds its input; a cascade's has a channel in single precision for each label.
    kept += 4 * task.label_channels * _voxels(config, 0)
    return kept + _workspace(config) * compute_size


def _validation_bytes(config: NetworkConfig, task: Task) -> int:
    """What nnU-Net's validation holds of a sample."""
    return VALIDATION_BYTES * task.prompts * _voxels(config, 0)


def _copy_size(compute_size: int) -> int:
    """Bytes of what autocast keeps of a number beside its single precision."""
    return compute_size if compute_size < 4 else 0


def _tokens(config: NetworkConfig) -> int:
    return math.prod(config.grid_size)


def _voxels(config: NetworkConfig, resolution: int) -> int:
    stride = config.stride_of(resolution)
    return math.prod(p // s for p, s in zip(config.padded_size, stride, strict=True))


def _embedding(config: NetworkConfig, task: Task) -> Saved:
    # The matrix of patches, and the image as the stem sees it.
    return Saved(2 * task.channels * _voxels(config, 0))


def _block(config: NetworkConfig, window: Extent) -> Saved:
    n, e, r = _tokens(config), config.embed_dim, config.adapter_dim
    m = math.prod(math.ceil(g / w) * w for g, w in zip(config.grid_size, window, strict=True))
    # Outputs of norms and activations are made again, see network/rebuilding.py; so a frozen
    # trunk keeps as much as a tuned one, what its own norms and adapters need.
    adapter = n * e + 2 * n * r
    mlp = 4 * n * e
    attention = _attention(config, window, m)
    return Saved(adapter + attention + mlp, 2 * n * (e + 2) + m * config.num_heads)


def _attention(config: NetworkConfig, window: Extent, m: int) -> int:
    """Queries, keys and values, products with the tables, and the output at its padded width."""
    e, heads = config.embed_dim, config.num_heads
    if not config.relative_position:
        return 4 * m * e
    places = sum(window) - (window[0] == 1)
    width = math.ceil((e // heads + places) / 8) * 8
    return 3 * m * e + m * heads * (places + width)


def _level(config: NetworkConfig) -> Saved:
    n, c = _tokens(config), config.decoder_dim
    neck = n * c  # input of the convolution
    cross_attention = 3 * n * c  # input of the query, query, output
    lateral = n * c
    return Saved(neck + cross_attention + lateral, 2 * n * (c + 2) + n * HEADS)


def _two_way(config: NetworkConfig, task: Task) -> Saved:
    n, c = _tokens(config), config.decoder_dim
    # Per layer: keys and values of the tokens' look at the image (inputs and results), queries
    # and output of the image's look at the tokens, and one layer norm; then the last look.
    inputs = TWO_WAY_LAYERS * 5 * n * c + 3 * n * c
    maps = (2 * TWO_WAY_LAYERS + 1) * HEADS * task.prompts * n
    return Saved(inputs, TWO_WAY_LAYERS * n * (c + 2), maps)


def _convolutions(config: NetworkConfig) -> Saved:
    """Stem and up-blocks keep input and output of each norm, up-blocks what joins the skip."""
    return Saved(
        sum(
            (2 * (config.stem_convolutions_of(i) + config.decoder_convolutions_of(i)) + 1)
            * s
            * _voxels(config, i)
            for i, s in enumerate(config.stem_channels)
        )
    )


def _loss_bytes(config: NetworkConfig, task: Task) -> int:
    """Labels as integers and the softmax's denominator of each voxel; see loss.py.

    For regions logits, their gradient, sigmoid, its logarithm and targets of each prompt.
    """
    voxels = sum(_voxels(config, i) for i in range(config.auxiliary_masks + 1))
    return voxels * (5 * 4 * task.prompts if task.regions else 8 + 4)


def _workspace(config: NetworkConfig) -> int:
    """Alive at once in backward, at full resolution: concatenation, its gradient, two norms'."""
    return 6 * config.stem_channels[0] * _voxels(config, 0)


def _frozen_parameters(config: NetworkConfig, task: Task) -> list[int]:
    """What the paper leaves as SAM has it: see network/tuning.py."""
    e, head_dim = config.embed_dim, config.embed_dim // config.num_heads
    _, h, w = config.grid_size
    _, th, tw = config.token_size
    counts = [e * (task.channels - task.label_channels) * th * tw + e, h * w * e]
    for block in range(max(config.level_blocks) + 1):
        _, wh, ww = config.window_of(block)
        tables = (2 * wh + 2 * ww - 2) * head_dim if config.relative_position else 0
        counts.append(12 * e * e + 9 * e + tables)
    return counts


def _new_encoder_parameters(config: NetworkConfig, task: Task) -> int:
    e, r, c = config.embed_dim, config.adapter_dim, config.decoder_dim
    (d, _, _), (td, th, tw) = config.grid_size, config.token_size
    kernel = 3 ** sum(g > 1 for g in config.grid_size)
    count = e * td + e + d * e + e * task.label_channels * th * tw
    if config.stem_tokens:
        stride = config.stride_of(config.halvings - 1)
        step = math.prod(t // s for t, s in zip(config.token_size, stride, strict=True))
        count += e * (config.stem_channels[-1] * step + 1)
    for block in range(max(config.level_blocks) + 1):
        depth = config.window_of(block)[0]
        table = (2 * depth - 1) * e // config.num_heads
        has_table = config.relative_position and depth > 1
        count += 2 * e * r + e + r * (kernel + 2) + 4 * e + has_table * table
    return count + len(config.level_blocks) * (e * c + c * c * kernel + 4 * c)


def _decoder_parameters(config: NetworkConfig, task: Task) -> int:
    c, levels, half = config.decoder_dim, len(config.level_blocks), task.text_dim // 2
    projector = task.text_dim * half + half + half * half + half + half * c + c
    cross_attention = levels * 4 * (c * c + c)
    narrow = 4 * c * (c // 2) + 3 * (c // 2) + c  # attention inside half of the channels
    layer = 4 * (c * c + c) + 2 * narrow + 16 * c * c + 9 * c + 8 * c
    two_way = TWO_WAY_LAYERS * layer + narrow + 2 * c
    return projector + cross_attention + two_way + c + _convolution_parameters(config, task)


def _convolution_parameters(config: NetworkConfig, task: Task) -> int:
    c, top, stem = config.decoder_dim, config.halvings, config.stem_channels
    channels, strides = (*stem, c), [config.stride_of(i) for i in range(top + 1)]
    kernels = [math.prod(config.kernel_of(i)) for i in range(top)]
    count = sum(
        s * (stem[i - 1] if i else task.channels) * kernels[max(i - 1, 0)]
        + 2 * s
        + (config.stem_convolutions_of(i) + config.decoder_convolutions_of(i) - 2)
        * (s * s * kernels[i] + 2 * s)
        for i, s in enumerate(stem)
    )
    for i, s in enumerate(stem):  # transposed convolution, convolution, norm
        factor = math.prod(a // b for a, b in zip(strides[i + 1], strides[i], strict=True))
        count += channels[i + 1] * s * factor + s + 2 * s * s * kernels[i] + 2 * s
    for i in range(len(config.level_blocks) - 1):
        joins = top - min(i, top - 1)
        factor = math.prod(a // b for a, b in zip(strides[top], strides[joins], strict=True))
        count += c * channels[joins] * factor
    hyper = sum(2 * (c * c + c) + (c + 1) * (s + 1) for s in stem[: config.auxiliary_masks + 1])
    return count + hyper
