"""What the planners plan for typical data sets, ours beside nnU-Net's.

::

    python benchmarks/presets.py -o documentation/planning.md

writes three tables between the page's markers: RefSAM3DPlanner and its presets of memory without
pretrained weights, beside the planners of nnU-Net that plan for as much memory; the same with SAM's
ViT-B in tuning mode adapter; and how operations grow with the patch. The planners themselves plan,
for fingerprints instead of images. No network is run: operations are counted on tensors without
numbers.
"""

import argparse
import json
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from measuring import command, flops
from page_text import write_part
from presets_page import markdown

Json = dict[str, Any]

# Ours, and the one of nnU-Net that plans for as much memory.
PLANNERS = {
    "RefSAM3DPlanner": "ExperimentPlanner",
    "RefSAM3DPlannerM": "nnUNetPlannerResEncM",
    "RefSAM3DPlannerL": "nnUNetPlannerResEncL",
    "RefSAM3DPlannerXL": "nnUNetPlannerResEncXL",
}
EDGES = (96, 128, 160, 192)  # of cubic patches, in voxels


@dataclass(frozen=True)
class DataSet:
    """What a plan depends on.

    Args:
        spacing: Millimetres of a voxel along (depth, height, width), as planned.
        shape: Median shape at that spacing, in voxels.
        cases: Number of training cases.
        classes: Classes beside the background.
        channels: Input channels.
    """

    spacing: tuple[float, float, float]
    shape: tuple[int, int, int]
    cases: int
    classes: int
    channels: int = 1


# Rounded values of public data sets, to show what is planned for images of such a kind.
DATA_SETS = {
    "MSD hippocampus": DataSet((1, 1, 1), (36, 50, 35), 260, 2),
    "ACDC": DataSet((10, 1.56, 1.56), (9, 237, 216), 200, 3),
    "BTCV": DataSet((3, 0.76, 0.76), (148, 512, 512), 30, 13),
    "AMOS": DataSet((2, 0.68, 0.68), (238, 582, 582), 360, 15),
    "BraTS": DataSet((1, 1, 1), (140, 171, 137), 1251, 3, 4),
    "LiTS": DataSet((1, 0.77, 0.77), (482, 512, 512), 131, 2),
    "KiTS": DataSet((0.78, 0.78, 0.78), (525, 512, 512), 489, 3),
    "TotalSegmentator": DataSet((1.5, 1.5, 1.5), (231, 231, 241), 1204, 104),
}


def main() -> None:
    """Writes the tables into the page that the command line names."""
    args = _arguments()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for name in [name for name in os.environ if name.startswith("REFSAM3D_")]:
            del os.environ[name]  # the tables are those of the defaults
        for kind in ("raw", "preprocessed", "results"):
            (root / kind).mkdir()
            os.environ[f"nnUNet_{kind}"] = str(root / kind)
        rows = {name: plans_of(DATA_SETS[name], root, i) for i, name in enumerate(args.sets, 1)}
        text = markdown(rows, [growth_of(edge) for edge in EDGES], command())
    write_part(args.output, "presets", "Planning", text)
    print(text)


def plans_of(data: DataSet, root: Path, number: int) -> list[Json]:
    """Rows of all planners for one data set; nnU-Net is imported here, when its folders are set.

    Args:
        data: The data set.
        root: Folder with nnU-Net's folders.
        number: Of the data set.
    """
    from nnunetv2.experiment_planning import plan_and_preprocess_api as api
    from nnunetv2.utilities.find_class_by_name import recursive_find_python_class

    _describe(data, root, f"Dataset{number:03d}_A")
    folder = str(Path(api.nnunetv2.__path__[0]) / "experiment_planning")

    def planner(name: str) -> Any:  # noqa: ANN401 - nnU-Net's planners have no annotations
        found = recursive_find_python_class(folder, name, "nnunetv2.experiment_planning")
        return found(number)

    rows = []
    for ours, theirs in PLANNERS.items():
        adapted = planner(ours)
        adapted.settings = replace(adapted.settings, preset="vit_b")
        adapted.task = replace(adapted.task, tuning="adapter")
        rows.append(
            {
                "spacing": data.spacing,
                "shape": data.shape,
                "planner": ours,
                "ours": _ours(planner(ours), data),
                "theirs": _theirs(planner(theirs), data),
                "sam_b": _ours(adapted, data),
            }
        )
    return rows


