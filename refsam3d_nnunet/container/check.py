"""Runs a submission folder's inference.py as a platform would, without Docker."""

from __future__ import annotations

import ast
import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import SimpleITK

from refsam3d_nnunet.container import runtime
from refsam3d_nnunet.container.folder import INFERENCE, MODEL
from refsam3d_nnunet.prediction.images import ENDINGS, find_cases, same_geometry

_OURS = ("REFSAM3D_", "nnUNet_", "PYTHON")

_log = logging.getLogger(__name__)


def check(folder: Path, images: Sequence[Path]) -> tuple[str, int]:
    """Runs a submission folder on images, and looks at what it writes.

    The folder's own wheel is what runs, with the packages of this environment.

    Args:
        folder: See ``refsam3d_nnunet.container.folder``.
        images: A file per channel: one case, as on grand-challenge.org. Or a folder of images.

    Returns:
        What was found, and 0, or 1 if an output is missing or lies elsewhere than its input.

    Raises:
        FileNotFoundError: If something is not there.
        ValueError: If inference.py fails, or writes into the model's folder.
    """
    for path in (folder / INFERENCE, folder / MODEL / "dataset.json", *images):
        if not path.exists():
            raise FileNotFoundError(f"There is no {path}.")
    with tempfile.TemporaryDirectory() as name:
        place = Path(name).resolve()
        if len(images) == 1 and images[0].is_dir():
            source = images[0].resolve()
            wanted = _of_folder(source, folder)
        else:
            source = place / "input"
            wanted = {f"images/*/{_stem(images[0])}.mha": images[0]}
            _fake_sockets(source / "images", images, _constant(folder / INFERENCE, "INPUTS"))
        out = place / "output"
        out.mkdir()
        seconds = _run(folder.resolve(), place, source, out)
        names = label_names(json.loads((folder / MODEL / "dataset.json").read_text("utf-8")))
        found = [_look_at(out, pattern, image, names) for pattern, image in wanted.items()]
    count = "1 case" if len(found) == 1 else f"{len(found)} cases"
    lines = [f"{count} in {seconds:.1f} s, start of Python and loading of the model included"]
    return "\n".join([*lines, *(text for text, _ in found)]), int(not all(ok for _, ok in found))


def label_names(dataset: Mapping) -> dict[int, str]:
    """Label values and names of a ``dataset.json``; those of regions as nnU-Net writes them."""
    names = [name for name in dataset["labels"] if name not in ("background", "ignore")]
    order = dataset.get("regions_class_order") or [dataset["labels"][name] for name in names]
    return dict(zip(map(int, order), names, strict=True))


def _of_folder(source: Path, folder: Path) -> dict[str, Path]:
    """Output that is wanted of each image of a folder."""
    dataset = json.loads((folder / MODEL / "dataset.json").read_text("utf-8"))
    cases = find_cases(source, len(dataset["channel_names"]))
    return {f"{case.name}{case.ending}": case.files[0] for case in cases}


def _stem(path: Path) -> str:
    return path.name.partition(".")[0]


def _fake_sockets(folder: Path, images: Sequence[Path], sockets: Sequence[str]) -> None:
    """Writes images as grand-challenge.org mounts them: .mha, each in the folder of its socket."""
    names = sockets or [f"image-{i}" for i, _ in enumerate(images)]
    if len(names) != len(images):
        raise ValueError(
            f"{INFERENCE} wants {len(names)} image(s), for {', '.join(names)}; got {len(images)}."
        )
    for name, image in zip(names, images, strict=True):
        (folder / name).mkdir(parents=True)
        target = folder / name / f"{_stem(image)}.mha"
        if image.name.lower().endswith(".mha"):
            shutil.copyfile(image, target)
        elif image.name.lower().endswith(ENDINGS):
            _convert(image, target)
        else:
            raise ValueError(f"{image} is of no known format; there are {', '.join(ENDINGS)}.")


def _convert(image: Path, target: Path) -> None:
    read = SimpleITK.ReadImage(str(image))
    for key in read.GetMetaDataKeys():  # NIfTI's, which .mha does not hold
        read.EraseMetaData(key)
    SimpleITK.WriteImage(read, str(target))


def _constant(script: Path, name: str) -> Sequence[str]:
    """Value of a constant at the top of a script, which is not run for it."""
    for node in ast.parse(script.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name:
            return ast.literal_eval(node.value)
    return ()


def _run(folder: Path, place: Path, source: Path, out: Path) -> float:
    """Runs inference.py, and returns the seconds it took."""
    code = place / "code"
    for wheel in folder.glob("*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(code)
    (place / "tmp").mkdir()
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(_OURS)}
    inherited.pop("HOME", None)
    given = {k: v.replace("/tmp", str(place / "tmp")) for k, v in runtime.ENVIRONMENT.items()}
    del given["HOME"]
    places = {runtime.INPUT: source, runtime.OUTPUT: out, runtime.MODEL: folder / MODEL}
    environment = {**inherited, **given, **{k: str(v) for k, v in places.items()}}
    environment["PYTHONPATH"] = str(code)
    before, start = _listed(folder / MODEL), time.perf_counter()
    done = subprocess.run(
        [sys.executable, str(folder / INFERENCE)],
        cwd=place,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    seconds = time.perf_counter() - start
    if done.returncode:
        _log.error("%s", done.stderr.strip())
        last = done.stderr.strip().splitlines()[-1:] or ["it gave no reason"]
        raise ValueError(f"{INFERENCE} failed with exit status {done.returncode}: {last[0]}")
    if _listed(folder / MODEL) != before:
        raise ValueError(f"{INFERENCE} writes into {folder / MODEL}, which platforms forbid.")
    return seconds


def _listed(folder: Path) -> dict[Path, tuple[int, int]]:
    found = {path: path.stat() for path in sorted(folder.rglob("*"))}
    return {path: (one.st_size, one.st_mtime_ns) for path, one in found.items()}


def _look_at(out: Path, pattern: str, source: Path, names: Mapping[int, str]) -> tuple[str, bool]:
    """What is to be said of one output, and whether all is well."""
    written = list(out.glob(pattern))
    if len(written) != 1:
        return f"{source.name}: NO OUTPUT {pattern}", False
    result, original = (SimpleITK.ReadImage(str(path)) for path in (written[0], source))
    same = same_geometry(result, original)
    values, counts = np.unique(SimpleITK.GetArrayViewFromImage(result), return_counts=True)
    voxels = dict(zip(values.tolist(), counts.tolist(), strict=True))
    lies = "the input's" if same else "NOT THE INPUT'S"
    lines = [f"{written[0].relative_to(out)}: size, spacing, origin and direction are {lies}"]
    for value, name in {0: "background", **names}.items():
        lines.append(f"    {value}  {name}: {voxels.pop(value, 0)} voxels")
    lines += [f"    {value}  NO LABEL: {count} voxels" for value, count in voxels.items()]
    return "\n".join(lines), same and not voxels
