"""A sweep's file, and the units of work that follow from it."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, NonNegativeInt, PositiveInt, field_validator, model_validator

from neuromoco.config import (
    HoldOutConfig,
    PretrainConfig,
    RecordingsConfig,
    RunConfig,
    Settings,
    load_settings,
    with_values,
)
from neuromoco.config.frames import Crop
from neuromoco.config.tree import ClassifyConfig
from neuromoco.datasets.named import NAMES
from neuromoco.errors import ConfigError
from neuromoco.recipes import DEFAULT, load_recipe

Measure = Literal["finetune", "supervised", "knn", "linear"]
Kind = Literal["pretrain", "finetune", "supervised", "knn", "linear"]
ALL: Literal["all"] = "all"
MOST_SEEDS = 1000
Labels = PositiveInt | Literal["all"]
# Settings that the sweep decides: whole sections, and names in any section.
SECTIONS = ("stage", "data", "recordings", "held_out", "init", "seed")
NAMES_IN_SECTIONS = ("labels_per_class", "validation", "quantize")


class SweepConfig(Settings):
    """A sweep file.

    Attributes:
        recipe: base of all runs: the name of a recipe or a .yaml file.
        data: a folder of class folders or the name of a data set; by default that of the recipe.
        recordings: how recordings are read and become samples, of both `data` and `test`.
        test: a folder of class folders to measure on; by default the test part of a named set.
        folds: instead of `test`, the number of folds of each class of the training recordings; seed s is measured on
            fold s % folds, which no stage sees.
        fold: measure on this fold for every seed, to choose settings on it.
        seeds: a number, for 0, 1, 2, ..., or a list.
        set: changes to the recipe, such as `pretrain.moco.queue_size: 512`.
        settings: the settings to compare: name -> changes.
        measures: "finetune" a pre-trained encoder, "supervised" from scratch, "knn" and "linear" on the features of
            a frozen encoder.
        labels_per_class: numbers of labelled recordings of each class, "all" or null for all: a list, or a mapping
            to changes of `finetune` and `supervised`, since few labels may need other epochs.
    """

    added: ClassVar[tuple[str, ...]] = ("recordings",)
    recipe: str = DEFAULT
    data: str | None = None
    recordings: RecordingsConfig = RecordingsConfig()
    test: str | None = None
    folds: int | None = Field(None, ge=2)
    fold: NonNegativeInt | None = None
    seeds: Annotated[int, Field(ge=1, le=MOST_SEEDS)] | tuple[NonNegativeInt, ...] = 5
    set: dict[str, Any] = {}
    settings: dict[str, dict[str, Any]] = Field({"recipe": {}}, min_length=1)
    measures: tuple[Measure, ...] = Field(("finetune", "supervised"), min_length=1)
    labels_per_class: dict[Labels, dict[str, Any]] = Field({ALL: {}}, min_length=1)

    @field_validator("settings", mode="before")
    @classmethod
    def _no_changes(cls, value: Any) -> Any:
        return {name: changes or {} for name, changes in value.items()} if isinstance(value, Mapping) else value

    @field_validator("labels_per_class", mode="before")
    @classmethod
    def _as_mapping(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            numbers = value if isinstance(value, list | tuple) else [value]
            if any(isinstance(number, list | dict | set) for number in numbers):
                raise ValueError("labels_per_class: a list of numbers, or numbers with changes")
            value = dict.fromkeys(numbers)
        return {ALL if number is None else number: changes or {} for number, changes in value.items()}

    @model_validator(mode="after")
    def _fits_together(self) -> SweepConfig:
        for name in self.settings:
            if not re.fullmatch(r"\w[\w.+-]*", name):
                allowed = "letters, digits, '.', '+', '-' and '_' make a folder's name"
                raise ValueError(f"settings: the name {name!r}; {allowed}")
        if self.test is not None and self.folds is not None:
            raise ValueError("test and folds exclude each other; give one of them")
        if self.fold is not None and (self.folds is None or self.fold >= self.folds):
            raise ValueError(f"fold: {self.fold} of folds: {self.folds}; give folds, and a fold below it")
        if len(set(self.all_seeds)) < max(1, len(self.all_seeds)):
            raise ValueError("seeds: one or more of them, each once")
        return self

    @property
    def all_seeds(self) -> tuple[int, ...]:
        """The seeds as a tuple."""
        return tuple(range(self.seeds)) if isinstance(self.seeds, int) else self.seeds


@dataclass(frozen=True)
class Unit:
    """One run, or one measurement of a pre-trained encoder."""

    name: str  # its folder in `units/`
    kind: Kind
    settings: tuple[str, ...]  # names of the settings that share it
    labels: Labels | None  # labelled recordings of each class; None for pre-training
    config: RunConfig  # for a measurement, that of the pre-training, with the labels in `finetune`
    needs: str | None = None  # name of the pre-training that it needs


@dataclass(frozen=True)
class Plan:
    """The work of a sweep."""

    name: str
    sweep: SweepConfig  # its file
    base: RunConfig  # the recipe with the changes that all settings share
    units: tuple[Unit, ...]  # each after the unit it needs

    def to_json(self) -> dict[str, Any]:
        """Everything that affects the results."""
        return {"sweep": self.sweep.model_dump(mode="json"), "recipe": self.base.model_dump(mode="json")}


def list_sweeps() -> list[str]:
    """The names of the sweeps that ship with the package."""
    folder = files("neuromoco.recipes") / "sweeps"
    return sorted(Path(entry.name).stem for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def load_sweep(
    name: str, data: str | None = None, recordings: RecordingsConfig | None = None, crop: Crop = None
) -> Plan:
    """Loads a sweep by its name or the path of a YAML file.

    Args:
        name: of the sweep, or the path.
        data: instead of the file's.
        recordings: how they are read; what is given wins over the file.
        crop: the part of the sensor that all runs use, see `FrameConfig`.

    Raises:
        ConfigError: no such sweep or file, or invalid settings.
    """
    if name.endswith((".yaml", ".yml")):
        path = Path(name)
    elif name in list_sweeps():
        path = Path(str(files("neuromoco.recipes") / "sweeps" / f"{name}.yaml"))
    else:
        raise ConfigError(f"no sweep named {name!r}; known are {', '.join(list_sweeps())}, or give a .yaml file")
    sweep = load_settings(SweepConfig, path)
    changes: dict[str, Any] = {} if data is None else {"data": data}
    if recordings is not None and recordings.given():
        changes["recordings"] = recordings.over(sweep.recordings)
    if crop is not None:
        changes["set"] = {**sweep.set, "frames.crop": crop}
    return make_plan(path.stem, sweep.model_copy(update=changes), name)


def make_plan(name: str, sweep: SweepConfig, source: str) -> Plan:
    """Derives the units of a sweep; a unit that several settings share is run once.

    Raises:
        ConfigError: a change that is not allowed; the message starts with `source`.
    """
    base = _changed(load_recipe(sweep.recipe), sweep.set, f"{source}: set")
    base = with_values(base, {} if sweep.data is None else {"data": sweep.data}, source)
    base = base.model_copy(update={"recordings": sweep.recordings.over(base.recordings)})
    if not isinstance(base.data, str):
        raise ConfigError(f"{source}: {sweep.recipe} has several sets as data; a sweep takes one: data: FOLDER")
    if sweep.folds is None and sweep.test is None and base.data not in NAMES:
        raise ConfigError(f"{source}: {base.data} has no test part; set folds: 5, or test: FOLDER")
    distinct: dict[tuple[Any, ...], Unit] = {}
    for setting, changes in sweep.settings.items():
        config = _changed(base, changes, f"{source}: settings: {setting}")
        for labels, label_changes in sweep.labels_per_class.items():
            where = f"{source}: labels_per_class: {labels}"
            for changed in label_changes:
                if not changed.startswith(("finetune.", "supervised.")):
                    raise ConfigError(f"{where}: {changed}; numbers of labels change finetune.* and supervised.* only")
            with_labels = _with_labels(_changed(config, label_changes, where), labels)
            for seed in sweep.all_seeds:
                for unit in _units(sweep, setting, with_labels, labels, seed):
                    shared = distinct.setdefault(_key(unit), unit)
                    if setting not in shared.settings:
                        distinct[_key(unit)] = replace(shared, settings=(*shared.settings, setting))
    return Plan(name, sweep, base, tuple(_linked(distinct.values())))


def _units(sweep: SweepConfig, setting: str, config: RunConfig, labels: Labels, seed: int) -> Iterator[Unit]:
    fold = None
    if sweep.folds is not None:
        fold = HoldOutConfig(folds=sweep.folds, fold=seed % sweep.folds if sweep.fold is None else sweep.fold)
    # Metrics of the encoder would double the time of hundreds of small runs.
    watch = config.watch.model_copy(update={"samples": 0, "knn_every": 0})
    config = config.model_copy(update={"seed": seed, "held_out": fold, "watch": watch})
    before = f"pretrain/{setting}/seed-{seed}"
    if any(measure != "supervised" for measure in sweep.measures):
        yield Unit(before, "pretrain", (setting,), None, config.model_copy(update={"stage": "pretrain"}))
    for measure in sweep.measures:
        stage = measure if measure in ("finetune", "supervised") else "pretrain"
        name = f"{measure}/{setting}/labels-{labels}/seed-{seed}"
        needs = None if measure == "supervised" else before
        yield Unit(name, measure, (setting,), labels, config.model_copy(update={"stage": stage}), needs)


def _key(unit: Unit) -> tuple[Any, ...]:
    """Units with equal keys have the same result: sections of other stages do not count."""
    ignored: dict[str, Any] = {"pretrain": PretrainConfig()} if unit.kind == "supervised" else {}
    ignored |= {stage: ClassifyConfig() for stage in ("supervised", "finetune") if unit.kind != stage}
    return unit.kind, unit.labels, unit.config.model_copy(update=ignored).model_dump_json()


def _linked(units: Collection[Unit]) -> Iterator[Unit]:
    """Units in order, each needing the one pre-training of several equal ones that is run."""
    pretraining = {
        f"pretrain/{setting}/seed-{unit.config.seed}": unit.name
        for unit in units
        if unit.kind == "pretrain"
        for setting in unit.settings
    }
    for unit in sorted(units, key=lambda unit: unit.kind != "pretrain"):
        yield replace(unit, needs=pretraining[unit.needs]) if unit.needs else unit


def _with_labels(config: RunConfig, labels: Labels) -> RunConfig:
    changes = {"labels_per_class": None if labels == ALL else labels, "validation": 0.0}
    stages = ("finetune", "supervised")
    return config.model_copy(update={stage: getattr(config, stage).model_copy(update=changes) for stage in stages})


def _changed(config: RunConfig, changes: Mapping[str, Any], source: str) -> RunConfig:
    for name in changes:
        if name.split(".")[0] in SECTIONS or name.split(".")[-1] in NAMES_IN_SECTIONS:
            deciding = "data, test, folds, seeds, measures, labels_per_class"
            raise ConfigError(f"{source}: {name} is decided by the sweep: {deciding}")
    return with_values(config, changes, source)
