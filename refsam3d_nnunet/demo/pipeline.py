"""`refsam3d demo`: from raw images to a table of scores, through nnU-Net's own commands."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import sys
from collections import deque
from pathlib import Path
from typing import TextIO

from refsam3d_nnunet.demo import phantom, report, staging
from refsam3d_nnunet.demo.figure import HeldOut, save_slices
from refsam3d_nnunet.demo.progress import Console, Estimate, StageOutput, duration
from refsam3d_nnunet.demo.runner import Runner, run_command
from refsam3d_nnunet.demo.stages import (
    CONFIGURATION,
    CPU_MEMORY_TARGET,
    REFSAM3D,
    Model,
    Schedule,
    Stage,
    build_stages,
    environment,
    plans_file,
    settings,
)
from refsam3d_nnunet.demo.workspace import DATASET_ID, Workspace, open_workspace

N_TEST = 4
LAST_LINES = 20
INTERRUPTED = 130


def run(
    args: argparse.Namespace,
    *,
    runner: Runner = run_command,
    stream: TextIO | None = None,
    model: Model = REFSAM3D,
) -> int:
    """Runs the demo.

    Args:
        args: What :func:`refsam3d_nnunet.demo.arguments.add_arguments` parses.
        runner: Runs a command; tests put a stand-in here.
        stream: Where to tell the user about it; standard output if None.
        model: Which of nnU-Net's planners and trainers to use.

    Returns:
        0; 1 if a stage failed, 130 if the user interrupted.

    Raises:
        FileExistsError: If ``args.out`` holds what no demo has written.
        FileNotFoundError: If ``args.data`` is not a raw data set, or lacks files.
        ValueError: If there are too few cases, or the folders overlap.
    """
    console = Console(stream or sys.stdout)
    schedule = Schedule(args.epochs, args.iterations)
    device = _device(args.device)
    console.line("RefSAM3D demo: plan, train, predict and evaluate with nnU-Net's own commands")
    workspace, n_test = _prepare(args, console)
    target = args.gpu_memory_target
    if target is None and device == "cpu":
        target = CPU_MEMORY_TARGET
    stages = build_stages(
        workspace, schedule, device=device, memory_target=target, n_test=n_test, model=model
    )
    estimate = Estimate({stage.title: stage.expected for stage in stages})
    env = environment(workspace, schedule, os.environ)
    _announce(workspace, schedule, stages, device, console)
    try:
        for number, stage in enumerate(stages, 1):
            console.line(f"\n[{number}/{len(stages)}] {stage.title}  ({_times(estimate)})")
            if not _run_stage(stage, workspace, env, console=console, estimate=estimate, go=runner):
                return 1
            if number == 1:
                console.line(_plan_in_words(plans_file(workspace, model)))
    except KeyboardInterrupt:
        console.line(f"\nInterrupted; what there is lies in {workspace.root}")
        return INTERRUPTED
    facts = {
        "data": str(args.data or f"torso phantom, seed {args.seed}"),
        "held-out cases": str(n_test),
        "schedule": f"{schedule.epochs} epochs of {schedule.iterations} batches",
        "planner memory target": "planner's default" if target is None else f"{target:g} GB",
        "device": device,
    }
    _conclude(workspace, stages, estimate, facts, console)
    if not args.keep:
        _drop_preprocessed(workspace)
    return 0


def _drop_preprocessed(workspace: Workspace) -> None:
    """Removes the arrays and keeps the plans, which evaluation reads again."""
    for path in (workspace.preprocessed / workspace.dataset).iterdir():
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)


def _announce(
    workspace: Workspace, schedule: Schedule, stages: list[Stage], device: str, console: Console
) -> None:
    console.line(
        f"{schedule.epochs} epochs of {schedule.iterations} batches on {device}, about "
        f"{duration(sum(stage.expected for stage in stages))} on two cores with the phantom"
    )
    console.line("\nTo repeat a command below by hand, set:")
    for name, value in settings(workspace, schedule).items():
        console.line(f"  export {name}={shlex.quote(value)}")


def _device(wanted: str) -> str:
    if wanted != "auto":
        return wanted
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _prepare(args: argparse.Namespace, console: Console) -> tuple[Workspace, int]:
    """Fills the workspace with raw data; returns it and the number of held-out cases."""
    if args.data is None:
        if args.cases < staging.MIN_TRAIN:
            raise ValueError(f"--cases must be {staging.MIN_TRAIN} or more, got {args.cases}")
        workspace = open_workspace(args.out, f"Dataset{DATASET_ID:03d}_TorsoPhantom")
        console.line(f"Drawing {args.cases} phantoms to train on and {N_TEST} to hold out ...")
        phantom.write_dataset(workspace.data, args.cases, N_TEST, args.seed)
        return workspace, N_TEST
    description = staging.read_description(args.data)
    cases = staging.read_cases(args.data, description)
    train, test = staging.split_cases(cases, args.seed)
    workspace = open_workspace(args.out, staging.dataset_name(args.data), args.data)
    staging.stage_data(workspace, description, train, test)
    held_out = ", ".join(case.name for case in test)
    console.line(f"{len(train)} cases of {args.data} to train on; held out are: {held_out}")
    return workspace, len(test)


def _times(estimate: Estimate) -> str:
    left = duration(estimate.remaining())
    return f"elapsed {duration(estimate.elapsed())}, about {left} left"


def _plan_in_words(path: Path) -> str:
    plan = json.loads(path.read_text(encoding="utf-8"))["configurations"][CONFIGURATION]
    patch = " x ".join(map(str, plan["patch_size"]))
    spacing = " x ".join(f"{step:.2f}" for step in plan["spacing"])
    return f"  planned: patch {patch}, batch {plan['batch_size']}, spacing {spacing} mm"


def _run_stage(
    stage: Stage,
    workspace: Workspace,
    env: dict[str, str],
    *,
    console: Console,
    estimate: Estimate,
    go: Runner,
) -> bool:
    """Runs one stage; if it fails, says which one, why and where to read on."""
    console.line(f"  $ {stage.typed}")
    command = [sys.executable, "-m", "refsam3d_nnunet", stage.command, *stage.arguments]
    output = StageOutput(console, estimate, stage.steps)
    last: deque[str] = deque(maxlen=LAST_LINES)

    def on_line(line: str) -> None:
        if line.strip():
            last.append(line)
        output(line)

    estimate.start(stage.title)
    code = go(command, env, workspace.log, on_line)
    seconds = estimate.finish()
    if code == 0:
        console.line(f"  done in {duration(seconds)}")
        return True
    console.line(f"\n{stage.title} failed with exit code {code} after {duration(seconds)}.")
    console.line("Its last lines were:")
    for line in last:
        console.line(f"  | {line}")
    console.line(f"All of its output is in {workspace.log}")
    return False


def _conclude(
    workspace: Workspace,
    stages: list[Stage],
    estimate: Estimate,
    facts: dict[str, str],
    console: Console,
) -> None:
    """Writes report and picture, shows the table and how to go on."""
    model = _model_folder(workspace)
    description = staging.read_description(workspace.data)
    scores = report.read_scores(workspace.summary, description)
    save_slices(workspace.picture, _held_out(workspace, description), report.classes(description))
    report.write_report(
        workspace.report,
        scores,
        facts=facts | report.model_facts(model) | report.versions(facts["device"]),
        seconds=estimate.seconds,
        commands=[stage.typed for stage in stages],
        picture=workspace.picture.name,
    )
    console.line(f"\nDice of the held-out cases, after {duration(estimate.elapsed())}:\n")
    console.line(report.score_table(scores))
    console.line(f"\nReport    {workspace.report}")
    console.line(f"Picture   {workspace.picture}")
    console.line(f"Log       {workspace.log}")
    console.line(f"Model     {model}")


def _held_out(workspace: Workspace, description: dict) -> list[HeldOut]:
    """The held-out cases in the order of their names, with the mean Dice of each."""
    ending = description["file_ending"]
    means = report.case_means(workspace.summary, ending)
    images = workspace.data / "imagesTs"
    return [
        HeldOut(
            f"{name}, Dice {mean:.2f}",
            images / f"{name}_0000{ending}",
            workspace.data / "labelsTs" / f"{name}{ending}",
            workspace.predictions / f"{name}{ending}",
        )
        for name, mean in sorted(means.items())
    ]


def _model_folder(workspace: Workspace) -> Path:
    """The folder that nnU-Net trained into, for its commands that take a model's folder."""
    found = sorted((workspace.results / workspace.dataset).glob("*__*__*"))
    return found[0] if found else workspace.results