def _describe(data: DataSet, root: Path, name: str) -> None:
    """Writes what a planner reads of a data set: its description and its fingerprint."""
    for folder in ("imagesTr", "labelsTr"):
        (root / "raw" / name / folder).mkdir(parents=True)
    (root / "preprocessed" / name).mkdir()
    letters = "abcdefghijklmnopqrstuvwxyz"
    labels = {f"organ {letters[i // 26]}{letters[i % 26]}": i + 1 for i in range(data.classes)}
    description = {
        "channel_names": {str(channel): "CT" for channel in range(data.channels)},
        "labels": {"background": 0, **labels},
        "numTraining": data.cases,
        "file_ending": ".nii.gz",
    }
    fingerprint = {
        "spacings": [data.spacing],
        "shapes_after_crop": [data.shape],
        "median_relative_size_after_cropping": 1.0,
    }
    for path, content in (
        (root / "raw" / name / "dataset.json", description),
        (root / "preprocessed" / name / "dataset_fingerprint.json", fingerprint),
    ):
        path.write_text(json.dumps(content), encoding="utf-8")


def _plan(planner: Any, data: DataSet) -> Json:  # noqa: ANN401 - see plans_of
    """The configuration 3d_fullres; a mirror of what nnU-Net's plan_experiment asks for."""
    import numpy as np

    spacing, shape = np.array(data.spacing, float), np.array(data.shape, float)
    return planner.get_plans_for_configuration(
        spacing, shape, "3d_fullres", float(np.prod(shape)) * data.cases, {}
    )


def _ours(planner: Any, data: DataSet) -> Json:  # noqa: ANN401 - see plans_of
    from refsam3d_nnunet.memory import step_gb
    from refsam3d_nnunet.plans import network_config

    plan = _plan(planner, data)
    config = network_config(plan)
    forward = _forward_tflop(lambda: _network(config, data), data, plan["patch_size"])
    return {
        "patch": plan["patch_size"],
        "batch": plan["batch_size"],
        "token": config.token_size,
        "grid": config.grid_size,
        "preset": config.preset,
        "gb": step_gb(config, planner.task, plan["batch_size"]),
        "tflop": plan["batch_size"] * forward,
    }


def _network(config: Any, data: DataSet) -> torch.nn.Module:  # noqa: ANN401 - NetworkConfig
    from contenders import TEXT_DIM, WORDS

    from refsam3d_nnunet.network.refsam3d import RefSAM3D

    numbers = config.to_json()
    return RefSAM3D(data.channels, data.classes + 1, text_dim=TEXT_DIM, text_words=WORDS, **numbers)


def growth_of(edge: int) -> Json:
    """Operations of a forward of vit_s with tokens of 8 x 8 x 8 and of nnU-Net's U-Net.

    Args:
        edge: Of a cubic patch with voxels of 1 mm, in voxels.
    """
    from contest import Problem
    from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
    from rivals import UNET, unet_architecture

    from refsam3d_nnunet.design import design_network

    patch = (edge, edge, edge)
    data = DataSet((1, 1, 1), patch, 1, 2)
    tokens = (edge // 8) ** 3
    config = design_network(patch, data.spacing, "vit_s", tokens, relative_position=False)
    plan = unet_architecture(UNET, Problem(patch))

    def unet() -> torch.nn.Module:
        return get_network_from_plans(*plan.values(), 1, 3, deep_supervision=False)

    ours = _forward_tflop(lambda: _network(config, data), data, patch)
    return {
        "patch": patch,
        "tokens": tokens,
        "ours": ours,
        "unet": _forward_tflop(unet, data, patch),
    }


def _theirs(planner: Any, data: DataSet) -> Json:  # noqa: ANN401 - see plans_of
    from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

    with torch.device("meta"):  # this planner builds every network that it looks at
        plan = _plan(planner, data)

    def network() -> torch.nn.Module:
        return get_network_from_plans(
            *plan["architecture"].values(), data.channels, data.classes + 1, deep_supervision=False
        )

    patch = [int(size) for size in plan["patch_size"]]
    return {
        "planner": type(planner).__name__,
        "patch": patch,
        "batch": int(plan["batch_size"]),
        "tflop": int(plan["batch_size"]) * _forward_tflop(network, data, patch),
    }


def _forward_tflop(
    build: Callable[[], torch.nn.Module], data: DataSet, patch: Sequence[int]
) -> float:
    """Operations of a forward of one sample, in units of 10^12."""
    with torch.device("meta"), torch.no_grad():
        network = build().eval()
        image = torch.empty(1, data.channels, *patch)
        return flops(lambda: network(image)) / 1e12


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add("-o", dest="output", type=Path, required=True, metavar="PAGE")
    add("--sets", nargs="+", default=list(DATA_SETS), choices=DATA_SETS, metavar="NAME")
    return parser.parse_args()


if __name__ == "__main__":
    main()
