"""Tables of measured architectures: search and predict without training or a device.

`TABLES[name](data_dir)` reads one from the folder of public data:

    nas_bench_201   errors of 15,625 cells on three data sets, and their latencies on 29 devices
    hw_gpt_bench    perplexity of 10,000 GPT-2 sub-networks, and their latencies on 14 machines
    hat_TASK_DEVICE latency of 2,000 of HAT's transformers ("hat_wmt14ende_cpu_xeon"); of their
                    layers only averages were published

Sources: Dong and Yang, NAS-Bench-201 (ICLR 2020); Li et al., HW-NAS-Bench (ICLR 2021); Lee et al.,
HELP (NeurIPS 2021); Sukthanker et al., HW-GPT-Bench (NeurIPS 2024); Wang et al., HAT (ACL 2020).

Shape legend: N architectures, D dimensions.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nasbench.errors import RequestError, WorkError
from nasbench.registry import Registry
from nasbench.space import ActiveWhen, Architecture, ElasticDimension, Genomes, SearchSpace

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class MeasuredTable:
    """Architectures with what was measured of them.

    Args:
        name: the table's name in `TABLES`.
        space: may hold more than was measured.
        genomes: canonical, int64 of shape (N, D).
        metrics: "CONDITION.METRIC" ("cifar10.top1_error", "raspi4.latency_ms") -> float64 of
            shape (N,), in the metric's unit; NaN where it was not measured or could not be.
        unsupported: of some metrics, which architectures the device cannot run, bool (N,).
    """

    name: str
    space: SearchSpace
    genomes: Genomes
    metrics: Mapping[str, Floats]
    unsupported: Mapping[str, NDArray[np.bool_]]

    def rows(self, metric: str) -> NDArray[np.int64]:
        """The rows in which a metric was measured, in the order of the table."""
        return np.flatnonzero(np.isfinite(self.metrics[metric]))

    def look_up(self, architecture: Architecture, metric: str) -> float:
        """The measured value.

        Raises:
            WorkError: if the device cannot run the architecture: the trial failed.
            RequestError: if the table does not hold the architecture or its measurement.
        """
        row = self._row_of.get(self.space.to_genome(architecture).tobytes())
        if row is not None and metric in self.unsupported and self.unsupported[metric][row]:
            device = metric.partition(".")[0]
            raise WorkError(f"{device} cannot run architecture {architecture.id}")
        if row is None or not np.isfinite(self.metrics[metric][row]):
            raise RequestError(
                f"table '{self.name}' has no {metric} of architecture {architecture.id}"
            )
        return float(self.metrics[metric][row])

    @cached_property
    def _row_of(self) -> dict[bytes, int]:
        return {genome.tobytes(): row for row, genome in enumerate(self.genomes)}


TableReader = Callable[[Path | None], MeasuredTable]


# -- NAS-Bench-201 ------------------------------------------------------------------------------

_DATA_SETS = {"cifar10": "c10", "cifar100": "c100", "imagenet16_120": "in16"}
_HW_NAS_DEVICES = ("raspi4", "pixel3", "eyeriss", "fpga", "edgegpu", "edgetpu")


def nas_bench_201(data_dir: Path | None) -> MeasuredTable:
    """All 15,625 cells: six edges, each with one of five operations.

    `top1_error` is on test data after 200 epochs, the mean over the benchmark's seeds;
    `validation_top1_error` that on validation data, of fewer seeds. Latencies are of CIFAR-10's
    input; edge GPU and edge TPU were measured for 12,554 cells, some of which the edge TPU cannot
    run.
    """
    accuracies = _arrays(data_dir, "nasbench201.npz")
    latencies = _arrays(data_dir, "hwnasbench_nb201_cifar10.npz")
    operations = tuple(map(str, accuracies["op_names"]))
    edges = accuracies["edges"].tolist()
    space = SearchSpace([ElasticDimension(f"edge{a}_{b}", operations) for a, b in edges])
    metrics: dict[str, NDArray[np.floating]] = {}
    for name, key in _DATA_SETS.items():
        metrics[f"{name}.top1_error"] = 1 - accuracies[f"{key}_test_200"].astype(float) / 100
        metrics[f"{name}.validation_top1_error"] = (
            1 - accuracies[f"{key}_val_200"].astype(float) / 100
        )
        metrics[f"{name}.num_parameters"] = accuracies[f"{key}_params"]
    for device in _HW_NAS_DEVICES:
        metrics[f"{device}.latency_ms"] = latencies[f"{device}_latency_ms"]
    for device, column in zip(
        latencies["help_devices"], latencies["help_latency_ms"].T, strict=True
    ):
        metrics[f"{device}.latency_ms"] = column
    return MeasuredTable(
        "nas_bench_201",
        space,
        accuracies["op"].astype(np.int64),
        {name: values.astype(np.float64) for name, values in metrics.items()},
        {"edgetpu.latency_ms": latencies["edgetpu_unsupported"]},
    )


# -- HW-GPT-Bench -------------------------------------------------------------------------------


def hw_gpt_bench(data_dir: Path | None) -> MeasuredTable:
    """10,000 sub-networks of the GPT-2 small supernet, in the space of the family `decoder`.

    Latency is the median of ten forward passes of 8 x 1024 tokens; perplexity is that of
    OpenWebText with the supernet's weights.
    """
    arrays = _arrays(data_dir, "hwgptbench_s.npz")
    depths = tuple(np.unique(arrays["n_layer"]).tolist())
    columns = {
        "hidden_size": arrays["embed_dim"],
        "depth": arrays["n_layer"],
        "has_bias": arrays["bias"],
    }
    conditions: dict[str, ActiveWhen] = {}
    for layer in range(1, max(depths) + 1):
        for name, key in (("num_heads", "n_head"), ("feed_forward_ratio", "mlp_ratio")):
            columns[f"layer{layer}.{name}"] = arrays[key][:, layer - 1]
            if layer > min(depths):
                deep_enough = tuple(depth for depth in depths if depth >= layer)
                conditions[f"layer{layer}.{name}"] = ActiveWhen("depth", deep_enough)
    absent = 0  # what the file has for layers that do not run; no choice
    choices = {
        name: tuple(value for value in np.unique(column).tolist() if value is False or value)
        for name, column in columns.items()
    }
    space = SearchSpace(
        [ElasticDimension(name, choices[name], conditions.get(name)) for name in columns]
    )
    genomes = np.column_stack(
        [
            np.searchsorted(choices[name], np.where(column == absent, choices[name][0], column))
            for name, column in columns.items()
        ]
    )
    metrics = {
        f"{device}.latency_ms": column
        for device, column in zip(arrays["devices"], arrays["latency_ms"].T, strict=True)
    }
    metrics |= {"openwebtext.perplexity": arrays["perplexity"], "num_macs": arrays["macs"]}
    return MeasuredTable(
        "hw_gpt_bench",
        space,
        space.canonical_genomes(genomes),
        {name: values.astype(np.float64) for name, values in metrics.items()},
        {},
    )


# -- HAT ----------------------------------------------------------------------------------------

_HAT_COLUMNS = {
    "encoder.hidden_size": "encoder_embed_dim",
    "encoder.depth": "encoder_layer_num",
    "encoder.mean_feed_forward_width": "encoder_ffn_embed_dim_avg",
    "encoder.mean_num_heads": "encoder_self_attention_heads_avg",
    "decoder.hidden_size": "decoder_embed_dim",
    "decoder.depth": "decoder_layer_num",
    "decoder.mean_feed_forward_width": "decoder_ffn_embed_dim_avg",
    "decoder.mean_num_self_heads": "decoder_self_attention_heads_avg",
    "decoder.mean_num_cross_heads": "decoder_ende_attention_heads_avg",
    "decoder.mean_num_attended": "decoder_arbitrary_ende_attn_avg",
}
_HAT_PAIRS = [
    ("iwslt14deen", "gpu_titanxp"),
    ("wmt19ende", "gpu_titanxp"),
    *(
        (task, device)
        for task in ("wmt14ende", "wmt14enfr")
        for device in ("cpu_raspberrypi", "cpu_xeon", "gpu_titanxp")
    ),
]


def hat(data_dir: Path | None, task: str, device: str) -> MeasuredTable:
    """2,000 transformers by the ten numbers that HAT predicts from, in the order measured.

    Latency is that of one sentence, encoder and all decoding steps together. Not every
    combination of averages is that of a network, so the space serves to predict, not to search.
    """
    path = _file(data_dir, "hat_latency.csv.gz")
    frame = pd.read_csv(path)
    frame = frame[(frame["task"] == task) & (frame["device"] == device)]
    choices = {name: np.unique(frame[column]) for name, column in _HAT_COLUMNS.items()}
    space = SearchSpace([ElasticDimension(name, tuple(each)) for name, each in choices.items()])
    genomes = [np.searchsorted(choices[n], frame[column]) for n, column in _HAT_COLUMNS.items()]
    latency = frame["latency_mean_encoder"] + frame["latency_mean_decoder"]
    metrics = {f"{device}.latency_ms": latency.to_numpy(dtype=np.float64)}
    return MeasuredTable(f"hat_{task}_{device}", space, np.column_stack(genomes), metrics, {})


TABLES: Registry[TableReader] = Registry(
    "table",
    {"nas_bench_201": nas_bench_201, "hw_gpt_bench": hw_gpt_bench}
    | {
        f"hat_{task}_{device}": partial(hat, task=task, device=device)
        for task, device in _HAT_PAIRS
    },
)


# -- files --------------------------------------------------------------------------------------

_SOURCES = {
    "nasbench201.npz": "D-X-Y/NATS-Bench (topology search space)",
    "hwnasbench_nb201_cifar10.npz": "GATECH-EIC/HW-NAS-Bench and HayeonLee/HELP",
    "hwgptbench_s.npz": "automl/HW-GPT-Bench",
    "hat_latency.csv.gz": "mit-han-lab/hardware-aware-transformers, folder latency_dataset",
}


def _file(data_dir: Path | None, name: str) -> Path:
    """The path of a file under `nas/`; RequestError says where it comes from and goes."""
    source = f"made from the public measurements of github.com/{_SOURCES[name]}"
    if data_dir is None:
        raise RequestError(
            f"a table of measured architectures needs nas/{name} ({source}); set NASBENCH_DATA "
            "to the folder that holds it"
        )
    path = data_dir / "nas" / name
    if not path.is_file():
        raise RequestError(f"there is no '{path}'; the file is {source}: put it there")
    return path


def _arrays(data_dir: Path | None, name: str) -> dict[str, NDArray]:
    with np.load(_file(data_dir, name), allow_pickle=False) as arrays:
        return dict(arrays)
