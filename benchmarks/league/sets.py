"""The sets of a league: where their recordings are, and the settings that are advised for them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.league.clothes import clothes_folder
from benchmarks.league.settings import Labels, LeagueConfig, SetConfig
from neuromoco.config import RunConfig, with_values
from neuromoco.datasets import Listing, list_data, read_recordings
from neuromoco.datasets.set_survey import survey_set
from neuromoco.recipes.advice import WARMUP, advise
from neuromoco.simulate.pictures import FASHION

MOST_WARMUP = 20  # epochs of pre-training
NO_LIMIT = 1e6  # minutes


@dataclass(frozen=True)
class Contest:
    """A set that takes part.

    Attributes:
        name: of the set.
        config: its settings.
        sizes: recordings of each class.
        base: settings of all stages, by number of labels.
        sha256: of the names and the content of its recordings.
    """

    name: str
    config: SetConfig
    sizes: tuple[int, ...]
    base: dict[Labels, RunConfig]
    sha256: str

    def to_json(self) -> dict[str, Any]:
        """What affects the results; where the recordings are does not."""
        base = {str(labels): config.model_dump(mode="json") | {"data": None} for labels, config in self.base.items()}
        config = self.config.model_dump(mode="json")
        return {"config": config, "sizes": list(self.sizes), "base": base, "sha256": self.sha256}


def find_data(name: str, config: SetConfig, given: Mapping[str, Path]) -> str | None:
    """The folder or the name of a set's recordings; None if there are none."""
    if config.source == "clothes":
        source = given.get(name, FASHION)
        return str(clothes_folder(source)) if name in given or source.is_dir() else None
    if name in given:
        return str(given[name])
    return "digits" if config.source == "digits" else None


def enter(name: str, league: LeagueConfig, data: str) -> Contest:
    """Reads the recordings of a set and derives the settings for it."""
    config = league.sets[name]
    listing = list_data(data, "train", labelled=True)
    survey = survey_set(name, listing)
    numbers = dict.fromkeys([*league.choice.labels, *league.labels])
    base = {labels: _advised(survey, labels, config, data) for labels in numbers}
    frames = next(iter(base.values())).frames
    keys = read_recordings(data, frames, "train", labelled=True).store.keys
    digest = hashlib.sha256(repr(listing.names).encode("utf-8", "surrogateescape") + keys.tobytes())
    return Contest(name, config, _sizes(listing), base, digest.hexdigest())


def _sizes(listing: Listing) -> tuple[int, ...]:
    return tuple(listing.labels.count(label) for label in range(len(listing.class_names)))


def _advised(survey: Any, labels: Labels, config: SetConfig, data: str) -> RunConfig:
    """What `neuromoco survey` advises without a limit of time, with the set's changes and epochs of pre-training."""
    count = None if labels == "all" else labels
    whole, scratch = (
        advise(survey, stage=stage, labels_per_class=count, minutes=NO_LIMIT).config for stage in ("all", "supervised")
    )
    epochs = config.pretraining_epochs
    values: dict[str, Any] = {
        "data": data,
        "supervised": scratch.supervised.model_dump(),
        "pretrain.epochs": epochs,
        "pretrain.optimizer.warmup_epochs": min(MOST_WARMUP, round(WARMUP * epochs)),
        "watch": {"samples": 0, "knn_every": 0},
    }
    for stage in ("finetune", "supervised"):  # every labelled recording trains, and the last epoch counts
        values |= {f"{stage}.validation": 0.0, f"{stage}.calibration_folds": 0}
    return with_values(whole, values | config.set, f"sets: {survey.data}")
