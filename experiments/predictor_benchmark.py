"""How well predictors know accuracies and devices from few measurements, on public tables.

    python experiments/predictor_benchmark.py RESULTS.jsonl              measure what is missing
    python experiments/predictor_benchmark.py RESULTS.jsonl --tables     print what was measured

Every line of the file is one predictor fitted to one random sample (a seed), so a stopped run
carries on, and a part of a run is a fair part of it. Data is read from the folder in
NASBENCH_DATA.

Predictors are fitted to `size` random architectures and judged on up to 2,000 others: Kendall's
tau-b, tau within strata, RMSE, MAPE, and the share of errors below the predicted standard
deviation (0.68 for a normal distribution). On HAT's table they learn from rows 0 to 1,599 and are
judged on rows 1,800 to 1,999, the parts that HAT's own predictor was trained and tested on.
"""

import argparse
import json
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd

from nasbench.predictors import PREDICTORS, Predictor
from nasbench.predictors.quality import measure_quality
from nasbench.predictors.transfer import TransferPredictor
from nasbench.tasks.tables import TABLES, MeasuredTable

NUM_TESTED = 2000
PRIOR_SIZE = 200  # samples of the other device that a transfer starts from
SIZES = (25, 50, 100, 200, 400)


@dataclass(frozen=True, slots=True)
class Cell:
    """One predictor to fit.

    Args:
        predictor: its name; after a slash the encoding; for `transfer`, the other metric.
    """

    table: str
    metric: str
    predictor: str
    size: int
    seed: int


MAIN = ("gp", "auto", "gp/one_hot", "ridge", "lightgbm")
OTHERS = ("lightgbm/ordinal", "svr", "random_forest", "stacked", "ensemble", "mlp")
DEVICES = ("raspi4", "pixel3", "edgegpu", "eyeriss", "fpga", "1080ti_1", "silver_4114",
           "titan_rtx_32")  # fmt: skip
TRANSFERS = {  # a device -> the one whose model is the prior
    "raspi4": "pixel3",
    "pixel3": "raspi4",
    "edgegpu": "raspi4",
    "1080ti_1": "titanx_1",
    "silver_4114": "gold_6226",
    "titan_rtx_32": "1080ti_32",
}
GPT_DEVICES = ("a100", "a40", "a6000", "h100", "P100", "rtx2080", "rtx3080", "v100", "cpu_a6000",
               "cpu_alldlc", "cpu_meta", "cpu_mlgpu", "cpu_p100")  # fmt: skip


def cells(num_seeds: int) -> Iterator[Cell]:
    """What there is to measure, the most telling first, then the seeds outermost."""
    hat = {name: name.split("_", 2)[2] + ".latency_ms" for name in TABLES if "hat_" in name}
    for seed in range(num_seeds):
        for predictor in MAIN:
            for size in SIZES:
                yield Cell("nas_bench_201", "cifar10.top1_error", predictor, size, seed)
            for device in DEVICES:
                yield Cell("nas_bench_201", f"{device}.latency_ms", predictor, 50, seed)
        for table, metric in hat.items():
            for predictor in ("gp", "auto", "ridge"):
                yield Cell(table, metric, predictor, 50, seed)
        for device, other in TRANSFERS.items():
            metric = f"{device}.latency_ms"
            yield Cell("nas_bench_201", metric, f"transfer/{other}.latency_ms", 20, seed)
            yield Cell("nas_bench_201", metric, "gp", 20, seed)
            yield Cell("nas_bench_201", metric, "gp", 100, seed)
    for table, metric in hat.items():  # all that HAT's own predictor learned from
        yield Cell(table, metric, "gp", 1600, 0)
    for seed in range(num_seeds):
        for metric in ("openwebtext.perplexity", *(f"{d}.latency_ms" for d in GPT_DEVICES)):
            for predictor in ("gp", "auto", "ridge", "lightgbm"):
                yield Cell("hw_gpt_bench", metric, predictor, 50, seed)
    for seed in range(num_seeds):
        for predictor in OTHERS:
            for size in SIZES:
                yield Cell("nas_bench_201", "cifar10.top1_error", predictor, size, seed)


# -- measuring ----------------------------------------------------------------------------------


@cache
def read_table(name: str) -> MeasuredTable:
    """From the folder in NASBENCH_DATA."""
    folder = os.environ.get("NASBENCH_DATA")
    return TABLES[name](Path(folder) if folder else None)


