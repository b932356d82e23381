"""What the folds of a model folder must share."""

import copy
import json

import pytest

from refsam3d_nnunet.environment import Settings
from refsam3d_nnunet.same_model import block_of_folder, check_same_model
from tests.default_plans import completed


def test_folds_of_different_networks_do_not_mix(tmp_path):
    trained = completed(settings=Settings(preset="vit_s"))
    check_same_model(copy.deepcopy(trained), trained, "3d_fullres", tmp_path)
    longer = completed(settings=Settings(preset="vit_s", num_epochs=7))
    check_same_model(longer, trained, "3d_fullres", tmp_path)
    with pytest.raises(ValueError, match="embed_dim: 384 there, 192 here"):
        check_same_model(completed(), trained, "3d_fullres", tmp_path)
    renamed = copy.deepcopy(trained)
    renamed["refsam3d"]["class_prompts"] = ["background", "spleen"]
    with pytest.raises(ValueError, match="class_prompts: .*liver.*there, .*spleen.*here"):
        check_same_model(renamed, trained, "3d_fullres", tmp_path)


def test_a_model_folder_counts_from_its_first_checkpoint_on(tmp_path):
    plans = completed()
    assert block_of_folder(tmp_path / "none", plans, "3d_fullres") == {}
    (tmp_path / "plans.json").write_text(json.dumps(plans))
    assert block_of_folder(tmp_path, plans, "3d_fullres") == {}
    (tmp_path / "fold_0").mkdir()
    (tmp_path / "fold_0" / "checkpoint_latest.pth").touch()
    assert block_of_folder(tmp_path, plans, "3d_fullres") == plans["refsam3d"]
    with pytest.raises(ValueError, match="holds folds of another RefSAM3D model"):
        block_of_folder(tmp_path, completed(settings=Settings(preset="vit_s")), "3d_fullres")
