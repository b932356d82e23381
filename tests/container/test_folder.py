"""What `refsam3d container` writes, and what it refuses before it writes anything."""

import ast
import json
import re
import shutil
import sys
import zipfile
from pathlib import Path

import pytest
import torch

from refsam3d_nnunet import cli
from refsam3d_nnunet.container import folder as module
from refsam3d_nnunet.container.model import copy_model, read_model
from refsam3d_nnunet.network.slim import BACKBONE_HASH, is_slim
from refsam3d_nnunet.nnunet_checkpoint import read_nnunet_checkpoint
from refsam3d_nnunet.slim.backbone import read_backbone
from tests.prediction.tiny_model import FINAL, write_model

pytestmark = [
    # nnU-Net's, not ours
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]
TEXTS = ["Dockerfile", "README.md", "build.sh", "inference.py", "requirements.txt"]
TEXTS += ["save.sh", "test_run.sh", ".dockerignore"]
MODEL_FILES = ["dataset.json", "dataset_fingerprint.json", f"fold_0/{FINAL}", "plans.json"]


def constants(script: Path) -> dict:
    body = ast.parse(script.read_text()).body
    assigned = [node for node in body if isinstance(node, ast.Assign)]
    return {node.targets[0].id: ast.literal_eval(node.value) for node in assigned}


def command(folder: Path, model: Path, *options: str) -> int:
    return cli.main(["container", str(folder), "-m", str(model), *options])


@pytest.fixture
def no_wheel(monkeypatch):
    """A build takes long, and one test is enough for it."""
    monkeypatch.setattr(module, "write_wheel", lambda folder: (folder / "x.whl").touch())


@pytest.fixture
def copied(model, tmp_path) -> Path:
    """A model to be broken."""
    return shutil.copytree(model, tmp_path / "copied" / model.name)


def test_the_folder_has_what_a_submission_needs(written):
    files = {path.relative_to(written).as_posix() for path in written.rglob("*") if path.is_file()}
    wheels = {name for name in files if name.endswith(".whl")}
    assert files - wheels == {*TEXTS, *(f"model/{name}" for name in MODEL_FILES)}
    (wheel,) = wheels
    with zipfile.ZipFile(written / wheel) as archive:
        names = set(archive.namelist())
    packed = {"refsam3d_nnunet/container/files/Dockerfile", "refsam3d_nnunet/cli.py"}
    assert packed | {"refsam3d_nnunet.pth"} <= names
    assert [path.name for path in written.parent.iterdir()] == [written.name], "nothing beside it"


def test_the_choices_are_constants_at_the_top(written):
    assert constants(written / "inference.py") == {
        "INPUTS": ["ct-image"],
        "OUTPUT": "kidneys",
        "FOLDS": [0],
        "CHECKPOINT": FINAL,
        "STEP_SIZE": 0.75,
        "MIRRORING": True,
    }
    comments = [
        line for line in (written / "inference.py").read_text().splitlines() if "  # " in line
    ]
    assert len(comments) == 5, "they stay"


def test_the_texts_are_filled_in(written):
    texts = {name: (written / name).read_text() for name in TEXTS}
    assert not [name for name, text in texts.items() if re.search(r"@[a-z]+@", text)]
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    assert f"\nARG PYTHON={version}\n" in texts["Dockerfile"]
    assert "ENV HOME=/tmp \\\n    USER=user \\\n" in texts["Dockerfile"]
    assert "    HF_HUB_OFFLINE=1 \\\n" in texts["Dockerfile"]
    assert "--tag my-submission " in texts["build.sh"]
    assert "Dataset901_Tiny/RefSAM3DTrainer__RefSAM3DPlans__3d_fullres" in texts["README.md"]
    pins = texts["requirements.txt"].splitlines()
    assert all(re.fullmatch(r"[a-z0-9-]+==[0-9][^+]*", line) for line in pins)
    names = {line.partition("==")[0] for line in pins}
    assert {"torch", "nnunetv2", "simpleitk", "segment-anything", "numpy"} <= names
    assert not {"transformers", "refsam3d-nnunet", "pytest", "monai"} & names


def test_no_address_is_written(written):
    for name in TEXTS:
        found = re.findall(
            r"[a-z]+://|\b[a-z0-9-]+\.(?:io|co|net|com|org)\b", (written / name).read_text()
        )
        assert set(found) <= {"grand-challenge.org"}, name


def test_files_can_be_read_by_any_user(written):
    for path in [written, *written.rglob("*")]:
        assert path.stat().st_mode & 0o044 == 0o044, path


def test_checkpoints_lose_what_prediction_does_not_read(written, model):
    before, after = (
        torch.load(path / "fold_0" / FINAL, weights_only=False)
        for path in (model, written / "model")
    )
    wanted = {"trainer_name", "init_args", "inference_allowed_mirroring_axes", "network_weights"}
    assert set(after) == wanted
    for name, tensor in before["network_weights"].items():
        assert torch.equal(after["network_weights"][name], tensor)
    assert after["init_args"] == before["init_args"]


