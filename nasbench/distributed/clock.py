"""The clock: who measures latency, in this process or on a target device of a Ray cluster.

A target device is a node that was started with its name as a resource:

    ray start --address HEAD:6379 --num-cpus 0 --resources '{"device:pi5": 1}'

Whoever measures holds that resource, so two measurements never share a device. A node that offers a
latency slot instead measures for whoever names no device.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import ray

from nasbench.config import ResourcesConfig
from nasbench.distributed.cluster import LATENCY_SLOT, connected
from nasbench.distributed.worker import Failure
from nasbench.errors import RequestError, WorkError
from nasbench.hardware import ENGINES, LatencyMeasurement, LatencyProtocol, measure_latency

Clock = Callable[[Any], LatencyMeasurement]
"""Measures a compiled network; WorkError where that fails."""


class LatencyWorker:
    """Measures compiled networks on its machine; lives in an actor or in the calling process."""

    def __init__(self, engine: str, protocol: LatencyProtocol) -> None:
        self._engine = ENGINES[engine]()
        self._engine.check_machine()
        self._protocol = protocol

    def node(self) -> str:
        """The Ray node that this worker runs on."""
        return ray.get_runtime_context().get_node_id()

    def measure(self, artifact: Any) -> LatencyMeasurement | Failure:
        """Latency under the protocol."""
        try:
            return measure_latency(self._engine, artifact, self._protocol)
        except Exception as error:  # recorded by whoever asked, who decides what it means
            return Failure.of(error)


def latency_actor(engine: str, device: str | None) -> Any:
    """The actor class of a `LatencyWorker` that holds the device, or a latency slot."""
    return ray.remote(
        num_cpus=0,
        num_gpus=getattr(ENGINES[engine], "num_gpus", 0),
        resources={_resource(device): 1},
    )(LatencyWorker)


def check_device(device: str | None) -> None:
    """RequestError unless a node of the connected cluster measures for the device."""
    resource = _resource(device)
    offered = ray.cluster_resources()
    if offered.get(resource, 0) >= 1:
        return
    devices = sorted(name.removeprefix("device:") for name in offered if name.startswith("device:"))
    others = f"; it has the devices {', '.join(devices)}" if device and devices else ""
    raise RequestError(
        f"no node of the cluster offers the resource '{resource}', which measuring latency "
        f"holds{others}; start the node that measures with --resources='{{\"{resource}\": 1}}'"
    )


def _resource(device: str | None) -> str:
    return LATENCY_SLOT if device is None else f"device:{device}"


@contextmanager
def clock(
    engine: str, protocol: LatencyProtocol, *, device: str, resources: ResourcesConfig
) -> Iterator[Clock]:
    """A clock for the duration of the block.

    Args:
        device: the name of what shall be measured. Where `resources` names a cluster it is the
            node that offers this device; else it is what this machine is called.

    Raises:
        RequestError: if no cluster answers, or none of its nodes is this device.
    """
    if resources.address is None:
        yield _checked(LatencyWorker(engine, protocol).measure)
        return
    with connected(resources):
        check_device(device)
        actor = latency_actor(engine, device).remote(engine, protocol)
        try:
            yield _checked(lambda artifact: _remote(actor, artifact, resources.trial_timeout_s))
        finally:
            ray.kill(actor)


def _remote(actor: Any, artifact: Any, timeout_s: float) -> LatencyMeasurement | Failure:
    try:
        found: LatencyMeasurement | Failure = ray.get(
            actor.measure.remote(artifact), timeout=timeout_s
        )
    except ray.exceptions.GetTimeoutError:
        return Failure(f"the device was silent for {timeout_s:g} s")
    except ray.exceptions.RayError as error:
        return Failure.of(error)
    return found


def _checked(measure: Callable[[Any], LatencyMeasurement | Failure]) -> Clock:
    def measured(artifact: Any) -> LatencyMeasurement:
        found = measure(artifact)
        if isinstance(found, Failure):
            raise WorkError(f"the latency cannot be measured: {found.reason}")
        return found

    return measured
