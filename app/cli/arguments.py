"""From the words of a command to settings, folders and facts."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from neuromoco.config import RunConfig, parse_changes, with_values
from neuromoco.errors import ConfigError

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
    quantize: str | None,
) -> RunConfig:
    """A recipe with what the command line changes.

    Args:
        recipe: where the settings begin.
        chosen: values by name; None changes nothing.
        changes: `a.b=value`; they win over all others.
        epochs: of the chosen stage.
        labels_per_class: of the labelled stage.
        freeze: whether fine-tuning trains the head alone.
        quantize: the chip for which fine-tuning rounds the weights.

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
    if quantize is not None:
        if config.stage != "finetune":
            raise ConfigError(f"--quantize with stage {config.stage}; train first, then finetune with it")
        own["finetune.quantize"] = quantize
    return with_values(config, own | values)


def default_run_folder(config: RunConfig) -> Path:
    """The first free `runs/<stage>/<data>-<encoder>-<number>`."""
    sets = (config.data,) if isinstance(config.data, str) else config.data
    parts = [part for one in sets for part in Path(one).parts[-2:]]
    data = re.sub(r"[^\w.-]+", "-", "-".join(parts)).strip("-.")[:80] or "data"
    return free_folder(RUNS / config.stage / f"{data}-{config.encoder.name}")


def free_folder(wanted: Path) -> Path:
    """`wanted` with the first number that is not taken."""
    number = 1
    while (folder := wanted.with_name(f"{wanted.name}-{number}")).exists():
        number += 1
    return folder


def microseconds(text: str) -> int:
    """A duration such as 500ms, 2s or 250us.

    Raises:
        ConfigError: something else.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(us|ms|s)", text.strip())
    length = round(float(found[1]) * {"us": 1, "ms": 1_000, "s": 1_000_000}[found[2]]) if found else 0
    if not 0 < length < 1 << 53:
        raise ConfigError(f"a duration of {text!r}; give a number and us, ms or s, for example 500ms")
    return length
