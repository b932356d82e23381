"""Options of `refsam3d crossval`."""

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `refsam3d crossval` to a parser."""
    parser.add_argument("dataset", help="data set, as nnU-Net names it: 4 or Dataset004_Name")
    parser.add_argument("-c", dest="configuration", default="3d_fullres", metavar="CONFIGURATION")
    parser.add_argument(
        "--trainers",
        nargs="+",
        default=["RefSAM3DTrainer", "nnUNetTrainer"],
        metavar="TRAINER[:PLANS]",
        help="what to compare (default: %(default)s); plans are RefSAM3DPlans for "
        "RefSAM3DTrainer and nnUNetPlans for others, unless named",
    )
    parser.add_argument(
        "--folds", nargs="+", default=["0-4"], metavar="FOLD", help="such as 0-4 or 0 2 3"
    )
    parser.add_argument(
        "-o",
        dest="out",
        type=Path,
        help="folder of the results (default: nnUNet_results/DATASET/crossval_CONFIGURATION)",
    )
    parser.add_argument("-device", choices=("cuda", "cpu", "mps"), default="cuda")
    parser.add_argument(
        "-num_gpus", type=int, default=1, metavar="N", help="GPUs of one training, by DDP"
    )
    parser.add_argument(
        "--npz",
        action="store_true",
        help="keep the probabilities of the validation cases, which ensembles are made of",
    )
    parser.add_argument(
        "--ensemble",
        action="store_true",
        help="when all is done, find the best model or ensemble of two by nnU-Net's "
        "find_best_configuration; implies --npz",
    )
    parser.add_argument(
        "--ensemble-with",
        nargs="+",
        default=[],
        metavar="TRAINER:PLANS:CONFIGURATION",
        help="models that are done with --npz, to ensemble too; implies --ensemble",
    )
    parser.add_argument(
        "-np", dest="processes", type=int, metavar="N", help="processes to plan and evaluate with"
    )
    _add_job_arguments(parser)
    parser.add_argument(
        "--baseline",
        metavar="TRAINER[:PLANS]",
        help="what the others are compared with (default: the last of --trainers)",
    )
    parser.add_argument(
        "--margin", type=float, metavar="M", help="non-inferiority margin in Dice, as in compare"
    )


def _add_job_arguments(parser: argparse.ArgumentParser) -> None:
    jobs = parser.add_argument_group("jobs")
    jobs.add_argument("--executor", choices=("local", "slurm"), default="local")
    jobs.add_argument(
        "--parallel",
        type=int,
        metavar="N",
        help="jobs at a time (default: as many as there are GPUs for, one without a GPU; "
        "with slurm all)",
    )
    jobs.add_argument(
        "--retries",
        type=int,
        default=2,
        metavar="N",
        help="how often a killed job is started again (default: %(default)s)",
    )
    jobs.add_argument(
        "--time",
        type=int,
        metavar="MIN",
        help="slurm, needed: time limit of a job; what takes longer is queued again and goes on",
    )
    jobs.add_argument("--memory", type=float, metavar="GB", help="slurm: memory of a job")
    jobs.add_argument("--partition", metavar="NAME", help="slurm: where to run")
    jobs.add_argument("--cpus", type=int, metavar="N", help="slurm: cores of a job")
    jobs.add_argument(
        "--gpus", type=int, metavar="N", help="slurm: GPUs of a job (default: -num_gpus, or 0)"
    )
