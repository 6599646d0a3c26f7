"""Connecting to Ray: an existing cluster, or one started on this machine."""

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

from nasbench.config import ResourcesConfig
from nasbench.errors import MissingExtraError, RequestError

LATENCY_SLOT = "latency_slot"
"""The resource that a node offers once and that whoever measures a latency there holds."""

_CONNECT_TIMEOUT_S = 5.0


@contextmanager
def connected(resources: ResourcesConfig, num_workers: int | None = None) -> Iterator[None]:
    """Ray for the duration of the block.

    Without an address, Ray starts here with enough CPUs for the workers and one latency slot. In a
    process that Ray started, such as a sweep's member, it is there already and stays.

    Args:
        num_workers: how many workers there will be; None says `resources.workers`.

    Raises:
        RequestError: if no cluster answers at the address.
    """
    import ray

    if ray.is_initialized():
        yield
        return
    if resources.address is not None:
        check_address(resources.address)
    workers = resources.workers if num_workers is None else num_workers
    try:
        if resources.address is None:
            ray.init(
                address="local",  # without it, Ray joins a cluster that happens to run here
                num_cpus=max(os.cpu_count() or 1, workers * resources.cpus_per_worker),
                resources={LATENCY_SLOT: 1},
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
        else:
            ray.init(address=resources.address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, ValueError) as error:
        if resources.address is None:
            raise
        raise _no_answer(resources.address) from error
    try:
        yield
    finally:
        ray.shutdown()


def check_address(address: str) -> None:
    """Refuse an address where nothing listens, in seconds rather than minutes.

    Raises:
        RequestError: if nothing answers, or the text is no address.
        MissingExtraError: if Ray's client is needed and not installed.
    """
    if address == "auto":
        return
    host, separator, port = address.removeprefix("ray://").rpartition(":")
    if not separator or not port.isdigit():
        raise RequestError(
            f"'{address}' is no Ray address; write HOST:PORT, ray://HOST:PORT or auto"
        )
    try:
        socket.create_connection((host, int(port)), timeout=_CONNECT_TIMEOUT_S).close()
    except OSError as error:
        raise _no_answer(address) from error
    if address.startswith("ray://") and find_spec("grpc") is None:
        raise MissingExtraError("grpcio", "cluster", "an address that begins with ray://")


def _no_answer(address: str) -> RequestError:
    return RequestError(
        f"no Ray cluster answers at '{address}'; start one with 'ray start --head', or leave "
        "--address away to start Ray on this machine"
    )
