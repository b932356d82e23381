"""The small perceptrons that carry what a prompt says."""

from torch import nn


def mlp(in_dim: int, hidden_dim: int, out_dim: int) -> nn.Sequential:
    """Three linear layers with ReLUs between them, as SAM's hyper-networks are.

    The weights keep the variance of their input and the biases start at zero. With torch's own
    start each layer halves the differences between prompts, and masks of different classes begin
    all but equal.

    Args:
        in_dim: Channels of the input.
        hidden_dim: Channels in between.
        out_dim: Channels of the output.
    """
    layers = nn.Sequential(
        nn.Linear(in_dim, hidden_dim),
        nn.ReLU(),
        nn.Linear(hidden_dim, hidden_dim),
        nn.ReLU(),
        nn.Linear(hidden_dim, out_dim),
    )
    for layer, gain in zip(layers[::2], ("relu", "relu", "linear"), strict=True):
        nn.init.kaiming_normal_(layer.weight, nonlinearity=gain)
        nn.init.zeros_(layer.bias)
    return layers
