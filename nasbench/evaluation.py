"""Evaluation: an architecture in, measurements out.

An evaluator holds one supernet, activates the architecture, re-computes its normalization
statistics from training data, extracts it, and measures the extracted network: accuracy here, and
latency from the artifact that it compiles for whichever machine has the clock.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nasbench.config import EvaluationConfig
from nasbench.hardware import ENGINES
from nasbench.hardware.files import with_sequence_length
from nasbench.space import Architecture
from nasbench.supernet import build_supernet
from nasbench.supernet.base import Supernet
from nasbench.supernet.training.calibration import calibrate
from nasbench.tasks import Task
from nasbench.tasks.base import SplitName, tensor_of
from nasbench.trials import CHEAP, FULL


@dataclass(frozen=True, kw_only=True)
class Evaluated:
    """What one evaluation found.

    Args:
        measurements: metric name -> value.
        artifact: the compiled network for `hardware.measure_latency`; None without an engine.
    """

    measurements: Mapping[str, float]
    artifact: Any = None


class Evaluator:
    """Measures sub-networks of one supernet on one task.

    Args:
        supernet: trained; its active architecture and normalization statistics change.
        task: validation or test data, and training data for the statistics.
        config: how much data, in which batches.
        engine: name of the inference engine to compile for; None where no latency is asked for.
        latency_batch_size: samples per forward pass of the compiled network.
        latency_sequence_length: tokens of each of them; None takes those of the task.
        device: that evaluates; what is compiled comes from the CPU in any case.

    Attributes:
        statistics: the normalization statistics of the sub-network that was extracted last.
    """

    def __init__(
        self,
        supernet: Supernet[Any],
        task: Task,
        config: EvaluationConfig,
        *,
        engine: str | None = None,
        latency_batch_size: int = 1,
        latency_sequence_length: int | None = None,
        device: str = "cpu",
    ) -> None:
        self.supernet = supernet.to(device)
        self.task = task
        self._config = config
        self._num_validation = {FULL: config.validation_samples}
        num_calibration = {FULL: config.calibration_samples}
        if config.screening is not None:
            self._num_validation[CHEAP] = config.screening.validation_samples
            num_calibration[CHEAP] = config.screening.calibration_samples
        self._calibration = {
            fidelity: [
                batch.to(device) for batch in task.calibration_batches(count, config.batch_size)
            ]
            for fidelity, count in num_calibration.items()
        }
        self._engine = ENGINES[engine]() if engine else None
        self._example_inputs = with_sequence_length(
            task.example_inputs(latency_batch_size), latency_sequence_length
        )
        self.statistics: Mapping[str, Tensor] = {}

    def extract(self, architecture: Architecture, fidelity: str = FULL) -> nn.Module:
        """The calibrated sub-network as a plain module in eval mode; it stays the active one."""
        self.supernet.activate(architecture)
        self.statistics = calibrate(self.supernet, self._calibration[fidelity])
        self.supernet.eval()
        return self.supernet.extract(architecture)

    def compute(self, *inputs: Tensor) -> Any:
        """What the sub-network that was extracted or evaluated last computes."""
        return self.supernet(*inputs)

    def evaluate(
        self,
        architecture: Architecture,
        split: SplitName = "validation",
        fidelity: str = FULL,
    ) -> Evaluated:
        """Count it, measure its accuracy, and compile it.

        Args:
            fidelity: FULL, or CHEAP for what `evaluation.screening` says.
        """
        module = self.extract(architecture, fidelity)
        config = self._config
        num_samples = self._num_validation[fidelity] if split == "validation" else None
        measured = self.task.evaluate(module, split, config.batch_size, num_samples=num_samples)
        artifact = (
            self._engine.compile(module.cpu(), self._example_inputs) if self._engine else None
        )
        return Evaluated(
            measurements={**measured, **self.supernet.count(architecture)}, artifact=artifact
        )


@dataclass(frozen=True, kw_only=True)
class EvaluatorRecipe:
    """Everything that another process needs to build the same evaluator.

    Args:
        supernet_settings: what `Supernet.settings` said.
        weights: the supernet's state as arrays; parameters are used where they lie, so that the
            processes of a machine share one copy.
        num_threads: torch threads of the process.
        device: that evaluates.
    """

    supernet_settings: Mapping[str, Any]
    weights: Mapping[str, np.ndarray]
    task: Task
    config: EvaluationConfig
    engine: str | None = None
    latency_batch_size: int = 1
    latency_sequence_length: int | None = None
    num_threads: int = 1
    device: str = "cpu"

    def build(self) -> Evaluator:
        """Build the supernet and give it the weights; sets the process's torch threads."""
        torch.set_num_threads(self.num_threads)
        supernet = build_supernet(self.supernet_settings, with_pretrained=False)
        buffers = {name for name, _ in supernet.named_buffers()}
        state = {
            name: tensor_of(array.copy() if name in buffers else array)  # no one writes parameters
            for name, array in self.weights.items()
        }
        supernet.load_state_dict(state, assign=True)
        supernet.requires_grad_(False)
        return Evaluator(
            supernet,
            self.task,
            self.config,
            engine=self.engine,
            latency_batch_size=self.latency_batch_size,
            latency_sequence_length=self.latency_sequence_length,
            device=self.device,
        )
