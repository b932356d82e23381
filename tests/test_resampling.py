"""Deferred logits must give what nnU-Net's own functions give, in less memory."""

import numpy as np
import pytest
import torch
from nnunetv2.preprocessing.resampling.resample_torch import resample_torch_fornnunet
from nnunetv2.utilities.label_handling.label_handling import LabelManager
from torch.utils._python_dispatch import TorchDispatchMode

from refsam3d_nnunet import resampling
from refsam3d_nnunet.label_manager import RefSAM3DLabelManager
from refsam3d_nnunet.resampling import DeferredLogits, refsam3d_resample_logits
from tests.random_logits import KINDS, LABELS, ORDER, REGIONS, make_logits

SPACINGS = ((1, 1, 1), (1, 1, 1))
SHAPES = {  # of the network -> of the image
    "up": ((5, 7, 6), (9, 11, 13)),
    "down": ((9, 11, 13), (5, 7, 6)),
    "down to a third": ((13, 14, 15), (4, 5, 5)),
    "up and down": ((5, 12, 6), (11, 7, 6)),
    "2D": ((4, 7, 6), (4, 11, 13)),
    "depth alone": ((4, 7, 6), (7, 7, 6)),
    "one slice": ((1, 7, 6), (1, 9, 5)),
    "one slice to many": ((1, 7, 6), (4, 9, 5)),
    "many slices to one": ((4, 7, 6), (1, 9, 5)),
    "unchanged": ((5, 7, 6), (5, 7, 6)),
}
GRIDS = pytest.mark.parametrize(("source", "wanted"), SHAPES.values(), ids=SHAPES)


def of_nnunet(logits, wanted):
    """What models planned before name."""
    return resample_torch_fornnunet(logits, wanted, *SPACINGS, is_seg=False, force_separate_z=False)


def assert_same_labels(ours, logits, wanted, manager):
    """Voxels may differ where the two best classes, or a region and 0.5, differ by rounding."""
    resampled = torch.as_tensor(of_nnunet(logits, wanted)).float()
    theirs = manager.convert_logits_to_segmentation(resampled)
    best = resampled.topk(2, dim=0).values
    margin = resampled.abs().amin(0) if manager.has_regions else best[0] - best[1]
    differs = torch.as_tensor(ours) != theirs
    assert ours.shape == tuple(wanted)
    assert margin[differs].max() < 1e-5 if differs.any() else True
    assert differs.float().mean() < 0.01


@GRIDS
@KINDS
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.float64])
def test_labels_are_those_of_nnunet(source, wanted, labels, order, dtype):
    logits = make_logits(*source, dtype=dtype)

    ours = RefSAM3DLabelManager(labels, order).convert_logits_to_segmentation(
        refsam3d_resample_logits(logits, wanted, *SPACINGS)
    )

    assert_same_labels(ours, logits, wanted, LabelManager(labels, order))


@GRIDS
@KINDS
def test_probabilities_are_those_of_nnunet(source, wanted, labels, order):
    logits = make_logits(*source, dtype=torch.float16)

    ours = RefSAM3DLabelManager(labels, order).apply_inference_nonlin(
        refsam3d_resample_logits(logits, wanted, *SPACINGS)
    )

    theirs = LabelManager(labels, order).apply_inference_nonlin(of_nnunet(logits, wanted))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


def test_a_steep_edge_far_along_a_long_volume_stays_where_it_is():
    logits = torch.zeros(1, 301, 2, 2, dtype=torch.float64)
    logits[0, ::2] = 30

    ours = refsam3d_resample_logits(logits, (443, 2, 2), *SPACINGS).full()

    exact = torch.nn.functional.interpolate(logits[None], (443, 2, 2), mode="trilinear")[0]
    torch.testing.assert_close(ours.double(), exact, rtol=0, atol=1e-5)


def test_a_ramp_is_interpolated_between_the_centres_of_the_voxels():
    ramp = torch.tensor([0.0, 4.0])[None, :, None, None]

    resampled = DeferredLogits(ramp, (4, 1, 1)).full()

    assert resampled.flatten().tolist() == [0, 1, 3, 4]


@KINDS
@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_numpy_arrays_are_read_as_well(labels, order, kind):
    logits = make_logits(5, 7, 6).numpy().astype(kind)

    ours = RefSAM3DLabelManager(labels, order).convert_logits_to_segmentation(
        refsam3d_resample_logits(logits, np.array([9, 11, 13]), *SPACINGS)
    )

    assert_same_labels(ours, logits, [9, 11, 13], LabelManager(labels, order))


