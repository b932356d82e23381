"""Which of the trained classes nnU-Net's predictor is to show."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from refsam3d_nnunet.environment import read_settings
from refsam3d_nnunet.network.refsam3d import RefSAM3D
from refsam3d_nnunet.plans import trained_classes
from refsam3d_nnunet.text.lookup import select_classes
from refsam3d_nnunet.text.phrases import background_of


def show_asked_classes(
    network: RefSAM3D, block: Mapping[str, Any], *, next_stage: str | None = None
) -> None:
    """Hides what REFSAM3D_PROMPTS does not name; says so, as nnU-Net's predictor has no log.

    Args:
        network: Built for prediction.
        block: Our block of its plan.
        next_stage: Configuration that would go on from these predictions, in a cascade.

    Raises:
        ValueError: If a class is asked for that the model does not have.
    """
    asked = read_settings().prompts
    if asked is None:
        return
    classes = trained_classes(block)
    chosen = select_classes(asked, classes)
    background = background_of(classes)
    hidden = [i for i in range(len(classes)) if i not in (*chosen, background)]
    network.hide(hidden, background=background)
    print(  # noqa: T201
        f"RefSAM3D: REFSAM3D_PROMPTS asks for {', '.join(classes[i].canonical for i in chosen)}; "
        f"left out: {', '.join(classes[i].canonical for i in hidden) or 'nothing'}. Label values "
        f"stay as they are."
    )
    if hidden and next_stage:
        print(  # noqa: T201
            f"WARNING: {next_stage} was trained beside predictions of all classes. Do not give it "
            f"these with -prev_stage_predictions: unset REFSAM3D_PROMPTS for the first stage."
        )
