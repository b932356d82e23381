"""The trainer's own promises, step by step and without nnU-Net's data loaders."""

import json
from pathlib import Path

import pytest
import torch
from nnunetv2.run.load_pretrained_weights import load_pretrained_weights
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from refsam3d_nnunet.network.tuning import is_pretrained
from refsam3d_nnunet.plans import DEFAULT_SCHEDULE
from refsam3d_nnunet.preprocessed import check_spacing
from refsam3d_nnunet.validation_parts import refuse_uneven
from tests.integration.trainer_steps import batch_for, save

pytestmark = [
    pytest.mark.integration,
    # nnU-Net's, not ours
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


def test_a_resumed_run_takes_the_next_step_of_an_uninterrupted_one(make, tmp_path):
    first = make()
    first.initialize()
    first.network.train()
    batch = batch_for(first)
    first.train_step(batch)
    save(first, tmp_path / "checkpoint.pth")
    first.current_epoch, first._iteration = 1, 0
    first.train_step(batch)

    second = make()
    second.load_checkpoint(str(tmp_path / "checkpoint.pth"))
    second.network.train()
    assert second.current_epoch == 1
    second.train_step(batch)

    other = second.network.state_dict()
    for name, tensor in first.network.state_dict().items():
        assert torch.equal(tensor, other[name]), name
    assert first.optimizer.param_groups[0]["lr"] == second.optimizer.param_groups[0]["lr"]


def test_auxiliary_masks_weigh_half_of_the_next_finer(make):
    trainer = make()
    trainer.initialize()
    scales = trainer._get_deep_supervision_scales()  # thick slices are halved late
    assert scales == [[1, 1, 1], [1, 0.5, 0.5], [0.5, 0.25, 0.25]]
    weights = trainer.loss.weight_factors
    assert weights == pytest.approx([4 / 7, 2 / 7, 1 / 7])
    trainer.set_deep_supervision_enabled(False)
    assert torch.is_tensor(trainer.network.eval()(batch_for(trainer)["data"]))


def test_learning_rate_moves_within_an_epoch(make):
    trainer = make()
    trainer.initialize()
    batch = batch_for(trainer)
    rates = []
    for _ in range(2):
        trainer.train_step(batch)
        rates.append(trainer.optimizer.param_groups[0]["lr"])
    assert rates[0] > rates[1] > 0


def test_loss_goes_down_on_one_batch(make):
    trainer = make()
    trainer.initialize()
    batch = batch_for(trainer)
    losses = [trainer.train_step(batch)["loss"] for _ in range(4)]
    assert losses[-1] < losses[0]


def adapting(make, sam_file, monkeypatch):
    """A trainer whose plan was made for that file."""
    trainer = make(plan={"tuning": "adapter", "checkpoint": str(sam_file)})
    trainer.initialize()
    trainer.network.train()
    return trainer


def test_adapting_a_sam_checkpoint(make, sam_file, tmp_path, monkeypatch):
    trainer = adapting(make, sam_file, monkeypatch)
    sam = torch.load(sam_file, weights_only=True)
    frozen = "image_encoder.blocks.3.mlp.lin1.weight"
    tuned = "image_encoder.blocks.3.norm1.weight"
    assert frozen in trainer._weights["loaded"]
    assert trainer._weights["from"] == str(sam_file)

    trainer.train_step(batch_for(trainer))

    state = trainer.network.state_dict()
    assert torch.equal(state[frozen], sam[frozen])
    assert not torch.equal(state[tuned], sam[tuned])


def test_resuming_needs_no_sam_checkpoint_and_remembers_it(make, sam_file, tmp_path, monkeypatch):
    first = adapting(make, sam_file, monkeypatch)
    first.train_step(batch_for(first))
    Path(first.output_folder, "refsam3d_run.json").write_text(json.dumps(first._record()))
    save(first, tmp_path / "checkpoint.pth")
    plan = {"tuning": "adapter", "checkpoint": str(sam_file)}
    sam_file.unlink()
    monkeypatch.delenv("REFSAM3D_CHECKPOINT")

    second = make(plan=plan)
    second.load_checkpoint(str(tmp_path / "checkpoint.pth"))

    assert second._record()["weights"] == json.loads(json.dumps(first._weights))


def test_a_resumed_run_keeps_its_schedule(make, tmp_path, monkeypatch):
    first = make()
    first.initialize()
    save(first, tmp_path / "checkpoint.pth")
    monkeypatch.delenv("REFSAM3D_NUM_EPOCHS")

    second = make()
    assert second.num_epochs == 1000
    second.load_checkpoint(str(tmp_path / "checkpoint.pth"))

    assert second.num_epochs == 4
    assert second.lr_scheduler.rate(2) == first.lr_scheduler.rate(2)


def test_pretrained_weights_of_other_labels(make, tmp_path):
    first = make()
    first.initialize()
    save(first, tmp_path / "checkpoint.pth")
    labels = {"background": 0, "spleen": 1, "liver": 2, "inferior vena cava": 3, "aorta": 4}
    second = make(fold=1, labels=labels)
    second.initialize()
    text = second.network.text.seg_layers.words.clone()

    load_pretrained_weights(second.network, str(tmp_path / "checkpoint.pth"))

    name = "mask_decoder.hyper_networks.0.mlp.4.weight"
    assert torch.equal(second.network.state_dict()[name], first.network.state_dict()[name])
    assert torch.equal(second.network.text.seg_layers.words, text)
    assert second._weights["from"] == "another training, by -pretrained_weights"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.write_bytes(b""), "sam_vit_t.pth"),
        (lambda path: path.write_bytes(path.read_bytes()[:5000]), "sam_vit_t.pth"),
        (
            lambda path: torch.save({"head.weight": torch.zeros(2)}, path),
            "no plain ViT image encoder",
        ),
    ],
    ids=["empty", "truncated", "another architecture"],
)
def test_a_wrong_checkpoint_ends_the_planning(planned, sam_file, damage, message):
    damage(sam_file)
    done = planned.try_run(
        "nnUNetv2_plan_experiment -d 901 -pl RefSAM3DPlanner -overwrite_plans_name Wrong",
        REFSAM3D_CHECKPOINT=str(sam_file),
    )
    assert message in done.stderr
    assert "ValueError" in done.stderr
    assert not list((planned.preprocessed / planned.name).glob("Wrong*"))


