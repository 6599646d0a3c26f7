"""MobileNetV3 supernets."""

from nasbench.supernet.families.mobilenet_v3.supernet import (
    MOBILENET_V3,
    BlockShape,
    ElasticBlock,
    MobileNetV3Spec,
    MobileNetV3Supernet,
    NetworkShape,
    StageSpec,
)

__all__ = [
    "MOBILENET_V3",
    "MobileNetV3Supernet",
    "MobileNetV3Spec",
    "StageSpec",
    "NetworkShape",
    "BlockShape",
    "ElasticBlock",
]
