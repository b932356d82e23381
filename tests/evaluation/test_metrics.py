"""Metrics of masks whose distances can be worked out by hand, and against surface-distance."""

import math
import warnings

import numpy as np
import pytest
import surface_distance
from scipy import ndimage

from refsam3d_nnunet.evaluation.metrics import DEFINITIONS, measure
from refsam3d_nnunet.evaluation.table import METRICS

ANISOTROPIC = (2.5, 0.7, 1.1)


@pytest.fixture(autouse=True)
def oracle_on_todays_libraries(monkeypatch):
    """surface-distance 0.1 asks for names that NumPy 2 dropped and SciPy is about to drop."""
    monkeypatch.setattr(np, "Inf", math.inf, raising=False)
    monkeypatch.setattr(np, "NaN", math.nan, raising=False)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*namespace is deprecated", DeprecationWarning)
        yield


def box(shape, *ranges):
    mask = np.zeros(shape, bool)
    mask[tuple(slice(*r) for r in ranges)] = True
    return mask


def of(prediction, reference, spacing=(1.0, 1.0, 1.0), tolerance=1.0):
    voxel = float(np.prod(spacing))
    return measure(prediction, reference, spacing=spacing, voxel=voxel, tolerance=tolerance)


def oracle(prediction, reference, spacing, tolerance):
    found = surface_distance.compute_surface_distances(reference, prediction, spacing)
    return {
        "dice": surface_distance.compute_dice_coefficient(reference, prediction),
        "nsd": surface_distance.compute_surface_dice_at_tolerance(found, tolerance),
        "hd95": surface_distance.compute_robust_hausdorff(found, 95),
        "assd": surface_distance.compute_average_surface_distance(found),
    }


def blob(seed, shape=(15, 17, 13)):
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), 2)
    return noise > np.quantile(noise, 0.8)


def test_every_metric_is_defined_in_the_order_of_the_table():
    assert tuple(DEFINITIONS) == METRICS == tuple(of(blob(0), blob(1)))


@pytest.mark.parametrize("spacing", [(1, 1, 1), ANISOTROPIC])
def test_the_same_mask_twice(spacing):
    values = of(blob(3), blob(3), spacing, tolerance=0)

    assert {k: v for k, v in values.items() if "volume_" not in k or k == "volume_error"} == {
        "dice": 1,
        "nsd": 1,
        "hd95": 0,
        "assd": 0,
        "volume_error": 0,
    }


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), ANISOTROPIC])
def test_a_cube_shifted_by_two_voxels(axis, spacing):
    """6^3 voxels each, 2 of 6 layers apart: the shift along the axis is 2 voxels in mm."""
    a = box((14, 14, 14), (4, 10), (4, 10), (4, 10))
    b = np.roll(a, 2, axis)
    shift = 2 * spacing[axis]

    values = of(b, a, spacing, tolerance=shift * 1.001)

    assert values["dice"] == pytest.approx(4 / 6, abs=1e-12)
    assert values["hd95"] == pytest.approx(shift, rel=1e-6)  # a face of 36 of 152 border voxels
    assert values["nsd"] == pytest.approx(1, abs=1e-6)
    assert of(b, a, spacing, tolerance=shift * 0.999)["nsd"] < 1 - 1e-3
    assert values["volume_error"] == 0
    assert values["volume_reference"] == pytest.approx(216 * np.prod(spacing) / 1000)


def test_mean_distance_of_two_plates_by_hand():
    """Plates of one voxel layer, 3 layers of 2.5 mm apart: every distance is 7.5 mm."""
    a = box((9, 8, 8), (2, 3), (0, 8), (0, 8))
    b = box((9, 8, 8), (5, 6), (0, 8), (0, 8))
    values = of(b, a, ANISOTROPIC)

    assert (values["hd95"], values["assd"]) == pytest.approx((7.5, 7.5), rel=1e-6)
    assert (values["dice"], values["nsd"]) == (0, 0)


def test_one_voxel_against_another():
    a, b = np.zeros((2, 9, 9, 9), bool)
    a[4, 4, 4] = b[5, 6, 4] = True
    values = of(b, a, ANISOTROPIC, tolerance=2)
    distance = math.hypot(2.5, 2 * 0.7)

    assert values["hd95"] == values["assd"] == pytest.approx(distance, rel=1e-6)
    assert values["dice"] == 0
    assert values["volume_prediction"] == pytest.approx(np.prod(ANISOTROPIC) / 1000)


