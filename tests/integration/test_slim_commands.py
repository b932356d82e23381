"""Slim checkpoints through nnU-Net's commands, and passed on."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from refsam3d_nnunet.files import sha256_of
from refsam3d_nnunet.network.slim import backbone_hash
from refsam3d_nnunet.slim.merge import export_zip, merge_folder
from tests.integration.conftest import TRAIN
from tests.integration.trainer_steps import FINAL, backbones, load
from tests.pretrained.sam_states import make_sam

pytestmark = [
    pytest.mark.integration,
    # nnU-Net's, not ours
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]
STOCK = (
    "nnUNetv2_predict -d 901 -tr RefSAM3DTrainer -p RefSAM3DPlans -c 3d_fullres -device cpu"
    " -npp 0 -nps 0 --disable_tta --save_probabilities"
)


@pytest.fixture(scope="module")
def model(planned, tmp_path_factory):
    """Two slim folds, trained, validated and ensembled by nnU-Net's own commands."""
    torch.manual_seed(0)
    sam = tmp_path_factory.mktemp("sam") / "sam_vit_t.pth"
    torch.save(make_sam(dim=192, depth=12, heads=3).state_dict(), sam)
    planned.edit_plans(
        "RefSAM3DPlans",
        lambda plans: plans["refsam3d"].update(tuning="adapter", checkpoint=str(sam)),
    )
    planned.log = planned.run(
        f"nnUNetv2_train 901 3d_fullres 0 {TRAIN}", REFSAM3D_SLIM_CHECKPOINTS="1"
    )
    planned.run(
        f"nnUNetv2_train 901 3d_fullres 1 {TRAIN}",
        f"nnUNetv2_train 901 3d_fullres 0 {TRAIN} --val --val_best",
        f"nnUNetv2_train 901 3d_fullres 0 {TRAIN} --c",
    )
    return planned


def predict(space, out: Path, **extra: str) -> dict[str, bytes]:
    images = space.raw / space.name / "imagesTs"
    space.run(f"{STOCK} -f 0 1 -i {images} -o {out}", **extra)
    return {path.name: path.read_bytes() for path in sorted(out.glob("*.n*"))}


def test_commands(model, tmp_path):
    """Train, predict, and pass on: by our export it works, by nnU-Net's it says what is missing."""
    assert "SLIM CHECKPOINTS" in model.log
    states = [load(model.model() / f"fold_{i}" / FINAL)["network_weights"] for i in (0, 1)]
    (backbone,) = backbones(model.model())
    assert {backbone_hash(state) for state in states} == {sha256_of(backbone)}
    wanted = predict(model, tmp_path / "slim")
    assert {Path(name).suffix for name in wanted} == {".gz", ".npz"}

    (tmp_path / "empty").mkdir()
    empty = {"nnUNet_results": str(tmp_path / "empty")}
    model.run(
        "nnUNetv2_export_model_to_zip -d 901 -c 3d_fullres -tr RefSAM3DTrainer -p RefSAM3DPlans"
        f" -f 0 1 -o {tmp_path / 'stock.zip'}"
    )
    model.run(f"nnUNetv2_install_pretrained_model_from_zip {tmp_path / 'stock.zip'}", **empty)
    images = model.raw / model.name / "imagesTs"
    done = model.try_run(f"{STOCK} -f 0 1 -i {images} -o {tmp_path / 'no'}", **empty)
    assert done.returncode != 0
    for told in (
        backbone.name,
        sha256_of(backbone),
        "refsam3d weights export",
        empty["nnUNet_results"],
    ):
        assert told in done.stderr

    shutil.rmtree(tmp_path / "empty" / model.name)
    exported = export_zip(model.model(), tmp_path / "ours.zip")
    assert exported == [model.model() / f"fold_{i}" / FINAL for i in (0, 1)]
    model.run(f"nnUNetv2_install_pretrained_model_from_zip {tmp_path / 'ours.zip'}", **empty)
    assert predict(model, tmp_path / "exported", **empty) == wanted
    installed = tmp_path / "empty" / model.name / model.model().name
    assert "slim" not in json.loads((installed / "plans.json").read_text())["refsam3d"]
    assert "slim" in json.loads((model.model() / "plans.json").read_text())["refsam3d"]

    copy = tmp_path / "copy"
    shutil.copytree(model.results, copy)
    merged = merge_folder(copy / model.name / model.model().name)
    assert {path.name for path in merged} == {FINAL, "checkpoint_best.pth"}
    for path in copy.rglob("refsam3d_backbone_*"):
        path.unlink()
    assert predict(model, tmp_path / "merged", nnUNet_results=str(copy)) == wanted
