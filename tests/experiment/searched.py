"""Runs that were searched without training: a folder as a finished run leaves it, in an instant."""

import json

import numpy as np

from nasbench.config import parse_config
from nasbench.experiment.report import write_pareto_csv
from nasbench.experiment.run import Run
from nasbench.objectives import Constraint
from nasbench.space import ActiveWhen, ElasticDimension, SearchSpace

SPACE = SearchSpace(
    [
        ElasticDimension("stage1.depth", (1, 2)),
        ElasticDimension("stage1.width", (8, 16, 24)),
        ElasticDimension("stage1.block1.kernel_size", (3, 5, 7)),
        ElasticDimension("stage1.block2.kernel_size", (3, 5, 7), ActiveWhen("stage1.depth", (2,))),
    ]
)


def measurements_of(architecture, rng):
    """Of a toy network: more of anything costs more and errs less."""
    size = architecture["stage1.width"] * sum(
        architecture[f"stage1.block{block + 1}.kernel_size"]
        for block in range(architecture["stage1.depth"])
    )
    error = 0.05 + 4 / (size + 8) + 0.03 * rng.random()
    return {
        "top1_error": error,
        "top1_accuracy": 1 - error,
        "latency_ms": 0.2 + 0.004 * size + 0.1 * rng.random(),
        "num_macs": 100.0 * size,
    }


def make_searched_run(
    folder, *, seed=0, num_trials=24, name="toy", task="digits", space=SPACE, **search
):
    """Write the folder of a run that measured `num_trials` sub-networks; the last one failed."""
    settings = {"batch_size": 4, "constraints": ["latency_ms <= 1.1"], **search}
    config = parse_config(
        {
            "name": name,
            "seed": seed,
            "task": {"name": task},
            "supernet": {"family": "mobilenet_v3"},
            "search": {"num_trials": num_trials, **settings},
        },
        source="test",
    )
    run = Run(folder, config)
    run.create()
    checkpoint = run.checkpoints / "step-0000012"
    checkpoint.mkdir(parents=True)
    looks = {"largest": {"top1_accuracy": 0.8}, "smallest": {"top1_accuracy": 0.6}}
    history = [
        {"epoch": epoch, "loss": 2 / epoch, "looks": looks if epoch % 2 else {}}
        for epoch in range(1, 6)
    ]
    (checkpoint / "state.json").write_text(json.dumps({"history": history}))
    run.mark_done("train", seconds=1.0, checkpoint=checkpoint.name)
    run.begin_search(space, "toy", [Constraint.parse(text) for text in config.search.constraints])
    rng = np.random.default_rng(seed)
    store = run.open_store()
    architectures = dict.fromkeys(space.sample(rng) for _ in range(8 * num_trials))
    proposed = store.propose(list(architectures)[:num_trials])
    for trial in proposed[:-1]:
        store.finish(trial.completed(measurements_of(trial.architecture, rng)))
    store.finish(proposed[-1].failed("it was the last"))
    conditions = {"engine": "onnxruntime", "num_threads": 1}
    run.mark_done("search", seconds=2.0, latency_conditions=conditions)
    tested = {
        trial.number: {"top1_accuracy": 0.9 * trial.measurements["top1_accuracy"]}
        for trial in run.pareto_front()
    }
    write_pareto_csv(run, tested, ["top1_accuracy"])
    run.mark_done("report", seconds=0.5, num_front=len(tested))
    return run
