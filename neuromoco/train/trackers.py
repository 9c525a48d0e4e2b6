"""Experiment trackers, through Accelerate: they receive what `metrics.jsonl` holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, filter_trackers, get_available_trackers

from neuromoco.config import RunConfig
from neuromoco.errors import ConfigError, MissingPackageError
from neuromoco.installation import pip_install

PROJECT = "neuromoco"
PIP_NAMES = {"comet_ml": "comet-ml"}


def check_trackers(names: Sequence[str]) -> None:
    """Raises ConfigError for an unknown tracker, MissingPackageError for one that is not installed."""
    for name in names:
        if name not in LOGGER_TYPE_TO_CLASS:
            raise ConfigError(f"watch.trackers: no tracker named {name!r}; known are {', '.join(LOGGER_TYPE_TO_CLASS)}")
        if name not in map(str, get_available_trackers()):
            advice = pip_install(name) if name == "tensorboard" else f"pip install {PIP_NAMES.get(name, name)}"
            raise MissingPackageError(f"watch.trackers: {name} is not installed: {advice}")


def open_trackers(accelerator: Accelerator, config: RunConfig, folder: Path) -> None:
    """Starts the trackers of the settings, which `accelerator.log` then reaches; their files go to `folder/logs`."""
    check_trackers(config.watch.trackers)
    if not config.watch.trackers:
        return
    accelerator.project_configuration.logging_dir = str(folder / "logs")
    accelerator.log_with = filter_trackers(list(config.watch.trackers), accelerator.logging_dir)
    accelerator.init_trackers(PROJECT, config=_leaves(config.model_dump(mode="json")))


def close_trackers(accelerator: Accelerator) -> None:
    """Flushes the trackers; the next stage opens its own."""
    for tracker in accelerator.trackers:
        tracker.finish()
    accelerator.trackers.clear()


def _leaves(tree: Mapping[str, Any], above: str = "") -> dict[str, str | float]:
    """Settings by dotted name, the form that trackers accept."""
    leaves: dict[str, str | float] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping):
            leaves |= _leaves(value, f"{above}{name}.")
        else:
            leaves[above + name] = value if isinstance(value, int | float | str) else str(value)
    return leaves
