"""`refsam3d prompts`, and what `refsam3d predict` refuses before it loads a network."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from refsam3d_nnunet import cli
from refsam3d_nnunet.prediction.images import Case
from refsam3d_nnunet.text.phrases import phrase_bank

CLASSES = phrase_bank({"labels": {"background": 0, "kidney_left": 1}})


@pytest.fixture
def model(tmp_path) -> Path:
    block = {
        "format": 1,
        "class_prompts": [one.canonical for one in CLASSES],
        "classes": [one.to_json() for one in CLASSES],
    }
    (tmp_path / "plans.json").write_text(json.dumps({"refsam3d": block}))
    return tmp_path


def test_prompts_are_listed(model, capsys):
    assert cli.main(["prompts", "-m", str(model)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "left kidney  (label kidney_left)" in lines
    assert "    perform left kidney segmentation" in lines
    assert "    left nephric organ  (held out: not trained)" in lines
    assert cli.main(["prompts", "-m", str(model), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == [one.to_json() for one in CLASSES]


def test_prompts_are_listed_without_torch(repo, model):
    code = (
        "import sys; from refsam3d_nnunet import cli\n"
        f"cli.main(['prompts', '-m', {str(model)!r}]); print(*sys.modules)"
    )
    out = subprocess.check_output([sys.executable, "-c", code], cwd=repo, text=True)
    assert {"torch", "nnunetv2", "transformers"} & {*out.splitlines()[-1].split()} == set()


def test_a_folder_that_is_no_model(tmp_path, capsys):
    assert cli.main(["prompts", "-m", str(tmp_path)]) == 2
    assert "-m wants the folder that nnU-Net trained into" in capsys.readouterr().err
    (tmp_path / "plans.json").write_text("{}")
    assert cli.main(["prompts", "-m", str(tmp_path)]) == 2
    assert "is not a model of RefSAM3DTrainer" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is no readable JSON"),
        ("[]", "must look like"),
        ("{}", "must look like"),
        ('{"b": ["liver"]}', "names the image 'b', which -i does not have; it has 'a'"),
        ('{"a": "liver"}', "the prompts of 'a' must be a list, got 'liver'"),
        ('{"a": [1]}', "image 'a': A prompt must be a phrase such as 'left kidney', got 1"),
        ('{"a": []}', "image 'a': There is no prompt"),
        ('{"a": ["liver"], "a_0000.nii.gz": ["spleen"]}', "the image 'a' twice; once as 'a_0000"),
        ('{"a": ["liver", "Liver"]}', "image 'a': The prompt 'Liver' is there twice"),
    ],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_bad_jobs(tmp_path, content, message):
    from refsam3d_nnunet.prediction.run import jobs_of

    file = tmp_path / "jobs.json"
    file.write_text(content)
    cases = [Case("a", (Path("a_0000.nii.gz"),), ".nii.gz")]
    with pytest.raises(ValueError, match=message):
        jobs_of(cases, None, file)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_jobs_know_images_by_case_and_by_file(tmp_path):
    from refsam3d_nnunet.prediction.run import jobs_of

    file = tmp_path / "jobs.json"
    a, b = (Case(name, (Path(f"{name}_0000.nii.gz"),), ".nii.gz") for name in "ab")
    file.write_text('{"b_0000.nii.gz": ["liver"], "a": ["left kidney", "liver"]}')
    assert jobs_of([a, b], None, file) == {b: ("liver",), a: ("left kidney", "liver")}
    assert jobs_of([a, b], ["liver"], None) == {a: ("liver",), b: ("liver",)}
    assert jobs_of([a, b], None, None) == {a: None, b: None}, "all trained classes"
    with pytest.raises(ValueError, match="There is no prompt"):
        jobs_of([a, b], [], None)


def test_not_prompts_and_jobs(capsys):
    with pytest.raises(SystemExit):
        asked = ["--prompt", "liver", "--jobs", "x.json"]
        cli.main(["predict", "-i", "x", "-o", "y", "-m", "z", *asked])
    assert "--jobs: not allowed with argument --prompt" in capsys.readouterr().err
