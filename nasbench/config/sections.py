"""The sections of a configuration: frozen, validated values.

What a constructor here accepts, the rest of the program may trust as to form; whether the
*names* in it exist (an algorithm, a task) is asked where their registries live.
"""

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    field_validator,
    model_validator,
)

from nasbench.errors import RequestError, without_passwords

DeviceName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)]
"""A part of resource names and of paths."""


class Section(BaseModel):
    """One part of the configuration: immutable, and without settings that nobody reads."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class TaskConfig(Section):
    """The data and what is to be predicted from it."""

    name: str
    """What it is called in `nasbench list tasks`, or `module:function` of your own."""
    data_dir: Path | None = None
    """Folder of the public data files; the default is the environment's NASBENCH_DATA."""
    options: dict[str, Any] = {}
    """Passed to the task: augmentation, vocabulary, lengths; what there is depends on the task."""


class TableConfig(Section):
    """Architectures that somebody measured, to search without training; see `tasks.tables`."""

    name: str
    """What it is called in `nasbench list tables`, or `module:function` of your own."""
    conditions: tuple[str, ...]
    """Under which they were measured: a data set and a device, say ("cifar10", "raspi4")."""
    data_dir: Path | None = None
    """Folder of the public data files; the default is the environment's NASBENCH_DATA."""


class SupernetConfig(Section):
    """Which family of sub-networks, and how they share weights."""

    family: str
    """What it is called in `nasbench list supernets`, or `module:object` of your own."""
    preset: str = "tiny"
    """Which of the family's spaces; `nasbench profile FAMILY` shows them."""
    sharing: str = "slice"
    """Where weights come from; one of `nasbench list sharings`."""
    options: dict[str, Any] = {}
    """Replacements for settings of the preset (dropout, say); what there is depends on the
    family, and what the data decides cannot be replaced."""
    pretrained: Path | None = None
    """In place of a preset, a folder with config.json and safetensors of a Hugging Face model; see
    `nasbench.supernet.convert`. A task of text reads with its tokenizer, unless it has another."""
    elastic: dict[str, tuple[int, ...]] = {}
    """Of a pre-trained network: patterns of dimensions' names with their choices; without any, the
    proportions of InstaTune."""
    order: Literal["original", "weights"] = "original"
    """Of the heads and neurons of a pre-trained network: as they are, or by importance."""

    @model_validator(mode="after")
    def _fits_a_pretrained_network(self) -> Self:
        if self.pretrained is None:
            for name in ("elastic", "order"):
                if getattr(self, name) != type(self).model_fields[name].default:
                    raise ValueError(f"{name} is for a network that is given as 'pretrained'")
        else:
            for name in ("preset", "sharing", "options"):
                if getattr(self, name) != type(self).model_fields[name].default:
                    raise ValueError(f"{name} cannot be set beside 'pretrained'")
        return self


class DistillationConfig(Section):
    """How a sub-network learns from another's predictions; which ones do, the strategy says."""

    loss: Literal["soft_targets", "alpha_divergence"] = "soft_targets"
    """Cross-entropy to the teacher's probabilities, or AlphaNet's adaptive divergence."""
    temperature: PositiveFloat = 1.0
    """Divides the logits of both; the loss is multiplied by its square."""
    feature_weight: NonNegativeFloat = 0.0
    """Weight of the mean squared difference of the last features, beside the predictions' loss."""