def test_phrases_vary_from_step_to_step_and_are_the_same_again(make):
    trainers = [make(), make(), make(1)]
    seen = []
    for trainer in trainers:
        trainer.initialize()
        drawn = []
        for epoch, iteration in ((0, 0), (0, 1), (1, 0), (1, 1)):
            trainer.current_epoch, trainer._iteration = epoch, iteration
            trainer._draw_phrases()
            drawn.append(tuple(trainer.network.text.drawn.tolist()))
        seen.append(drawn)
    assert seen[0] == seen[1], "the same on every rank and after a resumed run"
    assert seen[0] != seen[2], "folds see other wordings"
    assert len(set(seen[0])) == 4


def test_a_step_trains_with_the_phrases_of_its_iteration(make):
    trainer = make()
    trainer.initialize()
    text = trainer.network.text
    seen = []
    text.projector.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    trainer.train_step(batch_for(trainer))
    assert text.drawn.tolist() != text.canonical.tolist()
    _, _, sentences = text.stored(text.drawn)
    assert torch.equal(seen[1], text.seg_layers.space(sentences))


def test_the_second_resume_keeps_the_schedule_of_the_first(make, tmp_path, monkeypatch):
    first = make()
    first.initialize()
    save(first, tmp_path / "checkpoint.pth")
    monkeypatch.setenv("REFSAM3D_NUM_EPOCHS", "3")
    second = make()
    second.load_checkpoint(str(tmp_path / "checkpoint.pth"))
    save(second, tmp_path / "checkpoint.pth")
    monkeypatch.delenv("REFSAM3D_NUM_EPOCHS")
    third = make()
    third.load_checkpoint(str(tmp_path / "checkpoint.pth"))
    assert (first.num_epochs, second.num_epochs, third.num_epochs) == (4, 3, 3)


def test_preprocessed_data_of_another_spacing_are_refused(make):
    trainer = make()
    check_spacing(trainer)
    trainer.configuration_manager.configuration["spacing"] = [1.5, 2.0, 1.0]
    with pytest.raises(ValueError, match="voxels.*nnUNetv2_preprocess -d 901 -plans_name"):
        check_spacing(trainer)
    trainer.preprocessed_dataset_folder += "_of_no_one"
    with pytest.raises(FileNotFoundError, match="no preprocessed cases in .*_of_no_one.* -c 3d_"):
        check_spacing(trainer)


def test_a_checkpoint_that_cannot_be_written_leaves_the_one_before(make, tmp_path, monkeypatch):
    trainer, path = make(), tmp_path / "checkpoint_latest.pth"
    trainer.initialize()
    trainer.save_checkpoint(str(path))
    before = path.read_bytes()
    (tmp_path / f".tmp.of_one_that_was_killed.{path.name}").touch()

    def killed(_: object, name: str) -> None:
        Path(name).write_bytes(b"half of it")
        raise OSError("disk is full")

    monkeypatch.setattr(torch, "save", killed)
    with pytest.raises(OSError, match="disk is full"):
        trainer.save_checkpoint(str(path))
    assert [file.name for file in tmp_path.glob("*checkpoint*")] == [path.name]
    assert path.read_bytes() == before


