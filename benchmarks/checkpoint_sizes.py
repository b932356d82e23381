"""How large checkpoints are, whole and slim, in adapter mode.

::

    python benchmarks/checkpoint_sizes.py --preset vit_b --patch 64 64 64

builds a network with random weights, takes one step of its optimiser on gradients of zero, so that
there are moments, and writes what nnU-Net's trainer would write to a temporary folder.
"""

import argparse
import tempfile
from pathlib import Path

import torch

from refsam3d_nnunet.config import PRESETS
from refsam3d_nnunet.design import design_network
from refsam3d_nnunet.network.refsam3d import RefSAM3D
from refsam3d_nnunet.network.slim import backbone_tensors, slim_from_now_on
from refsam3d_nnunet.network.tuning import apply_tuning
from refsam3d_nnunet.optim import adamw
from refsam3d_nnunet.slim.backbone import backbone_content, write_backbone
from refsam3d_nnunet.slim.training import LATEST, moments_for

FOLDS = 5
FINAL = "checkpoint_final.pth"
# Three classes with the sixteen phrases each that training draws from, embedded by MiniLM.
CLASSES, PHRASES, WORDS, TEXT_DIM = 3, 16, 12, 384


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--preset", default="vit_b", choices=PRESETS)
    parser.add_argument("--patch", type=int, nargs="+", default=[64, 64, 64])
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        sizes = measured(args.preset, args.patch, Path(folder))
    title = f"{args.preset}, adapter, patch {' x '.join(map(str, args.patch))}"
    print(f"| {title} | MB |\n|---|---|")
    for name, size in sizes.items():
        print(f"| {name} | {size / 1e6:.1f} |")
    slim = FOLDS * sizes["slim final or best"] + sizes["backbone file"]
    for name in ("whole", "whole, without the optimiser's moments"):
        print(
            f"| {FOLDS} slim and the backbone : {FOLDS} {name} | {slim / FOLDS / sizes[name]:.1%} |"
        )


def measured(preset: str, patch: list[int], folder: Path) -> dict[str, int]:
    """Bytes of each kind of file."""
    config = design_network(patch, [1.0] * len(patch), preset)
    network = RefSAM3D(
        1,
        CLASSES,
        text_dim=TEXT_DIM,
        text_words=WORDS,
        text_phrases=[PHRASES] * CLASSES,
        **config.to_json(),
    )
    apply_tuning(network, "adapter")
    optimizer = adamw(network, lr=1e-4, weight_decay=0.0)
    for parameter in network.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.zeros_like(parameter)
    optimizer.step()

    def size(name: str, *, slim: bool) -> int:
        path = folder / name
        with moments_for(path, optimizer, slim=slim):
            state = {
                "network_weights": network.state_dict(),
                "optimizer_state": optimizer.state_dict(),
            }
            torch.save(state, path)
        return path.stat().st_size

    sizes = {
        "whole": size(LATEST, slim=False),
        "whole, without the optimiser's moments": size(FINAL, slim=True),
    }
    content, sha256 = backbone_content(backbone_tensors(network))
    slim_from_now_on(network, sha256)
    return sizes | {
        "slim final or best": size(FINAL, slim=True),
        "slim latest, while training": size(LATEST, slim=True),
        "backbone file": write_backbone(content, folder).stat().st_size,
    }


if __name__ == "__main__":
    main()
