"""SAM's three published sizes in the networks that are planned, tensor by tensor."""

import re

import pytest
import torch
from segment_anything import sam_model_registry

from refsam3d_nnunet.design import design_network
from refsam3d_nnunet.network.refsam3d import RefSAM3D
from refsam3d_nnunet.network.tuning import apply_tuning
from tests.pretrained.sam_states import load_sam

PLANS = {
    "2d": ((512, 512), (0.8, 0.8)),
    "anisotropic": ((20, 320, 256), (3.0, 0.6, 0.6)),
    "cubic": ((128, 128, 128), (1.0, 1.0, 1.0)),
}
# What documentation/weights.md says: SAM has nothing like these.
NEW = re.compile(
    r"image_encoder\.(patch_embed\.depth_|pos_embed_depth|necks\.|blocks\.\d+\.adapter\.)"
    r"|image_stem\.|text\.|cross_attention\.(?!3\.out\.bias)"
    r"|mask_decoder\.(laterals|ups|hyper_networks)\."
)
NOT_USED = re.compile(
    r"image_encoder\.neck\.|prompt_encoder\.(point_emb|not_a_point|mask_downscaling)"
    r"|mask_decoder\.(iou_|output_upscaling|output_hypernetworks)"
)


def _official(preset):
    """A checkpoint of the real names and shapes that takes no memory."""
    with torch.device("meta"):
        shapes = {name: t.shape for name, t in sam_model_registry[preset]().state_dict().items()}
    return {name: torch.ones(()).expand(shape) for name, shape in shapes.items()}


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("preset", ["vit_b", "vit_l", "vit_h"])
def test_nothing_is_missing_and_nothing_unexpected(preset, plan):
    config = design_network(*PLANS[plan], preset)
    with torch.device("meta"):
        network = RefSAM3D(1, 3, text_dim=384, text_words=4, **config.to_json())
    apply_tuning(network, "adapter", "sam")
    state = _official(preset)
    report = load_sam(state, dict(network.state_dict()))

    assert {name for name in network.state_dict() if NEW.match(name)} == set(report.fresh)
    assert {name for name in state if NOT_USED.match(name)} == set(report.ignored)
    frozen = {name for name, p in network.named_parameters() if not p.requires_grad}
    assert frozen <= {*report.loaded, *report.adapted}
    assert sum(name.endswith("qkv.weight") for name in frozen) == config.depth