@GRIDS
@KINDS
@pytest.mark.parametrize("voxels", [1, 300])
def test_slabs_leave_no_trace(source, wanted, labels, order, voxels, monkeypatch):
    manager = RefSAM3DLabelManager(labels, order)
    deferred = refsam3d_resample_logits(make_logits(*source), wanted, *SPACINGS)
    segmentation, logits = manager.convert_logits_to_segmentation(deferred), deferred.full()
    probabilities = manager.apply_inference_nonlin(deferred)
    assert len(list(deferred.slabs())) == 1
    largest_plane = max(np.prod(source[1:]), np.prod(wanted[1:]))

    monkeypatch.setattr(resampling, "SLAB_VOXELS", voxels)

    assert len(list(deferred.slabs())) == -(-wanted[0] // max(1, voxels // largest_plane))
    assert torch.equal(manager.convert_logits_to_segmentation(deferred), segmentation)
    assert torch.equal(deferred.full(), logits)
    torch.testing.assert_close(
        manager.apply_inference_nonlin(deferred), probabilities, rtol=0, atol=1e-6
    )  # torch's softmax rounds the last voxels of a row otherwise


@pytest.mark.parametrize("wanted", [(5, 7, 6), (8, 7, 6)])
def test_the_logits_stay_as_they_are(wanted):
    logits = make_logits(5, 7, 6)
    before, manager = logits.clone(), RefSAM3DLabelManager(LABELS, None)
    deferred = refsam3d_resample_logits(logits, wanted, *SPACINGS)

    manager.convert_logits_to_segmentation(deferred)
    manager.apply_inference_nonlin(deferred)

    assert torch.equal(logits, before)


def test_the_first_of_equal_classes_wins():
    logits = torch.zeros(4, 2, 2, 2)
    logits[1:3] = 1

    labels = RefSAM3DLabelManager(LABELS, None).convert_logits_to_segmentation(
        refsam3d_resample_logits(logits, (3, 3, 3), *SPACINGS)
    )

    assert labels.unique().tolist() == [1]


def test_a_nonlinearity_that_looks_at_all_regions_sees_all():
    logits = torch.zeros(4, 2, 2, 2)
    logits[2] = 1  # below 0.5 by softmax, above by sigmoid
    one_of = {"inference_nonlin": lambda x: torch.softmax(x, 0)}

    labels = RefSAM3DLabelManager(REGIONS, ORDER, **one_of).convert_logits_to_segmentation(
        refsam3d_resample_logits(logits, (3, 3, 3), *SPACINGS)
    )

    assert labels.unique().tolist() == [0]


@KINDS
def test_what_is_not_deferred_goes_to_nnunet(labels, order):
    ours, theirs = (kind(labels, order) for kind in (RefSAM3DLabelManager, LabelManager))
    for logits in (make_logits(3, 4, 5), make_logits(3, 4, 5).numpy()):
        for method in ("convert_logits_to_segmentation", "apply_inference_nonlin"):
            mine, other = getattr(ours, method)(logits), getattr(theirs, method)(logits)
            assert type(mine) is type(other)
            np.testing.assert_array_equal(mine, other)


class LargestTensor(TorchDispatchMode):
    """Records the largest array that any operation made, in bytes."""

    def __init__(self):
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor):
            self.bytes = max(self.bytes, result.nbytes)
        return result


@pytest.mark.parametrize("labels_are", ["labels", "regions"])
def test_a_hundred_classes_take_no_more_memory_than_four(labels_are, monkeypatch):
    monkeypatch.setattr(resampling, "SLAB_VOXELS", 2 * 24 * 24)
    largest = []
    for classes in (4, 100):
        heads = {f"class {i}": i for i in range(1, classes)}
        if labels_are == "regions":
            heads = {name: [i, i] for name, i in heads.items()} | {"last": [classes, classes]}
        manager = RefSAM3DLabelManager({"background": 0, **heads}, list(range(1, classes + 1)))
        logits = torch.randn(classes, 16, 16, 16).half()
        with LargestTensor() as made:
            manager.convert_logits_to_segmentation(
                refsam3d_resample_logits(logits, (24,) * 3, *SPACINGS)
            )
        largest.append(made.bytes)

    assert largest[0] == largest[1] == 24**3 * 2  # the segmentation; all classes are 5.5 MB


def test_beside_probabilities_there_are_a_few_slices(monkeypatch):
    monkeypatch.setattr(resampling, "SLAB_VOXELS", 2 * 24 * 24)
    made_by = []
    deferred = refsam3d_resample_logits(torch.randn(100, 16, 16, 16), (24,) * 3, *SPACINGS)

    def softmax(x):
        made_by.append(x.numel())
        return torch.softmax(x, 0)

    deferred.probabilities(softmax)

    assert max(made_by) <= 2 * 24 * 24
    assert sum(made_by) == 100 * 24**3


@pytest.mark.parametrize(
    ("shape", "wanted", "message"),
    [
        ((2, 3, 4), (3, 4), r"k z y x .* got logits of shape \(2, 3, 4\)"),
        ((2, 3, 4, 5), (4, 5), r"and the shape \(4, 5\)"),
        ((2, 3, 4, 5), (4, 0, 5), r"and the shape \(4, 0, 5\)"),
        ((0, 3, 4, 5), (4, 4, 5), r"logits of shape \(0, 3, 4, 5\)"),
    ],
)
def test_what_is_no_volume_is_refused(shape, wanted, message):
    with pytest.raises(ValueError, match=message):
        refsam3d_resample_logits(torch.zeros(shape), wanted, *SPACINGS)


def test_another_number_of_classes_is_refused():
    deferred = refsam3d_resample_logits(make_logits(2, 3, 4), (4, 5, 6), *SPACINGS)
    with pytest.raises(ValueError, match="4 channels, but the data set's labels make 2"):
        RefSAM3DLabelManager({"background": 0, "liver": 1}, None).convert_logits_to_segmentation(
            deferred
        )
