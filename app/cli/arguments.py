"""Turns command-line arguments into settings, folders and durations."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any

from neuromoco.checkpoint import read_header
from neuromoco.config import FrameConfig, RunConfig, parse_changes, parse_settings, with_values
from neuromoco.config.frames import Crop
from neuromoco.config.recordings import duration_us, sides
from neuromoco.errors import ConfigError

RUNS = Path("runs")


def run_settings(
    recipe: RunConfig,
    chosen: Mapping[str, Any],
    changes: Sequence[str],
    *,
    epochs: int | None,
    labels_per_class: int | None,
    freeze: bool,
    quantize: str | None,
) -> RunConfig:
    """A recipe with the changes of the command line.

    In `chosen`, None changes nothing; `changes` are `a.b=value` and take precedence over all others.

    Raises:
        ConfigError: a value that is not allowed, or an option that the stage does not have.
    """
    last = parse_changes(changes)
    values = {name: value for name, value in chosen.items() if value is not None}
    stage = (values | last).get("stage", recipe.stage)
    foreign = (values | last).get("init_from", recipe.init_from)  # such weights say nothing of network and frames
    init = None if foreign else (values | last).get("init", recipe.init)
    if init or (stage == "finetune" and not foreign):
        for name in values | last:
            if name.partition(".")[0] == "encoder":
                raise ConfigError(f"{name} with --init; the network is that of --init")
    if init and any(name.partition(".")[0] == "frames" for name in values | last):
        recipe = recipe.model_copy(update={"frames": read_header(init).frames, "own_frames": True})
    labelled = "finetune" if stage == "all" else stage
    if epochs is not None:
        if stage == "all":
            raise ConfigError("--epochs with stage all: which one? --set pretrain.epochs=N --set finetune.epochs=N")
        values[f"{stage}.epochs"] = epochs
    if labels_per_class is not None:
        if labelled == "pretrain":
            raise ConfigError("--labels-per-class with stage pretrain, which uses no labels")
        values[f"{labelled}.labels_per_class"] = labels_per_class
    if freeze:
        if labelled != "finetune":
            raise ConfigError(f"--freeze with stage {stage}; only finetune has a pre-trained encoder to freeze")
        values["finetune.freeze_encoder"] = True
    if quantize is not None:
        if stage != "finetune":
            raise ConfigError(f"--quantize with stage {stage}; train first, then finetune with it")
        values["finetune.quantize"] = quantize
    return with_values(recipe, _in_order(values, last))


def _in_order(options: Mapping[str, Any], last: Mapping[str, Any]) -> dict[str, Any]:
    """Options, then what takes precedence over them; but a group that is replaced as a whole comes before its options.

    `--set frames={steps: 2}` says nothing of the crop, so that `--crop` still counts.
    """
    groups = {name: value for name, value in last.items() if any(other.startswith(f"{name}.") for other in options)}
    said = {f"{group}.{name}" for group, value in groups.items() if isinstance(value, Mapping) for name in value}
    kept = {name: value for name, value in options.items() if name not in said}
    return {**groups, **kept, **{name: value for name, value in last.items() if name not in groups}}


def default_run_folder(config: RunConfig) -> Path:
    """The first free `runs/<stage>/<data>-<encoder>-<number>`."""
    sets = (config.data,) if isinstance(config.data, str) else config.data
    parts = [part for one in sets for part in Path(one).parts[-2:]]
    data = re.sub(r"[^\w.-]+", "-", "-".join(parts)).strip("-.")[:80] or "data"
    return free_folder(RUNS / config.stage / f"{data}-{config.encoder.name}")


def free_folder(folder: Path) -> Path:
    """`folder-N` with the first number N that is not taken."""
    numbered = (folder.with_name(f"{folder.name}-{number}") for number in count(1))
    return next(path for path in numbered if not path.exists())


def microseconds(text: str) -> int:
    """A duration such as 500ms, 2s or 250us."""
    try:
        return duration_us(text)
    except ValueError as error:
        raise ConfigError(str(error)) from None


def sensor_size(text: str) -> tuple[int, int]:
    """Width and height of a sensor such as 640x480."""
    try:
        return sides(text)
    except ValueError:
        raise ConfigError(f"--sensor {text}: give width and height, for example --sensor 640x480") from None


def crop_in(word: object) -> Crop:
    """The part of the sensor in the word of --crop."""
    return parse_settings(FrameConfig, {"crop": word}, "--crop").crop
