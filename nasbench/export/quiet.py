"""Silence for what torch and the packages that convert its programs say about each other."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

_NOISY = (
    "root",
    "torch.onnx",
    "torch.fx",
    "torch.utils._pytree",
    "torchao",
    "executorch",
    "onnxscript",
)


@contextmanager
def quiet() -> Iterator[None]:
    """No warnings, and no log below an error: deprecations, and packages that are not there."""
    loggers = [logging.getLogger(name) for name in _NOISY]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
