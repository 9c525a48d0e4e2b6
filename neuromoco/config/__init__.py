"""Every setting of a run, in one tree that is read from and written to YAML.

Recipes are trees of `RunConfig` in YAML; the command line changes leaves (`--set pretrain.moco.queue_size=512`).
"""

from neuromoco.config.base import Settings
from neuromoco.config.frames import FrameConfig
from neuromoco.config.recordings import ReadingConfig, RecordingsConfig
from neuromoco.config.rivals import RivalConfig
from neuromoco.config.text import (
    dump_config,
    frames_with,
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
    HoldOutConfig,
    MocoConfig,
    MonitorConfig,
    NeuronConfig,
    OptimizerConfig,
    PretrainConfig,
    RunConfig,
)
from neuromoco.config.views import PoolConfig, ViewConfig

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
    "PoolConfig",
    "PretrainConfig",
    "ReadingConfig",
    "RecordingsConfig",
    "RivalConfig",
    "RunConfig",
    "Settings",
    "ViewConfig",
    "dump_config",
    "frames_with",
    "load_config",
    "load_settings",
    "parse_changes",
    "parse_settings",
    "with_values",
]