class TrainingConfig(Section):
    """How the supernet is trained; see `nasbench.supernet.training`."""

    strategy: str = "sandwich"
    """Which sub-networks a step trains; one of `nasbench list strategies`."""
    options: dict[str, Any] = {}
    """Passed to the strategy."""
    distillation: DistillationConfig = DistillationConfig()
    """How sub-networks learn from others."""
    epochs: PositiveInt = 40
    """Passes over the training data."""
    batch_size: PositiveInt = 64
    """Samples of an optimizer step, over all workers and accumulated pieces."""
    accumulation_steps: PositiveInt = 1
    """Pieces that each worker computes its part of a batch in, one after the other."""
    optimizer: Literal["adamw", "adam", "sgd"] = "adamw"
    """Adam is without decoupled weight decay; SGD has Nesterov momentum of 0.9."""
    learning_rate: PositiveFloat = 3e-3
    """The highest, at the end of the warm-up."""
    schedule: Literal["cosine", "linear", "exponential", "constant"] = "cosine"
    """After the warm-up: to zero as a cosine or a line, to a constant 5 % of the rate (BigNAS) or
    not at all."""
    warmup_epochs: NonNegativeFloat = 2
    """Epochs in which the rate rises from nothing; a part of `epochs`."""
    weight_decay: NonNegativeFloat = 0.01
    """Of matrices and kernels."""
    label_smoothing: float = Field(default=0.1, ge=0, lt=1)
    """The share of a label's probability that goes to all classes alike."""
    gradient_clip_norm: PositiveFloat | None = 5.0
    """The largest norm of a step's gradient; None clips none."""
    gradient_clip_value: PositiveFloat | None = None
    """The largest size of each entry of the gradient; None clips none."""
    averaging_decay: float | None = Field(default=None, gt=0, lt=1)
    """Decay per step of an exponential moving average of the weights, which is then what is
    searched; None searches the weights themselves."""
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    """Of matrix products and convolutions (autocast); float16 needs a GPU."""
    channels_last: bool = False
    """The memory format of images and convolutions, which some GPUs prefer; on the CPU images
    always have it."""
    deterministic: bool = False
    """Refuse operations whose result depends on timing; on the CPU there are none."""
    device: str = "auto"
    """A torch device such as cpu or cuda:1; auto takes a GPU where there is one."""
    num_threads: PositiveInt | None = None
    """Torch threads; None takes all cores, and the weights then depend, to rounding, on how many
    there are."""
    num_workers: PositiveInt = 1
    """Processes on Ray that share each batch; 1 trains in the calling process."""
    sync_batch_norm: bool = True
    """Normalize by the statistics of the whole batch, so that the number of workers changes nothing
    but rounding; false normalizes each worker's part by itself, which waits for nobody."""
    checkpoint_every: PositiveFloat = 5
    """Epochs between checkpoints; 0.1 is a tenth of an epoch."""
    keep_checkpoints: PositiveInt = 2
    """How many of the last ones stay on disk."""
    monitor_every: NonNegativeFloat = 10
    """Epochs between looks at the largest, the smallest and a random sub-network; 0 for none."""
    monitor_samples: PositiveInt = 1000
    """Validation samples of such a look."""

    @model_validator(mode="after")
    def _pieces_fit(self) -> Self:
        if self.warmup_epochs >= self.epochs:
            raise ValueError(f"warmup_epochs={self.warmup_epochs} leaves nothing of {self.epochs}")
        pieces = self.num_workers * self.accumulation_steps
        if self.batch_size % pieces:
            raise ValueError(
                f"batch_size={self.batch_size} cannot be shared equally by num_workers="
                f"{self.num_workers} times accumulation_steps={self.accumulation_steps}"
            )
        return self

    def identity(self) -> dict[str, Any]:
        """The settings that decide, but for rounding, which weights training ends with."""
        elsewhere = {
            "device",
            "checkpoint_every",
            "keep_checkpoints",
            "monitor_every",
            "monitor_samples",
        }
        if self.sync_batch_norm:
            elsewhere.add("num_workers")
        return self.model_dump(mode="json", exclude=elsewhere)


class ScreeningConfig(Section):
    """A cheap evaluation, with less data, before the full one; see `nasbench.search.screening`."""

    validation_samples: PositiveInt
    """Validation samples of the cheap evaluation."""
    calibration_samples: PositiveInt = 128
    """Training samples that re-compute the normalization statistics for it."""


class EvaluationConfig(Section):
    """How a sub-network's accuracy is measured."""

    calibration_samples: PositiveInt = 512
    """Training samples that re-compute the normalization statistics of each sub-network."""
    batch_size: PositiveInt = 256
    """Samples of one forward pass."""
    validation_samples: PositiveInt | None = None
    """Validation samples that a search measures with; None takes all."""
    screening: ScreeningConfig | None = None
    """Evaluate with so much less first, and fully what could reach the front; None never does."""


