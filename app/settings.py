"""From the words of a command to settings, folders and facts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from neuromoco.checkpoint import Header, is_checkpoint, read_header
from neuromoco.config import RunConfig, parse_changes, with_values
from neuromoco.errors import ConfigError
from neuromoco.events import Given, survey_recording
from neuromoco.onnx_header import ExportHeader

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


def facts_of(file: Path, given: Given | None = None) -> dict[str, Any]:
    """What a recording, a checkpoint or an exported file holds, ready for JSON.

    Raises:
        NeuromocoError: it is none of them.
    """
    if is_checkpoint(file):
        return _header_facts(read_header(file))
    if file.is_dir():
        from neuromoco.app.runtime import LoihiClassifier

        manifest = LoihiClassifier(file).network.manifest
        return _header_facts(manifest.header) | manifest.model_dump(include={"dialect", "steps", "latency"})
    if file.suffix == ".onnx":
        from neuromoco.onnx_network import OnnxNetwork

        return _header_facts(OnnxNetwork(file).header)
    return survey_recording(file, given).facts()


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


def files_in(places: Iterable[Path]) -> list[Path]:
    """Files, and the files in folders at any depth, sorted; hidden ones are passed over.

    A folder without any stands for itself, so that whoever reads it says what is wrong.
    """
    files: list[Path] = []
    for place in places:
        inside = [path.relative_to(place) for path in sorted(place.rglob("*")) if path.is_file()]
        visible = [place / path for path in inside if not any(part.startswith(".") for part in path.parts)]
        files += visible or [place]
    return files


def _header_facts(header: Header) -> dict[str, Any]:
    facts = {
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
    if isinstance(header, ExportHeader):
        facts |= {name: getattr(header, name) for name in ("target", "input", "precision", "source", "source_sha256")}
    return facts
