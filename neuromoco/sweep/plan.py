"""What a sweep asks for, and the units of work that answer it, each done once."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeInt, PositiveInt, field_validator, model_validator

from neuromoco.config import HoldOutConfig, PretrainConfig, RunConfig, Settings, load_settings, with_values
from neuromoco.config.tree import ClassifyConfig
from neuromoco.datasets.named import NAMES
from neuromoco.errors import ConfigError
from neuromoco.recipes import DEFAULT, load_recipe

Measure = Literal["finetune", "supervised", "knn", "linear"]
Kind = Literal["pretrain", "finetune", "supervised", "knn", "linear"]
ALL: Literal["all"] = "all"
MOST_SEEDS = 1000
Labels = PositiveInt | Literal["all"]
# What the sweep itself decides; settings may not.
OWN = ("stage", "data", "held_out", "init", "seed")
OWN_LEAVES = ("labels_per_class", "validation", "quantize")


class SweepConfig(Settings):
    """A sweep file.

    Attributes:
        recipe: where the settings of all runs begin: a name or a .yaml file.
        data: a folder of class folders or the name of a data set; the recipe's own by default.
        test: a folder of class folders to measure on. Without it, and without `folds`, it is the test part of a
            named set.
        folds: cut every class of the training recordings into so many folds; seed s is measured on fold
            s % folds, which no stage sees.
        fold: measure on this fold at every seed instead: to choose settings on it.
        seeds: a number, for 0, 1, 2, ..., or a list.
        set: changes to the recipe, `pretrain.moco.queue_size: 512`.
        settings: what is compared: a name, and its changes.
        measures: how. "finetune" a pre-trained encoder, "supervised" from scratch, "knn" and "linear" on the
            features of a frozen one.
        labels_per_class: numbers of labelled recordings of each class; "all" or null takes all. A list, or a mapping
            to changes of `finetune` and `supervised`: few labels may want other epochs.
    """

    recipe: str = DEFAULT
    data: str | None = None
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
    def _no_changes(cls, given: Any) -> Any:
        return {name: value or {} for name, value in given.items()} if isinstance(given, Mapping) else given

    @field_validator("labels_per_class", mode="before")
    @classmethod
    def _as_mapping(cls, given: Any) -> Any:
        pairs = given.items() if isinstance(given, Mapping) else [(n, None) for n in _listed(given)]
        return {ALL if number is None else number: changes or {} for number, changes in pairs}

    @model_validator(mode="after")
    def _fits_together(self) -> SweepConfig:
        for name in self.settings:
            if not re.fullmatch(r"\w[\w.+-]*", name):
                raise ValueError(
                    f"settings: the name {name!r}; letters, digits, '.', '+', '-' and '_' make a folder's name"
                )
        if self.test is not None and self.folds is not None:
            raise ValueError("test and folds both say what is held out; give one of them")
        if self.fold is not None and (self.folds is None or self.fold >= self.folds):
            raise ValueError(f"fold: {self.fold} of folds: {self.folds}; give folds, and a fold below it")
        if len(set(self.all_seeds)) < max(1, len(self.all_seeds)):
            raise ValueError("seeds: one or more of them, each once")
        return self

    @property
    def all_seeds(self) -> tuple[int, ...]:
        """The seeds one by one."""
        return tuple(range(self.seeds)) if isinstance(self.seeds, int) else self.seeds


@dataclass(frozen=True)
class Unit:
    """One run, or one measurement on a finished one.

    Attributes:
        name: its folder below `units/`.
        kind: what is done.
        settings: the names of the settings for which it is the same.
        labels: labelled recordings of each class, or "all"; None for pre-training.
        config: the settings of the run; of a measurement, those of the pre-training it measures, and `finetune`
            holds the labels.
        needs: the name of the pre-training before it.
    """

    name: str
    kind: Kind
    settings: tuple[str, ...]
    labels: Labels | None
    config: RunConfig
    needs: str | None = None


@dataclass(frozen=True)
class Plan:
    """A sweep, ready to be made.

    Attributes:
        name: of the sweep.
        sweep: what is asked for.
        base: the recipe with the changes that all settings share.
        units: the work, each unit after what it needs.
    """

    name: str
    sweep: SweepConfig
    base: RunConfig
    units: tuple[Unit, ...]

    def to_json(self) -> dict[str, Any]:
        """All that decides what comes out."""
        return {"sweep": self.sweep.model_dump(mode="json"), "recipe": self.base.model_dump(mode="json")}


def list_sweeps() -> list[str]:
    """The names of the sweeps that ship with the package."""
    folder = files("neuromoco.recipes") / "sweeps"
    return sorted(Path(entry.name).stem for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def load_sweep(name: str, data: str | None = None) -> Plan:
    """A sweep by name, or by the path of a YAML file.

    Args:
        name: the name or path.
        data: a folder or the name of a data set, instead of the file's.

    Raises:
        ConfigError: no such sweep or file, or settings that are not allowed.
    """
    if name.endswith((".yaml", ".yml")):
        path = Path(name)
    elif name in list_sweeps():
        path = Path(str(files("neuromoco.recipes") / "sweeps" / f"{name}.yaml"))
    else:
        raise ConfigError(f"no sweep named {name!r}; known are {', '.join(list_sweeps())}, or give a .yaml file")
    sweep = load_settings(SweepConfig, path)
    return make_plan(path.stem, sweep if data is None else sweep.model_copy(update={"data": data}), name)


def make_plan(name: str, sweep: SweepConfig, source: str) -> Plan:
    """The units of a sweep. What several settings share is one unit.

    Raises:
        ConfigError: a change that is not allowed; `source` begins the message.
    """
    base = _changed(load_recipe(sweep.recipe), sweep.set, f"{source}: set")
    base = with_values(base, {} if sweep.data is None else {"data": sweep.data}, source)
    if not isinstance(base.data, str):
        raise ConfigError(f"{source}: {sweep.recipe} has several sets as data; a sweep takes one: data: FOLDER")
    if sweep.folds is None and sweep.test is None and base.data not in NAMES:
        raise ConfigError(f"{source}: {base.data} has no test part; hold out something: folds: 5, or test: FOLDER")
    found: dict[tuple[Any, ...], Unit] = {}
    for setting, changes in sweep.settings.items():
        config = _changed(base, changes, f"{source}: settings: {setting}")
        for labels, own in sweep.labels_per_class.items():
            where = f"{source}: labels_per_class: {labels}"
            for name_of_own in own:
                if not name_of_own.startswith(("finetune.", "supervised.")):
                    raise ConfigError(
                        f"{where}: {name_of_own}; numbers of labels change finetune.* and supervised.* only"
                    )
            with_labels = _with_labels(_changed(config, own, where), labels)
            for seed in sweep.all_seeds:
                for unit in _units(sweep, setting, with_labels, labels, seed):
                    key = _what_decides(unit)
                    same = found.get(key)
                    if same is None:
                        found[key] = unit
                    elif setting not in same.settings:
                        found[key] = replace(same, settings=(*same.settings, setting))
    return Plan(name, sweep, base, tuple(_linked(found)))


def _units(sweep: SweepConfig, setting: str, config: RunConfig, labels: Labels, seed: int) -> Iterator[Unit]:
    fold = None
    if sweep.folds is not None:
        fold = HoldOutConfig(folds=sweep.folds, fold=seed % sweep.folds if sweep.fold is None else sweep.fold)
    # Watched closely, hundreds of small runs would take twice as long.
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


def _what_decides(unit: Unit) -> tuple[Any, ...]:
    """Units that agree in this come to the same result."""
    blank: dict[str, Any] = {}
    if unit.kind != "supervised":
        blank["supervised"] = ClassifyConfig()
    if unit.kind == "supervised":
        blank["pretrain"] = PretrainConfig()
    if unit.kind != "finetune":
        blank["finetune"] = ClassifyConfig()
    return unit.kind, unit.labels, unit.config.model_copy(update=blank).model_dump_json()


def _linked(found: Mapping[tuple[Any, ...], Unit]) -> Iterator[Unit]:
    """Units that need the pre-training that was kept of several equal ones."""
    kept = {
        f"pretrain/{setting}/seed-{unit.config.seed}": unit.name
        for unit in found.values()
        if unit.kind == "pretrain"
        for setting in unit.settings
    }
    for unit in sorted(found.values(), key=lambda unit: unit.kind != "pretrain"):
        yield replace(unit, needs=kept[unit.needs]) if unit.needs else unit


def _with_labels(config: RunConfig, labels: Labels) -> RunConfig:
    number = None if labels == ALL else labels
    own = {"labels_per_class": number, "validation": 0.0}
    return config.model_copy(
        update={name: getattr(config, name).model_copy(update=own) for name in ("finetune", "supervised")}
    )


def _changed(config: RunConfig, changes: Mapping[str, Any], source: str) -> RunConfig:
    for name in changes:
        if name.split(".")[0] in OWN or name.split(".")[-1] in OWN_LEAVES:
            raise ConfigError(
                f"{source}: {name} is decided by the sweep: data, test, folds, seeds, measures, labels_per_class"
            )
    return with_values(config, changes, source)


def _listed(given: Any) -> list[Any]:
    return list(given) if isinstance(given, list | tuple) else [given]
