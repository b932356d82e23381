"""inference.py finds the images of a platform, or says what is wrong."""

import runpy
from pathlib import Path

import pytest

from refsam3d_nnunet.container import runtime

pytestmark = [
    # nnU-Net's, not ours
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


@pytest.fixture(scope="module")
def script() -> dict:
    return runpy.run_path(str(Path(runtime.__file__).with_name("files") / "inference.py"))


@pytest.fixture
def images(tmp_path) -> Path:
    for name in ("pet", "ct"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{name}.1.mha").touch()
        (tmp_path / name / "notes.json").touch()
    return tmp_path


def test_sockets_are_channels_in_the_order_of_inputs(script, images, monkeypatch):
    monkeypatch.setitem(script["socket_case"].__globals__, "INPUTS", ["pet", "ct"])
    case = script["socket_case"](images, 2)
    assert case.files == (images / "pet" / "pet.1.mha", images / "ct" / "ct.1.mha")
    assert (case.name, case.ending) == ("pet", ".mha")


def test_the_only_socket_needs_no_name(script, images):
    with pytest.raises(ValueError, match=r"Wanted are 1 of the sockets .'ct', 'pet'.: name them"):
        script["socket_case"](images, 1)
    with pytest.raises(ValueError, match="Wanted are 2 .* name them in INPUTS"):
        script["socket_case"](images, 2)  # their order is not that of the alphabet
    (images / "pet").rename(images.parent / f"{images.name}_pet")
    assert script["socket_case"](images, 1).files == (images / "ct" / "ct.1.mha",)


def test_a_socket_holds_one_image(script, images, monkeypatch):
    monkeypatch.setitem(script["socket_case"].__globals__, "INPUTS", ["ct"])
    (images / "ct" / "other.mha").touch()
    with pytest.raises(ValueError, match="ct should hold one image, and holds 2"):
        script["socket_case"](images, 1)
    monkeypatch.setitem(script["socket_case"].__globals__, "INPUTS", ["mr"])
    with pytest.raises(ValueError, match="name them in INPUTS"):
        script["socket_case"](images, 1)


def test_places(script, tmp_path, monkeypatch):
    empty, full = tmp_path / "empty", tmp_path / "full"
    (full / "x").mkdir(parents=True)
    empty.mkdir()
    place = script["place"]
    assert place("INPUT", str(empty), str(full)) == full, "the first that holds something"
    assert place("INPUT", str(empty), str(tmp_path / "no")) == empty
    monkeypatch.setenv("REFSAM3D_CONTAINER_INPUT", str(tmp_path / "named"))
    assert place("INPUT", str(full)) == tmp_path / "named"
