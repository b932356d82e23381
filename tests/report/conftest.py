"""A cross-validation on disk: two methods, five folds, a dozen tiny cases with nasty names."""

import itertools
import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import SimpleITK
import torch

from refsam3d_nnunet.comparison.compare import compare
from refsam3d_nnunet.comparison.run import write_comparison
from refsam3d_nnunet.evaluation.table import Evaluation, write_evaluation
from refsam3d_nnunet.report.run import write_report

DATASET = "Dataset901_Toy"
METHODS = ("RefSAM3DTrainer__RefSAM3DPlans", "nnUNetTrainer__nnUNetPlans")
SCRIPT = "<script>alert(1)</script>"
LABELS = {"background": 0, SCRIPT: 1, r"tail $\bad": [2]}
CLASSES = {SCRIPT: 1, r"tail $\bad": 2}
CASES = ["case&<i>00", *(f"case.{i:02d}" for i in range(1, 12))]  # a dot in the name, as some have
FOLDS = {case: i % 5 for i, case in enumerate(CASES)}
SHAPE, SPACING = (16, 18, 20), (1.0, 1.25, 2.0)  # z y x, and its spacing in the order x y z
EPOCHS = 7
EMPTY = CASES[3]  # neither truth nor prediction has the tail
MISSED = CASES[7]  # only the baseline finds the tail


@dataclass
class Toy:
    """Where the cross-validation and its parts lie."""

    root: Path

    @property
    def folder(self):
        return self.root / "crossval_3d_fullres"

    @property
    def raw(self):
        return self.root / "raw" / DATASET

    def model(self, method):
        return self.root / "results" / f"{method}__3d_fullres"

    def summary(self, method):
        return self.model(method) / "crossval_results_folds_0_1_2_3_4" / "summary.json"

    def comparison(self):
        return json.loads(
            (self.folder / "comparison" / "comparison.json").read_text(encoding="utf-8")
        )

    def report(self, out=None):
        return write_report(self.folder, out or self.folder / "report.html").read_text(
            encoding="utf-8"
        )


def _write(path, array):
    image = SimpleITK.GetImageFromArray(array)
    image.SetSpacing(SPACING)
    path.parent.mkdir(parents=True, exist_ok=True)
    SimpleITK.WriteImage(image, str(path))


def _truth(number):
    array = np.zeros(SHAPE, np.uint8)
    array[4:12, 5:13, 3 + number % 3 : 11] = 1
    if CASES[number] != EMPTY:
        array[5:11, 6:12, 11:16] = 2
    return array


