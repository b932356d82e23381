"""A tiny data set, and a shell in which only nnU-Net's three variables are set."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch

LABELS = {
    "labels": {"background": 0, "kidney_left": 1, "kidney_right": 2},
    "regions": {"background": 0, "both_kidneys": [1, 2], "kidney_right": 2},
    "ignore": {"background": 0, "kidney_left": 1, "kidney_right": 2, "ignore": 3},
    "regions+ignore": {"background": 0, "both_kidneys": [1, 2], "kidney_right": 2, "ignore": 3},
}
TRAIN = "-tr RefSAM3DTrainer -p RefSAM3DPlans -device cpu"
SHAPE, SPACING = (20, 24, 28), (1.0, 1.0, 1.5)  # depth, height, width; x, y, z
SHORT = {
    "REFSAM3D_NUM_EPOCHS": "1",
    "REFSAM3D_ITERATIONS_PER_EPOCH": "2",
    "REFSAM3D_VAL_ITERATIONS": "1",
}


class Workspace:
    """nnU-Net's folders below one temporary folder.

    Args:
        root: Where they are made.
        variant: Which labels the data set has, a key of ``LABELS``.
    """

    def __init__(self, root: Path, variant: str = "labels") -> None:
        self.raw, self.preprocessed, self.results = (
            root / f"nnUNet_{name}" for name in ("raw", "preprocessed", "results")
        )
        self.name = "Dataset901_Tiny"
        for folder in (self.raw, self.preprocessed, self.results):
            folder.mkdir()
        write_dataset(self.raw / self.name, variant)

    def environment(self, extra: Mapping[str, str] = {}) -> dict[str, str]:  # noqa: B006
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("REFSAM3D_")}
        return {
            **inherited,
            "nnUNet_raw": str(self.raw),
            "nnUNet_preprocessed": str(self.preprocessed),
            "nnUNet_results": str(self.results),
            "nnUNet_def_n_proc": "1",
            "nnUNet_n_proc_DA": "1",
            "OMP_NUM_THREADS": "1",
            # nnU-Net gives a training all cores; two tests at a time must not spin for them.
            "OMP_WAIT_POLICY": "PASSIVE",
            **SHORT,
            **extra,
        }

    def try_run(self, *commands: str | list[str], **extra: str) -> subprocess.CompletedProcess:
        driver = Path(__file__).with_name("driver.py")
        lines = [json.dumps(c.split() if isinstance(c, str) else c) for c in commands]
        return subprocess.run(
            [sys.executable, str(driver), *lines],
            env=self.environment(extra),
            capture_output=True,
            text=True,
            encoding="utf-8",
            check=False,
        )

    def run(self, *commands: str | list[str], **extra: str) -> str:
        done = self.try_run(*commands, **extra)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout

    def model(self, configuration: str = "3d_fullres", plans: str = "RefSAM3DPlans") -> Path:
        return self.results / self.name / f"RefSAM3DTrainer__{plans}__{configuration}"

    def edit_plans(self, plans: str, edit: Callable[[dict], None]) -> None:
        path = self.preprocessed / self.name / f"{plans}.json"
        content = json.loads(path.read_text())
        edit(content)
        path.write_text(json.dumps(content))


@pytest.fixture(scope="module")
def planned(tmp_path_factory) -> Workspace:
    """The tiny set, planned and preprocessed once for all tests of a module."""
    space = Workspace(tmp_path_factory.mktemp("nnunet"))
    space.run(
        "nnUNetv2_plan_and_preprocess -d 901 -pl RefSAM3DPlanner -c 3d_fullres -np 1 -npfp 1"
        " --verify_dataset_integrity --no_pbar"
    )
    return space


@pytest.fixture(scope="module")
def trained(planned) -> Workspace:
    """Fold 0 of the planned set, trained for an epoch, with probabilities."""
    planned.log = planned.run(f"nnUNetv2_train 901 3d_fullres 0 {TRAIN} --npz")
    return planned


@pytest.fixture
def make(planned, monkeypatch):
    """Function that makes trainers, of fold 0 unless told, inside this process."""
    for name, value in planned.environment({**SHORT, "REFSAM3D_NUM_EPOCHS": "4"}).items():
        monkeypatch.setenv(name, value)
    from refsam3d_nnunet.trainers.refsam3d_trainer import RefSAM3DTrainer

    folder = planned.preprocessed / planned.name

    def _make(fold: int = 0, *, plan: dict | None = None, labels: dict | None = None):
        torch.manual_seed(fold)
        plans = json.loads((folder / "RefSAM3DPlans.json").read_text())
        plans["refsam3d"] |= plan or {}
        dataset = json.loads((folder / "dataset.json").read_text())
        dataset["labels"] = labels or dataset["labels"]
        return RefSAM3DTrainer(plans, "3d_fullres", fold, dataset, torch.device("cpu"))

    return _make


@pytest.fixture
def sam_file(tmp_path, monkeypatch) -> Path:
    """An official-form checkpoint with random weights and the sizes of vit_t."""
    from segment_anything.modeling.image_encoder import ImageEncoderViT

    torch.manual_seed(5)
    encoder = ImageEncoderViT(
        img_size=64,
        embed_dim=192,
        depth=12,
        num_heads=3,
        norm_layer=partial(torch.nn.LayerNorm, eps=1e-6),
        use_rel_pos=True,
        window_size=2,
        global_attn_indexes=(2, 5, 8, 11),
    )
    path = tmp_path / "sam_vit_t.pth"
    torch.save({f"image_encoder.{n}": t for n, t in encoder.state_dict().items()}, path)
    monkeypatch.setenv("REFSAM3D_CHECKPOINT", str(path))
    return path


def write_dataset(folder: Path, variant: str, cases: int = 5) -> None:
    """Noise with a bright box on the left and a brighter one on the right."""
    labels = LABELS[variant]
    for name in ("imagesTr", "labelsTr", "imagesTs"):
        (folder / name).mkdir(parents=True)
    for index in range(cases + 1):
        image, segmentation = draw_case(np.random.default_rng(index))
        if "ignore" in labels:
            segmentation[:3] = labels["ignore"]
        if index == cases:
            write_image(folder / "imagesTs" / f"case_{index}_0000.nii.gz", image)
            continue
        write_image(folder / "imagesTr" / f"case_{index}_0000.nii.gz", image)
        write_image(folder / "labelsTr" / f"case_{index}.nii.gz", segmentation)
    description = {
        "channel_names": {"0": "CT"},
        "labels": labels,
        "numTraining": cases,
        "file_ending": ".nii.gz",
    }
    if any(isinstance(value, list) for value in labels.values()):
        description["regions_class_order"] = [1, 2]
    (folder / "dataset.json").write_text(json.dumps(description))


def draw_case(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    segmentation = np.zeros(SHAPE, np.uint8)
    for label, centre in ((1, 20), (2, 7)):  # LPS: the patient's left is at large x
        z, y, x = (int(c + rng.integers(-2, 3)) for c in (10, 12, centre))
        segmentation[z - 3 : z + 3, y - 4 : y + 4, x - 4 : x + 4] = label
    image = rng.normal(0, 20, SHAPE) + 100 * segmentation
    return image.astype(np.float32), segmentation


def write_image(path: Path, array: np.ndarray) -> None:
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(SPACING)
    sitk.WriteImage(image, str(path))