class LatencyConfig(Section):
    """The measurement protocol; see `nasbench.hardware.protocol`."""

    engine: str = "onnxruntime"
    """What runs the network; one of `nasbench list engines`."""
    device: DeviceName | None = None
    """A target device: the Ray node that was started with --resources '{"device:NAME": 1}'; None
    measures on any node that offers a latency slot, or in the calling process."""
    num_threads: PositiveInt = 1
    """Threads that one forward pass may use."""
    batch_size: PositiveInt = 1
    """Samples of one forward pass."""
    sequence_length: PositiveInt | None = None
    """Tokens of each sample, for networks that read tokens; None takes those of the task."""
    num_warmup: NonNegativeInt = 20
    """Forward passes before the first that counts."""
    num_repeats: PositiveInt = 200
    """Timed forward passes, at most."""
    precision: float | None = Field(default=None, gt=0, lt=1)
    """Stop earlier where the median is known to within this share of it; None never does."""
    has_control: bool = False
    """Time a network that never changes beside each one, which shows when the machine does."""
    predictor: Path | None = None
    """A file of `nasbench lut build` or `nasbench device fit`, which says what the metric
    `predicted_latency_ms` is."""


class SearchConfig(Section):
    """What is optimized, by which algorithm, with how many measured sub-networks."""

    algorithm: str = "auto"
    """One of `nasbench list algorithms`, or `module:object` of your own."""
    objectives: tuple[str, ...] = ("top1_error", "latency_ms")
    """Metrics to optimize; figures draw the first upwards and the second to the right."""
    constraints: tuple[str, ...] = ()
    """Bounds such as `latency <= 3 ms` or `num_macs <= 60%` (of the largest sub-network)."""
    num_trials: PositiveInt = 160
    """Sub-networks to measure; raising it carries a finished search on."""
    batch_size: PositiveInt = 20
    """Sub-networks that the algorithm proposes at once, and learns from together."""
    concurrent_batches: PositiveInt = 1
    """Batches that are evaluated at a time. With 2, workers do not wait for a batch's slowest
    trial: the next batch is proposed meanwhile, and so without knowing what this one finds."""
    max_consecutive_failures: PositiveInt = 10
    """So many failures in a row end a search of sub-networks; in a table they are gaps."""
    earlier: Path | None = None
    """The folder of a run of the same space, on another device or data set, whose trials the
    algorithm `auto` begins from; None begins at random."""
    options: dict[str, Any] = {}
    """Passed to the algorithm."""

    @model_validator(mode="after")
    def _has_objectives_and_a_batch(self) -> Self:
        if not self.objectives:
            raise ValueError("objectives is empty; give at least one metric")
        if len(set(self.objectives)) != len(self.objectives):
            raise ValueError(f"objectives repeats a metric: {', '.join(self.objectives)}")
        if self.batch_size > self.num_trials:
            raise ValueError(f"batch_size={self.batch_size} exceeds num_trials={self.num_trials}")
        return self


class ShapeSearchConfig(Section):
    """Widths and depths that are learned by gradient, once for each target, in place of a search of
    sub-networks with shared weights; see `nasbench.supernet.shape_search`.

    The section `training` says how weights are trained: those of the unpruned network, those of
    each shape that is found, and for `epochs` those that are mixed while a shape is learned.
    """

    cost: str = "num_macs"
    """num_macs, num_parameters, or predicted_latency_ms by the look-up table in
    `latency.predictor`."""
    targets: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = (0.3, 0.5, 0.7)
    """Shares of the unpruned network's cost, one search each."""
    tolerance: float = Field(default=0.05, gt=0, lt=1)
    """How far below its target a cost may be, as a share of the unpruned network's."""
    cost_weight: PositiveFloat = 2.0
    """Of the cost's loss, beside the cross-entropy."""
    epochs: PositiveInt = 40
    """Of a search: each half of the training data once."""
    logits_learning_rate: PositiveFloat = 0.01
    """Of the logits, with Adam; constant."""
    logits_weight_decay: NonNegativeFloat = 1e-3
    """Of the logits."""
    max_temperature: PositiveFloat = 5.0
    """Of the Gumbel-softmax, at the first step; it falls linearly."""
    min_temperature: PositiveFloat = 0.1
    """Of the Gumbel-softmax, at the last step."""
    selection_samples: PositiveInt = 2000
    """Samples of the second half that say which epoch's shape is taken."""
    distillation_weight: float = Field(default=0.9, ge=0, le=1)
    """The share of the unpruned network's predictions in the loss of a shape that is trained; 0 is
    labels alone."""
    distillation_temperature: PositiveFloat = 4.0
    """By which the logits of both networks are divided before their predictions are compared."""

    @model_validator(mode="after")
    def _targets_and_temperatures_fit(self) -> Self:
        if not self.targets:
            raise ValueError("targets is empty; give at least one share, such as 0.5")
        if len(set(self.targets)) != len(self.targets):
            raise ValueError("targets repeats a share")
        if self.min_temperature > self.max_temperature:
            raise ValueError(
                f"min_temperature={self.min_temperature:g} exceeds max_temperature="
                f"{self.max_temperature:g}"
            )
        return self


