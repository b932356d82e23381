"""Preprocessed data are those of the plan.

Plans share nnU-Net's folders of preprocessed data by name. nnU-Net's ResEnc planners write into the
folder of nnUNetPlans also when they are told another spacing; a training on such data would go
well, validation too, and predictions on new images would be of another spacing than was learned.
"""

from pathlib import Path

from nnunetv2.preprocessing.resampling.default_resampling import compute_new_shape
from nnunetv2.training.dataloading.nnunet_dataset import infer_dataset_class
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

SHAPE = "shape_after_cropping_and_before_resampling"


def check_spacing(trainer: nnUNetTrainer) -> None:
    """Compares the shape of one stored case with what the plan's spacing makes of it.

    Other preprocessors than nnU-Net's default one may do as they like.

    Args:
        trainer: About to train.

    Raises:
        ValueError: If they differ; the message says how to preprocess again.
        FileNotFoundError: If there are none; the message says how to make them.
    """
    configuration, plans = trainer.configuration_manager, trainer.plans_manager
    if configuration.preprocessor_name != "DefaultPreprocessor":
        return
    folder = trainer.preprocessed_dataset_folder
    again = (
        f"nnUNetv2_preprocess -d {plans.dataset_name[7:10]} -plans_name {plans.plans_name} "
        f"-c {trainer.configuration_name}"
    )
    if not Path(folder).is_dir() or not any(Path(folder).iterdir()):
        raise FileNotFoundError(
            f"There are no preprocessed cases in {folder}, where {plans.plans_name} has them: "
            f"{again}"
        )
    dataset = infer_dataset_class(folder)
    case = sorted(dataset.get_identifiers(folder))[0]
    data, _, _, properties = dataset(folder, [case]).load_case(case)
    if SHAPE not in properties:
        return
    before = [properties["spacing"][axis] for axis in plans.transpose_forward]
    after = [float(s) for s in configuration.spacing]
    after = [*before[: 3 - len(after)], *after]  # a 2D plan leaves the slices where they are
    wanted = tuple(int(n) for n in compute_new_shape(properties[SHAPE], before, after))
    if tuple(data.shape[1:]) != wanted:
        raise ValueError(
            f"{folder} holds other data than {plans.plans_name} wants: case {case!r} has "
            f"{tuple(data.shape[1:])} voxels, at the plan's spacing of {after} mm it would have "
            f"{wanted}. Another plan has been preprocessed into that folder. Preprocess this one "
            f"again: {again}"
        )