def _predicted(truth, number, method):
    """The truth, moved by as much as the case is hard, and the baseline one voxel more."""
    moved = np.roll(truth, 1 + number // 5 + method, axis=number % 3)
    if CASES[number] == MISSED and method == 0:
        moved[moved == 2] = 1
    return moved


def dice(prediction, truth, label):
    a, b = prediction == label, truth == label
    total = a.sum() + b.sum()
    return float(2 * (a & b).sum() / total) if total else float("nan")


def _metrics(prediction, truth, label):
    """Dice, and stand-ins for the rest: their numbers do not matter here."""
    value = dice(prediction, truth, label)
    mine, true = int((prediction == label).sum()), int((truth == label).sum())
    distance = np.inf if bool(mine) != bool(true) else 10 * (1 - value)
    error = (mine - true) / true if true else float("nan")
    return {
        "dice": value,
        "nsd": value**0.5,
        "hd95": distance,
        "assd": distance / 4,
        "volume_error": error,
        "volume_prediction": mine * 0.0025,
        "volume_reference": true * 0.0025,
    }


def _logging(method, fold):
    epochs = np.arange(1, EPOCHS + 1)
    loss = np.exp(-epochs / (3 + method)) - 0.8 + 0.02 * fold
    dice = 0.9 - 0.8 * np.exp(-epochs / (1 + method + fold / 9))
    smoothed = list(itertools.accumulate(dice, lambda past, now: 0.9 * past + 0.1 * now))
    start = 1_700_000_000.0 + np.arange(EPOCHS) * 100  # 60 s of epoch, 40 s of pause
    return {
        "train_losses": list(loss.astype(np.float32)),
        "val_losses": list((loss + 0.05).astype(np.float32)),
        "ema_fg_dice": list(np.float32(smoothed)),
        "mean_fg_dice": list(np.float32(dice)),
        "dice_per_class_or_region": [[d, d] for d in np.float32(dice)],
        "lrs": [0.01] * EPOCHS,
        "epoch_start_timestamps": [*map(float, start), float(start[-1] + 100)],
        "epoch_end_timestamps": list(map(float, start + 60)),
    }


def log_text(logging):
    """A log as nnU-Net writes it."""
    lines = []
    for epoch, train in enumerate(logging["train_losses"]):
        pseudo = logging["mean_fg_dice"][epoch]
        texts = (
            f"Epoch {epoch}",
            "Current learning rate: 0.01",
            f"train_loss {train:.4f}",
            f"val_loss {logging['val_losses'][epoch]:.4f}",
            f"Pseudo dice [np.float32({pseudo:.4f}), np.float32({pseudo:.4f})]",
            "Epoch time: 60.0 s",
        )
        lines += [f"2026-01-31 12:00:00.123456: {text} " for text in texts]
    return "\n".join(lines)


def _train(toy, number):
    """What nnU-Net leaves behind; fold 4 of the baseline has a log and no checkpoint."""
    name = METHODS[number]
    model = toy.model(name)
    for fold in range(5):
        folder = model / f"fold_{fold}"
        folder.mkdir(parents=True, exist_ok=True)
        logging = _logging(number, fold)
        if number == 1 and fold == 4:
            (folder / "training_log_2026_1_31.txt").write_text(log_text(logging))
        else:
            content = {"network_weights": {"w": torch.zeros(3)}, "logging": logging}
            torch.save(content, folder / "checkpoint_final.pth")
        device = "cuda:0" if fold else "cpu"
        debug = {"device": device, "network": name, "torch_version": "2.14", "_text": "x" * 5000}
        (folder / "debug.json").write_text(json.dumps(debug))
        if number == 0:
            run = {
                "preset": "vit_t",
                "weights": {"from": "sam_vit_b", "sha256": "ab" * 32},
                "class_prompts": ["background", "head & <b>neck</b>", "tail"],
                "seed": 1000 + fold,
            }
            (folder / "refsam3d_run.json").write_text(json.dumps(run))
    configurations = {
        "3d_fullres": {"patch_size": [16, 16, 16], "batch_size": 2, "spacing": [2.0, 1.25, 1.0]},
    }
    plans = {"plans_name": name.partition("__")[2], "configurations": configurations}
    (model / "plans.json").write_text(json.dumps(plans))
    (model / "dataset.json").write_text(
        json.dumps({"labels": LABELS, "file_ending": ".nii.gz", "channel_names": {"0": "CT"}})
    )


def _predict(toy, number, rng):
    """Predicts and measures the validation cases of all folds; returns rows and scores."""
    name = METHODS[number]
    rows, entries = [], []
    for i, case in enumerate(CASES):
        truth = _truth(i)
        predicted = _predicted(truth, i, number)
        file = toy.model(name) / f"fold_{FOLDS[case]}" / "validation" / f"{case}.nii.gz"
        _write(file, predicted)
        measured = {key: _metrics(predicted, truth, label) for key, label in CLASSES.items()}
        rows += [
            (case, str(FOLDS[case]), str(CLASSES[key]), key, metric, value)
            for key, values in measured.items()
            for metric, value in values.items()
        ]
        scores = {str(CLASSES[key]): {"Dice": m["dice"]} for key, m in measured.items()}
        merged = toy.summary(name).parent / f"{case}.nii.gz"
        entries.append({"prediction_file": str(merged), "metrics": scores})
        if number == 0:
            _write(toy.raw / "labelsTr" / f"{case}.nii.gz", truth)
            image = (rng.normal(100, 10, SHAPE) + 80 * (truth > 0)).astype(np.float32)
            _write(toy.raw / "imagesTr" / f"{case}_0000.nii.gz", image)
    return rows, entries


def _summarise(path, entries):
    mean = {
        key: {"Dice": float(np.nanmean([e["metrics"][key]["Dice"] for e in entries]))}
        for key in entries[0]["metrics"]
    }
    foreground = {"Dice": float(np.mean([m["Dice"] for m in mean.values()]))}
    content = {"metric_per_case": entries, "mean": mean, "foreground_mean": foreground}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def _evaluate(toy, name, rows):
    table = pd.DataFrame(rows, columns=["case", "fold", "label", "name", "metric", "value"])
    units = {"hd95": "mm", "assd": "mm"}
    info = {
        "format": 1,
        "prediction": str(toy.summary(name).parent),
        "reference": str(toy.raw / "labelsTr"),
        "dataset": DATASET,
        "metrics": {
            metric: {"unit": units.get(metric, ""), "definition": f"{metric} of <u>toys</u>"}
            for metric in dict.fromkeys(table["metric"])
        },
        "tolerance_mm": dict.fromkeys(CLASSES, 1.0),
        "library": {"monai": "1.6"},
        "versions": {"python": "3.11"},
        "cases": len(CASES),
    }
    write_evaluation(toy.folder / name, table, info)
    return Evaluation(table, info)


def build(root):
    """Writes the whole cross-validation below a folder."""
    toy, rng, evaluations = Toy(root), np.random.default_rng(0), {}
    methods = []
    for number, name in enumerate(METHODS):
        _train(toy, number)
        rows, entries = _predict(toy, number, rng)
        _summarise(toy.summary(name), entries)
        evaluations[name] = _evaluate(toy, name, rows)
        trainer, plans = name.split("__")
        done = {"state": "done", "seconds": 420.0, "attempts": 1, "log": None, "error": None}
        folds = {str(fold): done for fold in range(5)}
        model = str(toy.model(name))
        entry = {"trainer": trainer, "plans": plans, "name": name, "model_folder": model}
        methods.append({**entry, "folds": folds})
    description = {"labels": LABELS, "file_ending": ".nii.gz", "channel_names": {"0": "CT"}}
    (toy.raw / "dataset.json").write_text(json.dumps(description))
    costs = {
        METHODS[0]: {"hours": 0.58, "memory_gb": 1.5, "parameters": 9_624_915},
        METHODS[1]: {"hours": 0.4, "memory_gb": 2.25, "parameters": 30_000_000},
    }
    comparison = compare(evaluations, baseline=METHODS[1], resamples=200, costs=costs)
    write_comparison(toy.folder / "comparison", comparison)
    record = {"format": 1, "dataset": DATASET, "configuration": "3d_fullres", "methods": methods}
    (toy.folder / "crossval.json").write_text(json.dumps(record))
    return toy


@pytest.fixture(scope="session")
def built(tmp_path_factory):
    """The cross-validation, for tests that only read it."""
    toy = build(tmp_path_factory.mktemp("crossval"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("nnUNet_raw", str(toy.raw.parent))
        yield toy


@pytest.fixture(scope="session")
def page(built):
    """Text of its report."""
    return built.report()


@pytest.fixture
def toy(built, tmp_path, monkeypatch):
    """A cross-validation of its own, for a test that breaks it."""
    shutil.copytree(built.root, tmp_path, dirs_exist_ok=True)
    for file in tmp_path.rglob("*.json"):
        file.write_text(file.read_text(encoding="utf-8").replace(str(built.root), str(tmp_path)))
    (tmp_path / "crossval_3d_fullres" / "report.html").unlink(missing_ok=True)
    toy = Toy(tmp_path)
    monkeypatch.setenv("nnUNet_raw", str(toy.raw.parent))
    return toy