class ResourcesConfig(Section):
    """What the work runs on; changes how long a run takes, and results to rounding at most."""

    workers: NonNegativeInt = 2
    """Evaluation actors on Ray; 0 evaluates in the calling process."""
    cpus_per_worker: PositiveInt = 1
    """Cores, and threads, of each."""
    gpus_per_worker: NonNegativeFloat = 0
    """Of Ray's GPUs; 0.25 lets four workers share one, 0 evaluates on the CPU."""
    address: str | None = None
    """An existing Ray cluster; the default starts Ray on this machine."""
    max_retries: NonNegativeInt = 3
    """How often a trial is tried again after its worker died."""
    trial_timeout_s: PositiveFloat = 600
    """A worker that is silent for longer is replaced."""


class StoreConfig(Section):
    """Where the trials are kept; see `nasbench.store.places`."""

    url: str | None = None
    """None is an SQLite file in the run's folder; a file elsewhere is refused. A server's password
    comes from PGPASSWORD or ~/.pgpass, as a run's folder keeps its configuration."""
    study: str | None = None
    """The search's name within a database that holds several; None makes one of the run's name and
    settings, so that the same run in another folder finds its trials again."""
    patience_s: NonNegativeFloat = 120
    """How long a server that stops to answer is waited for."""
    heartbeat_s: PositiveFloat = 10
    """Between two signs of life; a process that missed three is taken for dead."""

    @field_validator("url")
    @classmethod
    def _keeps_no_password(cls, url: str | None) -> str | None:
        if url is not None and url != without_passwords(url):
            raise ValueError(
                f"'{without_passwords(url)}' holds a password, which the run's folder would keep; "
                "leave it to PGPASSWORD or ~/.pgpass"
            )
        return url


class ExportConfig(Section):
    """Which sub-network is shipped, and as what."""

    pick: str = "knee"
    """knee, best (in the first objective), most-accurate, fastest, or an architecture's id."""
    targets: tuple[str, ...] = ("pt2", "onnx", "safetensors")
    """None: a run ends with its report."""
    tolerance: PositiveFloat = 1e-4
    """Largest allowed difference of any output from the supernet's active sub-network."""
    int8_tolerance: PositiveFloat = 0.5
    """Of targets that compute in int8: the root mean square of the difference, as a share of that
    of the outputs."""
    calibration_samples: PositiveInt = 256
    """Training samples that int8 targets choose their scales by."""
    test_samples: PositiveInt | None = None
    """Test samples that each written file is evaluated on; None takes all."""
    finetune: PositiveInt | None = None
    """Epochs that the extracted network is trained for, from the weights that it inherited."""
    retrain: PositiveInt | None = None
    """Epochs that it is trained for from fresh weights."""
    learning_rate_factor: PositiveFloat = 0.1
    """Of fine-tuning, times the learning rate of the supernet's training."""

    @model_validator(mode="after")
    def _trains_in_one_way(self) -> Self:
        if self.finetune is not None and self.retrain is not None:
            raise ValueError("finetune goes on from inherited weights, retrain does not; set one")
        return self


