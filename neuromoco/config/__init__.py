"""Every setting of a run, in one tree; YAML in and out.

A run is one complete `RunConfig`. Recipes are such trees in YAML (`neuromoco/recipes/`); the command
line changes single leaves (`--set pretrain.moco.queue_size=512`). Unknown names and wrong types are
refused when the tree is built, so nothing is misspelt in silence.
"""

from neuromoco.config.text import (
    dump_config,
    load_config,
    load_settings,
    parse_changes,
    parse_config,
    with_values,
)
from neuromoco.config.tree import (
    ClassifyConfig,
    ComputeConfig,
    EncoderConfig,
    FrameConfig,
    HoldOutConfig,
    MocoConfig,
    MonitorConfig,
    NeuronConfig,
    OptimizerConfig,
    PretrainConfig,
    RunConfig,
    Settings,
    ViewConfig,
)

__all__ = [
    "ClassifyConfig",
    "ComputeConfig",
    "EncoderConfig",
    "FrameConfig",
    "HoldOutConfig",
    "MocoConfig",
    "MonitorConfig",
    "NeuronConfig",
    "OptimizerConfig",
    "PretrainConfig",
    "RunConfig",
    "Settings",
    "ViewConfig",
    "dump_config",
    "load_config",
    "load_settings",
    "parse_changes",
    "parse_config",
    "with_values",
]
