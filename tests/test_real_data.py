"""What real volumes, beside the checkout where there are any, say about prompts and sides."""

import json

import numpy as np
import pytest
import SimpleITK as sitk
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO

from refsam3d_nnunet.orientation import left_right_axis
from refsam3d_nnunet.text.names import class_prompts, mentions_side


@pytest.mark.parametrize(
    ("folder", "first", "sided"),
    [
        ("hippocampus", "anterior hippocampus", False),
        ("openkbp_hn_ct", "brainstem", True),
        ("chaos_t2_mr", "liver", True),
    ],
)
def test_label_names_become_prompts(shared_data, folder, first, sided):
    prompts = class_prompts(json.loads((shared_data / folder / "dataset.json").read_text()))
    assert prompts[:2] == ["background", first]
    assert mentions_side(prompts) == sided


@pytest.mark.parametrize(
    ("folder", "right", "left"), [("openkbp_hn_ct", 3, 4), ("chaos_t2_mr", 2, 3)]
)
def test_the_left_right_axis_is_the_one_that_parts_paired_organs(shared_data, folder, right, left):
    for path in sorted((shared_data / folder / "labelsTr").glob("*.nii.gz"))[:3]:
        labels, properties = SimpleITKIO().read_seg(str(path))
        centres = [np.argwhere(labels[0] == label).mean(0) for label in (right, left)]
        spacing = np.array(properties["spacing"])
        apart = np.abs((centres[0] - centres[1]) * spacing)
        assert left_right_axis(properties, (0, 1, 2)) == int(apart.argmax())

        image = sitk.ReadImage(str(path))
        x = [image.TransformContinuousIndexToPhysicalPoint(c[::-1].tolist())[0] for c in centres]
        assert x[0] < x[1], "LPS: the patient's right lies at small x"