class NestConfig(Section):
    """The ladder of nested sub-networks that `nasbench nest` makes of a run."""

    num_members: int | None = Field(default=None, ge=2)
    """None is 16, or the chain that the run was trained on."""
    finetune: bool = False
    """Whether the supernet is trained further on the chain, by the strategy `sorted`."""
    epochs: PositiveInt | None = None
    """Of fine-tuning; None is a quarter of those of training."""
    learning_rate_factor: PositiveFloat = 0.3
    """Of fine-tuning, times the learning rate of training."""
    options: dict[str, Any] = {"includes_largest": True, "num_random": 2}
    """Passed to the strategy that fine-tunes."""


_ABOUT_NETWORKS = (
    "task",
    "supernet",
    "training",
    "shape_search",
    "evaluation",
    "latency",
    "resources",
    "export",
    "nest",
)


class RunConfig(Section):
    """A complete run: of a supernet on a task, or of a search through a table."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Names the run's folder, `runs/NAME`."""
    seed: int = Field(default=0, ge=0, lt=2**63)
    """Of all randomness: the same seed gives the same run."""
    table: TableConfig | None = None
    task: TaskConfig | None = None
    supernet: SupernetConfig | None = None
    training: TrainingConfig = TrainingConfig()
    shape_search: ShapeSearchConfig | None = None
    evaluation: EvaluationConfig = EvaluationConfig()
    latency: LatencyConfig = LatencyConfig()
    search: SearchConfig = SearchConfig()
    resources: ResourcesConfig = ResourcesConfig()
    store: StoreConfig = StoreConfig()
    export: ExportConfig = ExportConfig()
    nest: NestConfig = NestConfig()

    @model_validator(mode="after")
    def _says_what_is_searched(self) -> Self:
        if self.table is None:
            for section in ("task", "supernet"):
                if getattr(self, section) is None:
                    raise ValueError(f"lacks the setting '{section}' (or 'table')")
        else:
            for section in _ABOUT_NETWORKS:
                if section in self.model_fields_set:
                    raise ValueError(f"a search of a table has no section '{section}'")
        return self

    @model_validator(mode="after")
    def _a_shape_search_is_all_that_searches(self) -> Self:
        if self.shape_search is None:
            return self
        decided = {
            "training": ("strategy", "options", "distillation", "num_workers"),
            "search": ("algorithm", "constraints", "num_trials", "batch_size", "options"),
        }
        for section, settings in decided.items():
            given = getattr(self, section)
            for setting in settings:
                if getattr(given, setting) != type(given).model_fields[setting].default:
                    raise ValueError(
                        f"{section}.{setting} has no meaning beside 'shape_search', which trains "
                        "networks by themselves and proposes a shape for each of its targets"
                    )
        return self

    def network_sections(self) -> tuple[TaskConfig, SupernetConfig]:
        """The sections that describe networks; RequestError where a table is searched instead."""
        if self.task is None or self.supernet is None:
            raise RequestError(
                f"'{self.name}' searches a table of architectures that were measured already, so "
                "there is nothing to train, profile, extract or export; use: nasbench run, "
                "search or report"
            )
        return self.task, self.supernet

    def _dump(self) -> dict[str, Any]:
        """The sections that this kind of run has, as plain values."""
        others = {"table"} if self.table is None else set(_ABOUT_NETWORKS)
        if self.shape_search is None:
            others.add("shape_search")
        return self.model_dump(mode="json", exclude=others)

    def identity(self) -> dict[str, Any]:
        """The settings that decide what a run finds; two runs that differ here are different."""
        found = self._dump()
        for section in ("name", "resources", "store", "export", "nest"):
            found.pop(section, None)
        if self.table is None:
            found["training"] = self.training.identity()
            del found["task"]["data_dir"], found["latency"]["predictor"]  # places of files
            del found["supernet"]["pretrained"]
        else:
            del found["table"]["data_dir"]
        del found["search"]["num_trials"]  # raising it carries the search on
        return found

    @property
    def fingerprint(self) -> str:
        """Changes when any setting of `identity` does."""
        text = json.dumps(self.identity(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def to_yaml(self) -> str:
        """The complete configuration, defaults included, as YAML."""
        return yaml.safe_dump(self._dump(), sort_keys=False)
