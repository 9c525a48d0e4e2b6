"""Experiment trackers by name, through Accelerate: what `metrics.jsonl` holds, sent elsewhere too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, filter_trackers, get_available_trackers

from neuromoco.config import RunConfig
from neuromoco.errors import ConfigError, MissingPackageError

PROJECT = "neuromoco"
INSTALLED_BY = {"tensorboard": '"neuromoco[tensorboard]"', "comet_ml": "comet-ml"}


def check_trackers(names: Sequence[str]) -> None:
    """Refuses trackers that there are not, before anything is trained.

    Raises:
        ConfigError: an unknown name.
        MissingPackageError: its package is not installed.
    """
    for name in names:
        if name not in LOGGER_TYPE_TO_CLASS:
            raise ConfigError(f"watch.trackers: no tracker named {name!r}; known are {', '.join(LOGGER_TYPE_TO_CLASS)}")
        if name not in [str(found) for found in get_available_trackers()]:
            what = INSTALLED_BY.get(name, name)
            raise MissingPackageError(f"watch.trackers: {name} is not installed: pip install {what}")


def open_trackers(accelerator: Accelerator, config: RunConfig, folder: Path) -> None:
    """Begins a run with the trackers of the settings; `accelerator.log` then reaches them.

    Args:
        accelerator: of the run; only its main process logs.
        config: the settings, which the trackers keep too.
        folder: the run folder; those that write files write them into its `logs/`.
    """
    check_trackers(config.watch.trackers)
    if not config.watch.trackers:
        return
    accelerator.project_configuration.logging_dir = str(folder / "logs")
    accelerator.log_with = filter_trackers(list(config.watch.trackers), accelerator.logging_dir)
    accelerator.init_trackers(PROJECT, config=_leaves(config.model_dump(mode="json")))


def close_trackers(accelerator: Accelerator) -> None:
    """Writes what the trackers hold back; the next stage opens its own."""
    for tracker in accelerator.trackers:
        tracker.finish()
    accelerator.trackers.clear()


def _leaves(tree: Mapping[str, Any], above: str = "") -> dict[str, str | float]:
    """Settings by their full names, as trackers take them."""
    leaves: dict[str, str | float] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping):
            leaves |= _leaves(value, f"{above}{name}.")
        else:
            leaves[above + name] = value if isinstance(value, int | float | str) else str(value)
    return leaves
