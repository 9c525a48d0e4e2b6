"""Settings of runs that take less than a second."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from neuromoco.config import RunConfig, with_values


def small_settings(data: Path, stage: str, batch_size: int, values: dict[str, Any]) -> RunConfig:
    """Two epochs, two steps of 12 x 12 pixels, unwatched; changes are named `pretrain__epochs`, or with dots."""
    small: dict[str, Any] = {
        "stage": stage,
        "data": str(data),
        "frames": {"steps": 2, "height": 12, "width": 12},
        "encoder.options": {"width": 4},
        "watch.samples": 0,  # curves take longer than all the rest
        "pretrain.moco": {"embed_dim": 8, "hidden_dim": 8, "queue_size": 10, "batch_norm_groups": 2},
    }
    for part in ("pretrain", "supervised"):
        small |= {f"{part}.epochs": 2, f"{part}.batch_size": batch_size}
    return with_values(RunConfig(), small | {name.replace("__", "."): value for name, value in values.items()})
