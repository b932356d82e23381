"""What surrounds inference.py: in the container, and in a dry run."""

# Any user id works, with or without a home; nothing asks a network.
ENVIRONMENT = {
    "HOME": "/tmp",
    "USER": "user",
    "XDG_CACHE_HOME": "/tmp/cache",
    "MPLCONFIGDIR": "/tmp/matplotlib",
    "TORCHINDUCTOR_CACHE_DIR": "/tmp/inductor",
    "TRITON_CACHE_DIR": "/tmp/triton",
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "nnUNet_raw": "/tmp/nnUNet_raw",
    "nnUNet_preprocessed": "/tmp/nnUNet_preprocessed",
    "nnUNet_results": "/tmp/nnUNet_results",
    "PYTHONUNBUFFERED": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
}
# Variables that put inference.py's folders elsewhere.
INPUT, OUTPUT, MODEL = (f"REFSAM3D_CONTAINER_{name}" for name in ("INPUT", "OUTPUT", "MODEL"))