def test_the_phrases_of_the_plan_are_wanted_again(make, tmp_path, monkeypatch):
    first = make()
    label = next(name for name, value in first.dataset_json["labels"].items() if value == 1)
    prompts = {"dataset": first.plans_manager.dataset_name, "prompts": {label: ["left lobe"]}}
    plan = {"given_prompts": prompts}
    make(plan={"given_prompts": prompts | {"dataset": "Dataset001_WhereItWasMovedFrom"}})
    with pytest.raises(ValueError, match=r"phrases .*left lobe.* has \{\}: set REFSAM3D_PROMPTS_F"):
        make(plan=plan)
    file = tmp_path / "prompts.json"
    file.write_text(json.dumps({label: "left lobe"}))
    monkeypatch.setenv("REFSAM3D_PROMPTS_FILE", str(file))
    assert make(plan=plan).refsam3d["class_prompts"][1] == "left lobe"


def test_labels_that_the_text_encoder_reads_alike_are_refused(make):
    with pytest.raises(ValueError, match="reads '肝脏' and '脾脏' as the same words"):
        make(labels={"background": 0, "肝脏": 1, "脾脏": 2})


def test_gpus_must_share_a_batch_evenly():
    refuse_uneven(6, 3)
    with pytest.raises(ValueError, match="batch of 7 cannot be shared evenly by 2 GPUs.* 6 or 8"):
        refuse_uneven(7, 2)


@pytest.mark.parametrize(("at_once", "parts"), [(None, [2]), (1, [1, 1])])
def test_validation_counts_are_nnunets_in_parts_too(make, monkeypatch, at_once, parts):
    trainer = make()
    trainer.initialize()
    trainer._samples_at_once = at_once or trainer._samples_at_once
    trainer.network.eval()
    with torch.no_grad():
        whole = nnUNetTrainer.validation_step(trainer, batch_for(trainer))
        seen, forward = [], trainer.network.forward
        monkeypatch.setattr(trainer.network, "forward", lambda x: seen.append(len(x)) or forward(x))
        ours = trainer.validation_step(batch_for(trainer))
    assert seen == parts
    assert ours.keys() == whole.keys()
    for key in ("tp_hard", "fp_hard", "fn_hard"):
        assert whole[key].sum() > 0
        # Rounding differs with the batch: where two logits are equal to it, so may the class.
        assert ours[key] == pytest.approx(whole[key], rel=1e-2)
    assert ours["loss"] == pytest.approx(whole["loss"], rel=1e-4)


def test_pretrained_weights_learn_at_their_own_rate_in_mode_full(make, sam_file):
    schedule = {**DEFAULT_SCHEDULE, "pretrained_lr_scale": 0.25}
    plan = {"tuning": "full", "checkpoint": str(sam_file), "family": "sam", "schedule": schedule}
    trainer = make(plan=plan)
    trainer.initialize()
    trainer.train_step(batch_for(trainer))
    rates = {id(p): g["lr"] for g in trainer.optimizer.param_groups for p in g["params"]}
    for name, parameter in trainer.network.named_parameters():
        share = 0.25 if is_pretrained(name) else 1
        assert rates[id(parameter)] == pytest.approx(share * trainer.lr_scheduler.rate(0)), name


def test_a_training_that_is_lost_stops_before_its_checkpoint_is_replaced(make):
    trainer = make()
    trainer.initialize()
    trainer.on_train_epoch_start()
    batch = batch_for(trainer)
    outputs = [trainer.train_step(batch)]
    batch["data"][:] = torch.nan
    outputs.append(trainer.train_step(batch))
    with pytest.raises(FloatingPointError, match="1 of the 2 steps.*REFSAM3D_INITIAL_LR"):
        trainer.on_train_epoch_end(outputs)


def test_a_trainer_derived_from_ours_may_do_without_auxiliary_masks(make):
    trainer = make()
    trainer.enable_deep_supervision = False
    trainer.initialize()
    assert trainer._get_deep_supervision_scales() is None
    batch = batch_for(trainer)
    batch["target"] = batch["target"][0]
    before = trainer.train_step(batch)["loss"]
    trainer.network.eval()
    with torch.no_grad():
        assert trainer.validation_step(batch)["loss"] == pytest.approx(before, abs=0.1)


def test_no_held_out_phrase_is_stored(make):
    trainer = make()
    trainer.initialize()
    count = sum(len(one["training"]) for one in trainer.refsam3d["classes"])
    assert len(trainer.network.text.seg_layers.words) == count
    held_out = {p for one in trainer.refsam3d["classes"] for p in one["held_out"]}
    trained = {p for one in trainer.refsam3d["classes"] for p in one["training"]}
    assert held_out and not held_out & trained
