"""A study of three methods, small enough to be checked by hand."""

CASES = [f"v{i}" for i in range(6)]
OURS = [0.6, 0.7, 0.5, 0.7, 0.7, 0.7]
SGD = [0.2, 0.1, 0.2, 0.3, 0.1, 0.2]
ADAMW = [0.5, 0.6, 0.4, 0.5, 0.7, 0.6]


def run_of(method, dice, seed=0, budget="steps4", *, fold=0, **more):
    cases = [f"{name}{'of fold 1' * fold}" for name in CASES]
    by_case = {name: {"liver": d, "spleen": d - 0.1} for name, d in zip(cases, dice, strict=True)}
    told = {"set": "abdomen", "method": method, "budget": budget, "seed": seed, "fold": fold}
    told |= {"dice": by_case}
    told |= {"steps": 4, "seconds": 120.0, "processor_seconds": 60.0, "patch": [8, 8, 8]}
    told |= {"batch": 2, "parameters": 3_000_000, "parameters_tuned": 2_000_000}
    curve = {"steps": [2, 4], "seconds": [60.0, 120.0], "dice": [None, dice[0]]}
    curve["processor_seconds"] = [30.0, 60.0]
    return told | {"curve": curve} | more


def result_of(runs):
    return {
        "command": "python benchmarks/accuracy.py --data abdomen",
        "machine": {"device": "cpu", "torch": "2"},
        "settings": {"clock": "process"},
        "methods": ["refsam3d", "nnunet", "nnunet_adamw"],
        "budgets": {"steps4": "steps:4", "seconds9": "seconds:9"},
        "sets": {
            "abdomen": {
                "spacing": [5.0, 5.0, 5.0],
                "patch": [8, 8, 8],
                "batch": 2,
                "token": [8, 8, 8],
                "preset": "vit_t",
                "folds": {"0": {"train": 24, "val": 6}},
                "probe": {"refsam3d": 1.25, "nnunet": 3.0, "nnunet_adamw": 3.1},
            }
        },
        "runs": runs,
    }


THREE = [("refsam3d", OURS), ("nnunet", SGD), ("nnunet_adamw", ADAMW)]
