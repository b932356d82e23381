"""Steps of a trainer inside the test's process, and what it leaves in a model folder."""

import json
from pathlib import Path

import torch

FINAL = "checkpoint_final.pth"


def batch_for(trainer) -> dict:
    generator = torch.Generator().manual_seed(1)
    patch = trainer.configuration_manager.patch_size
    labels = torch.randint(0, 3, (2, 1, *patch), generator=generator).float()
    scales = trainer._get_deep_supervision_scales() or [(1, 1, 1)]
    targets = [
        labels[:, :, :: round(1 / d), :: round(1 / h), :: round(1 / w)] for d, h, w in scales
    ]
    return {"data": torch.randn(2, 1, *patch, generator=generator), "target": targets}


def save(trainer, path: Path) -> None:
    """Saves as after a first epoch, whose results nnU-Net's logger must hold."""
    for key, value in (("mean_fg_dice", 0.5), ("dice_per_class_or_region", [0.5, 0.5])):
        trainer.logger.log(key, value, 0)
    trainer.save_checkpoint(str(path))


def finish(trainer, name=FINAL) -> Path:
    """One step, and what nnU-Net leaves in a model folder."""
    trainer.train_step(batch_for(trainer))
    for name_, content in (("plans", trainer.plans_manager.plans), ("dataset", None)):
        path = Path(trainer.output_folder_base) / f"{name_}.json"
        path.write_text(json.dumps(content or trainer.dataset_json))
    path = Path(trainer.output_folder) / name
    save(trainer, path)
    return path


def load(path: Path) -> dict:
    return torch.load(path, weights_only=False)


def backbones(model: Path) -> list[Path]:
    return sorted(model.glob("refsam3d_backbone_*.safetensors"))
