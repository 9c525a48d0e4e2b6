"""Every setting of a run, in one tree that is read from and written to YAML.

A run is one complete `RunConfig`. Recipes are such trees in YAML (`neuromoco/recipes/`); the command line changes
single leaves (`--set pretrain.moco.queue_size=512`). Unknown names and wrong types raise an error when the tree is
built, so that no misspelling is silently ignored.
"""

from neuromoco.config.text import (
    dump_config,
    load_config,
    load_settings,
    parse_changes,
    parse_settings,
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
    "parse_settings",
    "with_values",
]
