"""From the words of a command to settings, folders and facts."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from neuromoco.checkpoint import is_checkpoint, read_header
from neuromoco.config import RunConfig, parse_changes, with_values
from neuromoco.errors import ConfigError
from neuromoco.events import read_recording

RUNS = Path("runs")
LABELLED = ("finetune", "supervised")


def run_settings(
    recipe: RunConfig,
    chosen: Mapping[str, Any],
    changes: Sequence[str],
    *,
    epochs: int | None,
    labels_per_class: int | None,
    freeze: bool,
) -> RunConfig:
    """A recipe with what the command line changes.

    Args:
        recipe: where the settings begin.
        chosen: values by name; None changes nothing.
        changes: `a.b=value`; they win over all others.
        epochs: of the chosen stage.
        labels_per_class: of the labelled stage.
        freeze: whether fine-tuning trains the head alone.

    Raises:
        ConfigError: a value that is not allowed, or an option that the stage does not have.
    """
    values = parse_changes(changes)
    given = {name: value for name, value in chosen.items() if value is not None} | values
    config = with_values(recipe, given)
    if config.stage == "finetune":
        for name in given:
            if name.startswith(("encoder", "frames")):
                raise ConfigError(f"{name} with stage finetune; network and frames are those of --init")
    own: dict[str, Any] = {}
    labelled = "finetune" if config.stage == "all" else config.stage
    if epochs is not None:
        if config.stage == "all":
            raise ConfigError("--epochs with stage all: which one? --set pretrain.epochs=N --set finetune.epochs=N")
        own[f"{config.stage}.epochs"] = epochs
    if labels_per_class is not None:
        if labelled not in LABELLED:
            raise ConfigError("--labels-per-class with stage pretrain, which uses no labels")
        own[f"{labelled}.labels_per_class"] = labels_per_class
    if freeze:
        if labelled != "finetune":
            raise ConfigError(f"--freeze with stage {config.stage}; only finetune has a pre-trained encoder to freeze")
        own["finetune.freeze_encoder"] = True
    return with_values(config, own | values)


def default_run_folder(config: RunConfig) -> Path:
    """The first free `runs/<stage>/<data>-<encoder>-<number>`."""
    data = re.sub(r"[^\w.-]+", "-", "-".join(Path(config.data).parts[-2:])).strip("-.") or "data"
    return free_folder(RUNS / config.stage / f"{data}-{config.encoder.name}")


def free_folder(wanted: Path) -> Path:
    """`wanted` with the first number that is not taken."""
    number = 1
    while (folder := wanted.with_name(f"{wanted.name}-{number}")).exists():
        number += 1
    return folder


def facts_of(file: Path) -> dict[str, Any]:
    """What a recording or a checkpoint holds, ready for JSON.

    Raises:
        NeuromocoError: it is neither.
    """
    if is_checkpoint(file):
        header = read_header(file)
        return {
            "kind": header.kind,
            "encoder": header.encoder.name,
            "options": header.encoder.options,
            "neuron": header.encoder.neuron.model_dump(),
            "frames": header.frames.model_dump(),
            "class_names": list(header.class_names),
            "trained_on": header.seen.model_dump(),
            "stage": header.stage,
            "epoch": header.epoch,
            "seed": header.seed,
            "metrics": header.metrics,
            "versions": header.versions,
        }
    return read_recording(file).facts()