def test_one_voxel_in_a_cube():
    """Border of 3^3 voxels without its centre: 6 at 1, 12 at sqrt 2, 8 at sqrt 3; back: 1."""
    cube, voxel = box((9, 9, 9), (3, 6), (3, 6), (3, 6)), np.zeros((9, 9, 9), bool)
    voxel[4, 4, 4] = True
    values = of(voxel, cube)
    distances = [1] * 6 + [math.sqrt(2)] * 12 + [math.sqrt(3)] * 8

    assert values["dice"] == pytest.approx(2 / 28)
    assert values["hd95"] == pytest.approx(np.quantile(distances, 0.95), rel=1e-6)
    assert values["assd"] == pytest.approx((sum(distances) + 1) / 27, rel=1e-6)
    assert values["volume_error"] == pytest.approx(-26 / 27)


def test_empty_masks():
    something, nothing = blob(0), np.zeros_like(blob(0))
    both, missed, invented = (
        of(nothing, nothing),
        of(nothing, something),
        of(something, nothing),
    )

    undefined = ("dice", "nsd", "hd95", "assd", "volume_error")
    assert all(math.isnan(both[name]) for name in undefined)
    for values in (missed, invented):
        assert (values["dice"], values["nsd"]) == (0, 0)
        assert values["hd95"] == values["assd"] == math.inf
    assert (missed["volume_error"], invented["volume_error"]) == (-1, math.inf)
    assert both["volume_prediction"] == both["volume_reference"] == missed["volume_prediction"] == 0


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), ANISOTROPIC])
@pytest.mark.parametrize("seed", range(3))
def test_dice_and_nsd_are_those_of_surface_distance(seed, spacing):
    a, b = blob(seed), blob(seed) ^ (blob(seed + 9) & blob(seed + 20))
    for tolerance in (0.0, 0.95, 1.9):
        ours, theirs = of(b, a, spacing, tolerance), oracle(b, a, spacing, tolerance)
        assert 0 < ours["nsd"] < 1
        assert ours["dice"] == pytest.approx(theirs["dice"], abs=1e-12)
        assert ours["nsd"] == pytest.approx(theirs["nsd"], abs=1e-6)


def test_distances_agree_where_they_do_not_depend_on_what_a_surface_is():
    """Between parallel plates every element, voxel or not, is as far away as any other."""
    a = box((12, 8, 8), (4, 5), (0, 8), (0, 8))
    b = np.roll(a, 3, 0)
    ours, theirs = of(b, a, ANISOTROPIC), oracle(b, a, ANISOTROPIC, 1)

    assert ours["hd95"] == pytest.approx(theirs["hd95"], rel=1e-6)


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), ANISOTROPIC])
@pytest.mark.parametrize("seed", range(4))
def test_distances_differ_from_surface_distance_by_less_than_a_voxel(seed, spacing):
    a, b = blob(seed), blob(seed) ^ (blob(seed + 9) & blob(seed + 20))
    ours, theirs = of(b, a, spacing), oracle(b, a, spacing, 1)
    voxel = math.hypot(*spacing)

    assert ours["hd95"] == pytest.approx(theirs["hd95"], abs=voxel)
    assert min(theirs["assd"]) - voxel < ours["assd"] < max(theirs["assd"]) + voxel


def test_the_edge_of_the_volume_is_a_surface():
    """Background goes on outside: a mask that touches the edge measures as inside a larger one."""
    a, b = blob(1), blob(2)
    assert a[0].any() and b[-1].any()
    inside = of(np.pad(b, 4), np.pad(a, 4), ANISOTROPIC)
    at_the_edge = of(b, a, ANISOTROPIC)

    assert at_the_edge == pytest.approx(inside, rel=1e-6)


def test_swapping_the_masks_changes_the_sign_of_the_volume_error_only():
    a, b = of(blob(1), blob(2)), of(blob(2), blob(1))

    symmetric = ("dice", "nsd", "hd95", "assd")
    assert [a[name] for name in symmetric] == pytest.approx([b[name] for name in symmetric])
    assert a["volume_prediction"] == b["volume_reference"]


def test_millimetres_scale():
    a = of(blob(1), blob(2), (1, 1, 1), tolerance=1.5)
    b = of(blob(1), blob(2), (3, 3, 3), tolerance=4.5)

    assert (b["hd95"], b["assd"]) == pytest.approx((3 * a["hd95"], 3 * a["assd"]), rel=1e-6)
    assert (a["dice"], a["nsd"]) == pytest.approx((b["dice"], b["nsd"]), rel=1e-6)
    assert b["volume_reference"] == pytest.approx(27 * a["volume_reference"])


def test_two_dimensions():
    """A square of 4 shifted by 2 pixels of 0.7 mm."""
    a = box((10, 10), (3, 7), (3, 7))
    values = of(np.roll(a, 2, 1), a, (1.1, 0.7), tolerance=1.41)

    assert values["dice"] == pytest.approx(0.5)
    assert values["hd95"] == pytest.approx(1.4, rel=1e-6)
    assert values["nsd"] == pytest.approx(1, abs=1e-6)
