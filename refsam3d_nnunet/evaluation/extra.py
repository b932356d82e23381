"""What `pip install 'refsam3d_nnunet[crossval]'` adds, and what is said where it is missing."""

from collections.abc import Iterator
from contextlib import contextmanager

PACKAGES = ("jinja2", "markupsafe", "monai", "pandas", "statsmodels", "submitit")


class MissingExtraError(OSError):
    """A package of the extra ``crossval`` is not installed."""


@contextmanager
def crossval_extra() -> Iterator[None]:
    """Surrounds imports of the extra's packages, so that a missing one is told with its cure.

    Raises:
        MissingExtraError: If one of them is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        name = (error.name or "").partition(".")[0]
        if name not in PACKAGES:
            raise
        raise MissingExtraError(
            f"This command needs {name}, which is not installed: "
            f"pip install 'refsam3d_nnunet[crossval]'"
        ) from error
