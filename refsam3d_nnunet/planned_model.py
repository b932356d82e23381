"""What a training trains: any plan made ours, with its phrases and their embeddings."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from refsam3d_nnunet.environment import Settings
from refsam3d_nnunet.plans import FOREIGN_PLAN_GB, complete_plans, resolved_configuration
from refsam3d_nnunet.same_model import (
    architecture_of_folds,
    check_same_model,
    phrases_of_folds,
    plans_of_folder,
)
from refsam3d_nnunet.text.bank import embed
from refsam3d_nnunet.text.encoders import TextEmbedding
from refsam3d_nnunet.text.names import given_phrases
from refsam3d_nnunet.text.phrases import phrase_bank, refuse_alike, training_phrases


@dataclass(frozen=True)
class PlannedModel:
    """The model that a training is about to train.

    Args:
        block: Our block of the plan, part of it.
        text: Embeddings of all training phrases, class by class.
        slim: The backbone that folds trained before have in common, if their checkpoints are slim.
        notes: What the user should know.
    """

    block: dict[str, Any]
    text: TextEmbedding
    slim: dict[str, Any] | None = None
    notes: list[str] = field(default_factory=list)


def planned_model(
    plans: dict[str, Any],
    configuration: str,
    *,
    dataset_json: dict[str, Any],
    settings: Settings,
    folder: Path,
    bank: Path,
    ranks: int = 1,
) -> PlannedModel:
    """Completes a plan in place and embeds its phrases.

    Folds of the same model folder share phrases and network: those of the first one stay, where
    this version of the package would choose others.

    Args:
        plans: Content of plans.json.
        configuration: Name of the configuration.
        dataset_json: Content of dataset.json.
        settings: What the environment asks for.
        folder: The model folder.
        bank: File of text embeddings.
        ranks: GPUs that share a batch.

    Raises:
        ValueError: If plan, settings, labels or earlier folds contradict each other, or the text
            encoder cannot tell two classes apart.
        OSError: If a text encoder is needed and cannot be had.
    """
    trained = plans_of_folder(folder)
    said = phrase_bank(dataset_json, settings.prompts_file)
    given = given_phrases(dataset_json, settings.prompts_file)
    classes = phrases_of_folds(said, given, trained)
    known = architecture_of_folds(plans, configuration, trained)
    if settings.prompts_file is None:
        _refuse_lost_phrases(plans, given)
    block = complete_plans(plans, configuration, settings, classes, known, ranks=ranks)
    text = embed(training_phrases(classes), encoder=block["text_encoder"], bank=bank)
    refuse_alike(classes, text.embedding.sentence, text.encoder_id)
    block["text"] = text.to_json()
    if trained:
        if hashes := trained["refsam3d"].get("weights_sha256"):
            block["weights_sha256"] = hashes
        check_same_model(plans, trained, configuration, folder)
    notes = []
    batch = resolved_configuration(plans, configuration)["batch_size"]
    wanted = block.get("planned_batch_size", batch)
    if batch < wanted:
        notes.append(
            f"RefSAM3D: a batch of {batch} instead of the plan's {wanted}, which this network "
            f"would need more than {FOREIGN_PLAN_GB} GB of a GPU for. Plans of RefSAM3DPlanner are "
            f"made for it and are not cut."
        )
    if classes != said:
        notes.append(
            "RefSAM3D: phrases are those of the folds that were trained before; this version of "
            "the package would choose others."
        )
    return PlannedModel(block, text.embedding, trained.get("refsam3d", {}).get("slim"), notes)


def _refuse_lost_phrases(plans: dict[str, Any], given: Mapping[str, Sequence[str]]) -> None:
    """Refuses to train without the user's phrases that the plan was made with.

    A phrase may be all that names a side: without it, left and right would be mirrored. A plan
    that was moved here from another data set says nothing of this one's.
    """
    planned = plans.get("refsam3d", {}).get("given_prompts", {})
    if planned.get("dataset") != plans["dataset_name"]:
        return
    lost = {name: said for name, said in planned["prompts"].items() if given.get(name) != said}
    if lost:
        raise ValueError(
            f"The plan was made with the phrases {lost}, and dataset.json in nnUNet_preprocessed "
            f"has {dict(given)}: set REFSAM3D_PROMPTS_FILE as for planning, or plan again, which "
            f"copies dataset.json from nnUNet_raw."
        )