@pytest.mark.parametrize("path", ["/home/a name/sam_vit_b.pth", r"C:\a name\sam_vit_b.pth"])
def test_folders_of_pretrained_weights_stay_at_home(copied, tmp_path, path):
    plans, trained = copied / "plans.json", copied / "fold_0" / FINAL
    plan, content = json.loads(plans.read_text()), torch.load(trained, weights_only=False)
    for block in (plan["refsam3d"], content["init_args"]["plans"]["refsam3d"]):
        block |= {"checkpoint": path, "decoder_checkpoint": None}
    plans.write_text(json.dumps(plan))
    torch.save(content, trained)

    copy_model(read_model(copied, [0], FINAL), tmp_path / "out")

    copy = read_nnunet_checkpoint(tmp_path / "out" / "fold_0" / FINAL)
    plan = json.loads((tmp_path / "out" / "plans.json").read_text())
    for block in (plan["refsam3d"], copy["init_args"]["plans"]["refsam3d"]):
        assert (block["checkpoint"], block["decoder_checkpoint"]) == ("sam_vit_b.pth", None)


def test_slim_checkpoints_become_whole(tmp_path):
    model = write_model(tmp_path / "slim", folds=(0, "all"), slim=True)
    (backbone,) = model.glob("*.safetensors")
    plan = json.loads((model / "plans.json").read_text())["refsam3d"]
    frozen = read_backbone(backbone, plan["slim"]["sha256"])
    copy_model(read_model(model, [0, "all"], FINAL), tmp_path / "out")
    for fold in ("fold_0", "fold_all"):
        assert is_slim(read_nnunet_checkpoint(model / fold / FINAL)["network_weights"])
        content = read_nnunet_checkpoint(tmp_path / "out" / fold / FINAL)
        weights = content["network_weights"]
        assert BACKBONE_HASH not in weights
        assert frozen
        assert all(torch.equal(weights[name], tensor) for name, tensor in frozen.items())
        assert "slim" not in content["init_args"]["plans"]["refsam3d"]
    assert "slim" not in json.loads((tmp_path / "out" / "plans.json").read_text())["refsam3d"]
    assert not list((tmp_path / "out").glob("*.safetensors"))

    backbone.unlink()
    with pytest.raises(FileNotFoundError, match="The checkpoint is slim"):
        copy_model(read_model(model, None, FINAL), tmp_path / "again")


def test_an_empty_folder_will_do_and_all_folds_are_the_default(model, tmp_path, no_wheel):
    folder = tmp_path / "deep" / "box"
    folder.mkdir(parents=True)
    assert command(folder, model, "--disable-tta") == 0
    values = constants(folder / "inference.py")
    assert (values["FOLDS"], values["INPUTS"], values["MIRRORING"]) == ([0, 1], [], False)
    assert sorted(path.name for path in (folder / "model").glob("fold_*")) == ["fold_0", "fold_1"]


def no_plans(model):
    (model / "plans.json").unlink()


def other_trainer(model):
    (model / "plans.json").write_text("{}")


def no_dataset(model):
    (model / "dataset.json").unlink()


def torn_dataset(model):
    (model / "dataset.json").write_text("{")


def no_checkpoint(model):
    (model / "fold_1" / FINAL).unlink()


def torn_checkpoint(model):
    (model / "fold_1" / FINAL).write_bytes(b"PK")


def cascade(model):
    plans = json.loads((model / "plans.json").read_text())
    plans["configurations"]["3d_fullres"]["previous_stage"] = "3d_lowres"
    (model / "plans.json").write_text(json.dumps(plans))


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (no_plans, "-m wants the folder that nnU-Net trained into"),
        (other_trainer, "is not a model of RefSAM3DTrainer"),
        (no_dataset, r"There is no .*dataset.json: wanted is a model folder"),
        (torn_dataset, r"dataset.json is no readable JSON"),
        (no_checkpoint, r"There is no .*fold_1/checkpoint_final.pth"),
        (torn_checkpoint, r"fold_1/checkpoint_final.pth .* cannot be read"),
        (cascade, "second stage of a cascade"),
    ],
)
def test_a_bad_model_is_refused_before_anything_is_written(
    copied, tmp_path, no_wheel, capsys, harm, message
):
    harm(copied)
    out = tmp_path / "out"
    assert command(out / "box", copied, "-f", "0", "1") == 2
    assert re.search(message, capsys.readouterr().err)
    assert not out.exists()


def test_a_folder_in_use_is_left_alone(model, tmp_path, no_wheel, capsys):
    (tmp_path / "notes.txt").touch()
    for folder in (tmp_path, tmp_path / "notes.txt"):
        assert command(folder, model) == 2
        assert "is there and not empty; name a new folder" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_what_fails_midway_leaves_nothing(model, tmp_path, monkeypatch, no_wheel, capsys):
    def fail(*_):
        raise ValueError("the disk is full")

    monkeypatch.setattr(module, "copy_model", fail)
    assert command(tmp_path / "box", model) == 2
    assert "the disk is full" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_sockets_must_fit_the_channels(model, tmp_path, no_wheel, capsys):
    assert command(tmp_path / "box", model, "--input", "ct", "pet") == 2
    assert "wants 1 channel(s) of an image, and --input names 2" in capsys.readouterr().err
    for slug in ("../x", "CT image", ""):
        with pytest.raises(SystemExit):
            command(tmp_path / "box", model, "--output", slug)
        assert "a socket's slug has small letters" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("options", [[], ["-m", "x", "--check", "y"]])
def test_write_or_check(options, capsys):
    with pytest.raises(SystemExit):
        cli.main(["container", "box", *options])
    assert "--check" in capsys.readouterr().err
