"""Another patch or preset for a planned configuration."""

from collections.abc import Sequence

from studies import Json

from refsam3d_nnunet.design import design_network
from refsam3d_nnunet.plans import architecture, network_config


def redesigned(configuration: Json, patch: Sequence[int], preset: str) -> Json:
    """Patch and architecture, with the parts that were planned.

    Args:
        configuration: Of a plan of RefSAM3DPlanner.
        patch: The new one.
        preset: Size of the image encoder.
    """
    planned = network_config(configuration)
    config = design_network(
        patch,
        configuration["spacing"],
        preset,
        relative_position=planned.relative_position,
        stem_tokens=planned.stem_tokens,
    )
    return {"patch_size": list(patch), "architecture": architecture(config)}
