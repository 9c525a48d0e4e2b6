"""The file of a league: sets, methods with their trials, numbers of labels, folds and seeds."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from neuromoco.config import Settings
from neuromoco.config.base import PositiveInt

Labels = PositiveInt | Literal["all"]
Changes = dict[str, Any]
COST = {"moco": 4, "simclr": 6, "vicreg": 6, "byol": 8}  # of a step: a pass forward 1, a pass backward 2
SCRATCH = "scratch"
# Pre-training takes equal time, and all methods the same recordings: what no method may change.
FIXED = ("pretrain.epochs", "pretrain.batch_size", "pretrain.share", "frames", "held_out", "data", "seed", "stage")


class SetConfig(Settings):
    """A set of recordings.

    Attributes:
        source: "folder": class folders that the command line names. "digits": the built-in ones. "clothes": pictures of
            clothes that the simulated camera records, see `benchmarks.league.clothes`.
        title: in tables.
        pretraining_epochs: of momentum contrast; those of the other methods follow from what their steps cost.
        set: changes to the settings that are advised for the set.
    """

    source: Literal["folder", "digits", "clothes"] = "folder"
    title: str
    pretraining_epochs: PositiveInt
    set: Changes = {}


class MethodConfig(Settings):
    """A method.

    Attributes:
        kind: "pretrain": pre-training, then fine-tuning, kNN and a linear probe. "supervised": from scratch. "cnn": a
            network without spikes, from scratch. "logistic" and "neighbours": on counts of events.
        title: in tables.
        set: its settings.
        trials: changes among which it chooses on the first fold. A value such as x0.3 multiplies what is advised.
    """

    kind: Literal["pretrain", "supervised", "cnn", "logistic", "neighbours"]
    title: str
    set: Changes = {}
    trials: tuple[Changes, ...] = Field(({},), min_length=1)


class ChoiceConfig(Settings):
    """How a method chooses among its trials, on the first fold alone.

    Attributes:
        labels: numbers of labels whose accuracies are averaged.
        draws: draws of these labels; all use the pre-training of the first.
    """

    labels: tuple[Labels, ...] = Field((2, 10), min_length=1)
    draws: PositiveInt = 1


class LeagueConfig(Settings):
    """A league.

    Attributes:
        folds: parts of each class. Seed s is measured on fold s % folds, which no stage sees.
        seeds: how many, from 1 on without those that fall on the first fold.
        choice: of settings, on the first fold.
        rounds: numbers of labels; all sets and methods take part in a round before the next begins.
        measures: how often the accuracy on the test fold is written down while training, for the column that shows
            what choosing the best epoch on it would have faked.
        sets: by name.
        methods: by name, in the order of the tables; `scratch` is what others are compared with.
    """

    folds: int = Field(5, ge=2)
    seeds: PositiveInt = 5
    choice: ChoiceConfig = ChoiceConfig()
    rounds: tuple[tuple[Labels, ...], ...] = Field(((5, 1), (10, 2, "all")), min_length=1)
    measures: PositiveInt = 20
    sets: dict[str, SetConfig] = Field(min_length=1)
    methods: dict[str, MethodConfig] = Field(min_length=1)

    @model_validator(mode="after")
    def _is_fair(self) -> LeagueConfig:
        counts = {name: len(method.trials) for name, method in self.methods.items()}
        if len(set(counts.values())) > 1:
            raise ValueError(f"methods: all choose among equally many trials, not {counts}")
        if self.methods.get(SCRATCH, MethodConfig(kind="cnn", title="")).kind != "supervised":
            raise ValueError(f"methods: one is {SCRATCH}, of kind supervised, with which the others are compared")
        for name, method in self.methods.items():
            for changed in [*method.set, *(changed for trial in method.trials for changed in trial)]:
                if any(changed == fixed or changed.startswith(fixed + ".") for fixed in FIXED):
                    raise ValueError(f"methods: {name}: {changed} is the same for all methods")
        return self

    @property
    def table_seeds(self) -> tuple[int, ...]:
        """Seeds of the table, none of which falls on the fold that chose."""
        return tuple(seed for seed in range(self.folds * (self.seeds + 1)) if seed % self.folds)[: self.seeds]

    @property
    def choice_seeds(self) -> tuple[int, ...]:
        """Seeds that fall on the first fold."""
        return tuple(self.folds * draw for draw in range(self.choice.draws))

    @property
    def labels(self) -> tuple[Labels, ...]:
        """All numbers of labels, in order."""
        numbers = {number for part in self.rounds for number in part}
        return tuple(sorted(numbers, key=lambda number: (number == "all", number if number != "all" else 0)))
