"""The demo's folder: where everything lies, and whether it may be written to."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

MARKER = ".refsam3d_demo"
DATASET_ID = 1


@dataclass(frozen=True)
class Workspace:
    """Where the demo keeps what.

    Attributes:
        root: The folder given by ``--out``, absolute.
        dataset: Name of the data set's folder inside nnU-Net's, ``DatasetXXX_Name``.
    """

    root: Path
    dataset: str

    @property
    def raw(self) -> Path:
        """Value of ``nnUNet_raw``."""
        return self.root / "nnUNet_raw"

    @property
    def preprocessed(self) -> Path:
        """Value of ``nnUNet_preprocessed``."""
        return self.root / "nnUNet_preprocessed"

    @property
    def results(self) -> Path:
        """Value of ``nnUNet_results``."""
        return self.root / "nnUNet_results"

    @property
    def data(self) -> Path:
        """The raw data set: ``imagesTr``, ``labelsTr``, ``imagesTs``, ``labelsTs``."""
        return self.raw / self.dataset

    @property
    def predictions(self) -> Path:
        """Segmentations of the held-out images."""
        return self.root / "predictions"

    @property
    def summary(self) -> Path:
        """Scores of the held-out images as nnU-Net writes them."""
        return self.predictions / "summary.json"

    @property
    def log(self) -> Path:
        """Everything that nnU-Net's commands printed."""
        return self.root / "demo.log"

    @property
    def report(self) -> Path:
        """The report, a Markdown file."""
        return self.root / "report.md"

    @property
    def picture(self) -> Path:
        """The report's picture."""
        return self.root / "slices.png"


def open_workspace(out: Path, dataset: str, data: Path | None = None) -> Workspace:
    """Makes the demo's folder, or clears what an earlier demo left in it.

    Args:
        out: Folder to make or to use again.
        dataset: Name of the data set's folder, ``DatasetXXX_Name``.
        data: Folder of the user's data, which must lie apart from ``out``.

    Returns:
        The workspace; its nnU-Net folders exist and are empty.

    Raises:
        FileExistsError: If ``out`` is a file, or holds what no demo has written.
        ValueError: If ``out`` and ``data`` lie within each other.
    """
    root = out.expanduser().resolve()
    if root.exists() and not root.is_dir():
        raise FileExistsError(f"--out {out} is a file; give a new or empty folder")
    if data is not None:
        source = data.expanduser().resolve()
        if root == source or root in source.parents or source in root.parents:
            raise ValueError(
                f"--out {out} and --data {data} overlap; give an --out folder elsewhere, "
                "because the demo never writes into the data"
            )
    if root.exists() and any(root.iterdir()) and not (root / MARKER).is_file():
        raise FileExistsError(
            f"--out {out} is not empty and no earlier demo made it; give a new or empty folder "
            "with --out, or move its content away"
        )
    root.mkdir(parents=True, exist_ok=True)
    (root / MARKER).touch()
    workspace = Workspace(root, dataset)
    for path in (workspace.log, workspace.report, workspace.picture):
        path.unlink(missing_ok=True)
    for folder in (workspace.raw, workspace.preprocessed, workspace.results, workspace.predictions):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
    return workspace
