"""Configuration: a run described by one YAML file, read into frozen, validated values."""

from nasbench.config.reading import (
    differing_settings,
    load_config,
    parse_config,
    parse_override,
    parse_yaml,
    read_yaml,
    set_setting,
    validated,
)
from nasbench.config.sections import (
    DistillationConfig,
    EvaluationConfig,
    LatencyConfig,
    ResourcesConfig,
    RunConfig,
    SearchConfig,
    Section,
    ShapeSearchConfig,
    SupernetConfig,
    TaskConfig,
    TrainingConfig,
)

__all__ = [
    "DistillationConfig",
    "EvaluationConfig",
    "LatencyConfig",
    "ResourcesConfig",
    "RunConfig",
    "SearchConfig",
    "Section",
    "ShapeSearchConfig",
    "SupernetConfig",
    "TaskConfig",
    "TrainingConfig",
    "differing_settings",
    "load_config",
    "parse_config",
    "parse_override",
    "parse_yaml",
    "read_yaml",
    "set_setting",
    "validated",
]
