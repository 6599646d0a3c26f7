"""ResNet supernets."""

from nasbench.supernet.families.resnet.supernet import (
    RESNET,
    BasicStage,
    BlockShape,
    BottleneckStage,
    DeepElasticStem,
    ElasticBlock,
    ElasticStem,
    NetworkShape,
    ResNetSpec,
    ResNetSupernet,
    Stage,
    StemSpec,
)

__all__ = [
    "RESNET",
    "ResNetSupernet",
    "ResNetSpec",
    "StemSpec",
    "BasicStage",
    "BottleneckStage",
    "Stage",
    "NetworkShape",
    "BlockShape",
    "ElasticStem",
    "DeepElasticStem",
    "ElasticBlock",
]