def split(cell: Cell, table: MeasuredTable) -> tuple[np.ndarray, np.ndarray]:
    """Rows to learn from and rows to judge on."""
    rng = np.random.default_rng(cell.seed)
    if cell.table.startswith("hat_"):
        return rng.permutation(1600)[: cell.size], np.arange(1800, 2000)
    rows = rng.permutation(table.rows(cell.metric))
    return rows[: cell.size], rows[cell.size :][:NUM_TESTED]


def build(cell: Cell, table: MeasuredTable) -> Predictor:
    """The predictor, not yet fitted; a transfer's prior is."""
    name, _, more = cell.predictor.partition("/")
    if name != "transfer":
        return PREDICTORS[name](table.space, cell.seed, encoding=more or None)
    rows = np.random.default_rng(1000 + cell.seed).permutation(table.rows(more))[:PRIOR_SIZE]
    prior = PREDICTORS["gp"](table.space, cell.seed)
    prior.fit(table.genomes[rows], table.metrics[more][rows])
    return TransferPredictor(table.space, cell.seed, prior=prior)


def measure(cell: Cell) -> dict[str, object]:
    """Fit, predict and judge; seconds are of the process's own time."""
    table = read_table(cell.table)
    known, unknown = split(cell, table)
    predictor = build(cell, table)
    values = table.metrics[cell.metric]
    start = time.process_time()
    predictor.fit(table.genomes[known], values[known])
    fit_seconds = time.process_time() - start
    strata = table.genomes[unknown, 0] if cell.table == "hw_gpt_bench" else None  # hidden size
    quality = measure_quality(predictor.predict(table.genomes[unknown]), values[unknown], strata)
    details = {"chosen": getattr(predictor, "chosen", None)}
    return asdict(cell) | asdict(quality) | details | {"fit_seconds": fit_seconds}


def read_results(path: Path) -> list[dict[str, object]]:
    """The finished lines; one that was cut off is measured again."""
    found = []
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return found


def run(path: Path, num_seeds: int) -> None:
    """Measure what the file does not hold yet."""
    keys = tuple(Cell.__slots__)
    done = {tuple(result[key] for key in keys) for result in read_results(path)}
    missing = [cell for cell in cells(num_seeds) if tuple(asdict(cell).values()) not in done]
    with path.open("a") as stream:
        for number, cell in enumerate(dict.fromkeys(missing), 1):
            stream.write(json.dumps(measure(cell)) + "\n")
            stream.flush()
            print(f"{number}/{len(missing)} {cell}")


# -- tables -------------------------------------------------------------------------------------


def print_tables(results: Sequence[dict[str, object]]) -> None:
    """Mean and standard deviation over seeds, as Markdown."""
    frame = pd.DataFrame(results)
    frame = frame.drop_duplicates(list(Cell.__slots__))
    for (table, size), part in frame.groupby(["table", "size"], sort=False):
        print(f"\n### {table}, {size} samples: tau over {part['seed'].nunique()} seeds\n")
        print_markdown(part, "tau")
        if part["within_tau"].notna().any():
            print("\nwithin strata:\n")
            print_markdown(part, "within_tau")
    print("\n### All\n")
    columns = ["tau", "spearman", "mape", "coverage", "fit_seconds"]
    print_rows(frame.groupby(["table", "size", "predictor"], sort=False)[columns].mean())


def print_markdown(part: pd.DataFrame, column: str) -> None:
    """A row per metric, a column per predictor."""
    by = part.groupby(["metric", "predictor"], sort=False)[column]
    cells = by.agg(lambda v: f"{v.mean():.3f} ({v.std(ddof=0):.3f})").unstack()
    print_rows(cells[[p for p in dict.fromkeys(part["predictor"]) if p in cells]].fillna(""))


def print_rows(frame: pd.DataFrame) -> None:
    """A frame with its index."""
    shown = frame.reset_index()
    print("| " + " | ".join(map(str, shown.columns)) + " |")
    print("|" + "---|" * len(shown.columns))
    for row in shown.itertuples(index=False):
        print("| " + " | ".join(f"{v:.3f}" if isinstance(v, float) else str(v) for v in row) + " |")


def main() -> None:
    """Arguments."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", type=Path)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--tables", action="store_true", help="print instead of measuring")
    arguments = parser.parse_args()
    if arguments.tables:
        print_tables(read_results(arguments.results))
    else:
        run(arguments.results, arguments.seeds)


if __name__ == "__main__":
    main()
