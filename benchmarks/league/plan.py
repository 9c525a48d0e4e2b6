"""The units of work of a league: which trial of which method, on which set, with which labels and seed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.league import cnn
from benchmarks.league.sets import MOST_WARMUP, Contest
from benchmarks.league.settings import COST, Changes, Labels, LeagueConfig, MethodConfig
from neuromoco.config import RunConfig, with_values
from neuromoco.errors import ConfigError
from neuromoco.recipes.advice import WARMUP
from neuromoco.sweep import Unit


@dataclass(frozen=True)
class Entry(Unit):
    """A unit, and what it is part of."""

    contest: str = ""
    method: str = ""
    trial: int = 0
    value: float = 0.0  # of a classifier on counts: C or k

    def facts(self) -> dict[str, Any]:
        """What a table needs to know of it."""
        held = self.config.held_out
        return {
            "unit": self.name,
            "set": self.contest,
            "method": self.method,
            "trial": self.trial,
            "measure": self.kind,
            "labels": None if self.labels is None else str(self.labels),
            "seed": self.config.seed,
            "fold": held.fold if held else None,
        }


def choice_units(league: LeagueConfig, contest: Contest) -> list[Entry]:
    """All trials of all methods on the first fold; none of a method with one trial."""
    units: dict[str, Entry] = {}
    for name, method in league.methods.items():
        for trial in range(len(method.trials)) if len(method.trials) > 1 else ():
            for seed in league.choice_seeds:
                for unit in _units(league, contest, name, trial, seed, league.choice.labels, probes=False):
                    units.setdefault(unit.name, unit)
    return list(units.values())


def table_units(
    league: LeagueConfig, contest: Contest, chosen: Mapping[str, int], seed: int, labels: Sequence[Labels]
) -> list[Entry]:
    """The chosen trial of every method for one seed; what does not pre-train comes first, since it is soon done."""
    methods = sorted(league.methods, key=lambda name: league.methods[name].kind == "pretrain")
    return [
        unit
        for name in methods
        for unit in _units(league, contest, name, chosen.get(name, 0), seed, labels, probes=True)
    ]


def choose(league: LeagueConfig, units: Sequence[Mapping[str, Any]], contest: str) -> dict[str, list[float | None]]:
    """Mean accuracy of every trial on the first fold, by method; 0 for one that failed, None while it is not complete.

    Args:
        league: its settings.
        units: facts and results; those that failed have no accuracy.
        contest: the name of the set.
    """
    scores: dict[str, list[float | None]] = {}
    wanted = len(league.choice.labels) * len(league.choice_seeds)
    for name, method in league.methods.items():
        of_trials: list[list[float]] = [[] for _ in method.trials]
        for unit in units:
            own = unit["set"] == contest and unit["method"] == name and unit["seed"] in league.choice_seeds
            if own and unit["measure"] != "pretrain":
                of_trials[unit["trial"]].append(unit.get("accuracy", 0.0))
        scores[name] = [sum(each) / wanted if len(each) == wanted else None for each in of_trials]
    return scores


def best_trials(scores: Mapping[str, Sequence[float | None]]) -> dict[str, int]:
    """The trial of the highest score of each method, of equals the first; methods that lack scores are left out."""
    known = {name: [score for score in row if score is not None] for name, row in scores.items()}
    return {name: row.index(max(row)) for name, row in known.items() if len(row) == len(scores[name])}


def _units(
    league: LeagueConfig, contest: Contest, name: str, trial: int, seed: int, labels: Sequence[Labels], probes: bool
) -> Iterator[Entry]:
    method = league.methods[name]
    part = {"contest": contest.name, "method": name, "trial": trial}
    folder = f"{contest.name}/{name}"
    if method.kind in ("logistic", "neighbours"):
        (value,) = method.trials[trial].values()
        for number in labels:
            config = _config(league, contest, method, {}, seed, number)
            unit_name = f"{folder}/trial-{trial}/seed-{seed}/labels-{number}"
            yield Entry(unit_name, "supervised", (method.kind,), number, config, None, **part, value=float(value))
        return
    if method.kind != "pretrain":
        for number in labels:
            config = _config(league, contest, method, method.trials[trial], seed, number, "supervised")
            yield Entry(
                f"{folder}/trial-{trial}/seed-{seed}/labels-{number}", "supervised", (name,), number, config, **part
            )
        return
    # Trials that fine-tune differently share a pre-training, and so do the draws of labels of the choice.
    own = [_of_pretraining(changes) for changes in method.trials]
    shared = own.index(own[trial])
    first = seed if seed % league.folds else 0
    before = f"{folder}/pretrain-{shared}/seed-{first}"
    config = _config(league, contest, method, method.trials[shared], first, labels[0], "pretrain")
    yield Entry(before, "pretrain", (name,), None, config, **part | {"trial": shared})
    for number in labels:
        for kind in ("finetune", *(("knn", "linear") if probes else ())):
            stage = "finetune" if kind == "finetune" else "pretrain"
            config = _config(league, contest, method, method.trials[trial], seed, number, stage)
            unit_name = f"{folder}/trial-{trial}/seed-{seed}/{kind}-{number}"
            yield Entry(unit_name, kind, (name,), number, config, before, **part)


def _of_pretraining(changes: Changes) -> Changes:
    return {name: value for name, value in changes.items() if not name.startswith("finetune.")}


def _config(
    league: LeagueConfig,
    contest: Contest,
    method: MethodConfig,
    trial: Changes,
    seed: int,
    labels: Labels,
    stage: str = "supervised",
) -> RunConfig:
    source = f"{contest.name}: {method.title}"
    config = with_values(contest.base[labels], method.set, source)
    if method.kind == "cnn":
        encoder = {"name": cnn.NAME, "options": {"steps": config.frames.steps}}
        config = with_values(config, {"encoder": encoder}, source)
    if method.kind == "pretrain":
        epochs = equal_epochs(contest.config.pretraining_epochs, config.pretrain.method)
        warmup = min(MOST_WARMUP, round(WARMUP * epochs))
        config = with_values(config, {"pretrain.epochs": epochs, "pretrain.optimizer.warmup_epochs": warmup}, source)
    config = with_values(config, {name: _value(config, name, given, source) for name, given in trial.items()}, source)
    count = None if labels == "all" else labels
    trained = config.finetune.epochs if stage == "finetune" else config.supervised.epochs
    values = {
        "stage": stage,
        "seed": seed,
        "held_out": {"folds": league.folds, "fold": seed % league.folds},
        "finetune.labels_per_class": count,
        "supervised.labels_per_class": count,
        "watch.held_out_every": max(1, trained // league.measures) if stage != "pretrain" else 0,
    }
    # `init` comes from the unit that it needs.
    return with_values(config, {**values, "init": None}, source)


def equal_epochs(epochs: int, method: str) -> int:
    """Epochs of a method that cost as much as so many of momentum contrast."""
    return max(1, round(epochs * COST["moco"] / COST[method]))


def _value(config: RunConfig, name: str, given: Any, source: str) -> Any:
    """A value as it is given, or, of the form x0.3, that many times the one that is advised."""
    if not (isinstance(given, str) and given.startswith("x")):
        return given
    before: Any = config
    try:
        for part in name.split("."):
            before = getattr(before, part)
        after = float(given[1:]) * before
    except (AttributeError, TypeError, ValueError):
        raise ConfigError(f"{source}: {name}: {given}; x and a factor multiply a number that is advised") from None
    return max(1, round(after)) if isinstance(before, int) else after
