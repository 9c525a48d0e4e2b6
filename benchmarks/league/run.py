"""Runs a league in one folder, from which it goes on after any interruption.

league.json    the settings, and those of each set, with hashes of its recordings
units/         a folder for each unit, complete once it holds result.json
results.json   what is known so far: choices, and the result of each unit
table.md       the tables so far, accuracy.png the picture
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.league.estimate import unit_seconds
from benchmarks.league.picture import draw
from benchmarks.league.plan import Entry, best_trials, choice_units, choose, table_units
from benchmarks.league.sets import Contest
from benchmarks.league.settings import LeagueConfig
from benchmarks.league.table import markdown
from benchmarks.league.work import LeagueWorker
from neuromoco.errors import ConfigError
from neuromoco.support.console import console, printable
from neuromoco.support.files import read_json, write_json, write_text
from neuromoco.sweep.run import difference
from neuromoco.sweep.workers import WorkerOptions, run_units

# What may grow after a league was begun: more seeds, numbers of labels, sets, and methods.
MAY_GROW = ("seeds", "rounds", "sets", "methods")


class Book:
    """The results of a league, written after each unit."""

    def __init__(self, out: Path, league: LeagueConfig, absent: Mapping[str, str] = {}) -> None:
        self.out, self.league = out, league
        file = out / "results.json"
        before = read_json(file) if file.is_file() else {}
        self.units: dict[str, dict[str, Any]] = {unit["unit"]: unit for unit in before.get("units", ())}
        self.sets: dict[str, Any] = before.get("sets", {})
        for name, reason in (absent or {}).items():
            self.sets.setdefault(name, {"absent": reason})

    def enter(self, contest: Contest) -> None:
        """Adds a set that takes part."""
        frames = next(iter(contest.base.values())).frames
        size = f"{frames.steps} x {frames.height} x {frames.width}"
        self.sets[contest.name] = {"recordings": sum(contest.sizes), "classes": len(contest.sizes), "frames": size}

    def add(self, entry: Entry, result: Mapping[str, Any] | None, problem: str | None) -> None:
        """Notes the outcome of a unit."""
        facts = entry.facts() | ({"problem": problem or "its pre-training failed"} if result is None else dict(result))
        self.units[entry.name] = facts
        self.write()

    def scores(self, contest: str) -> dict[str, list[float | None]]:
        """The scores of all trials on a set."""
        return choose(self.league, list(self.units.values()), contest)

    def results(self) -> dict[str, Any]:
        """The content of results.json."""
        scores = {name: self.scores(name) for name, facts in self.sets.items() if "absent" not in facts}
        choices = {name: {"scores": rows, "chosen": best_trials(rows)} for name, rows in scores.items()}
        league = self.league.model_dump(mode="json")
        sets = {name: self.sets[name] for name in self.league.sets if name in self.sets}
        return {"league": league, "sets": sets, "choices": choices, "units": list(self.units.values())}

    def write(self, picture: bool = False) -> None:
        """Writes results and tables, and draws the picture if asked to."""
        results = self.results()
        write_json(self.out / "results.json", results)
        write_text(self.out / "table.md", markdown(results))
        if picture:
            draw(self.out / "accuracy.png", results)


def begin(out: Path, league: LeagueConfig, contests: Sequence[Contest]) -> None:
    """Checks that a folder is free or holds this league, and writes league.json.

    Raises:
        ConfigError: it holds something else, or sets or settings have changed since.
    """
    file = out / "league.json"
    content = {"league": league.model_dump(mode="json"), "sets": {c.name: c.to_json() for c in contests}}
    content = json.loads(json.dumps(content))
    if file.is_file():
        before = read_json(file)
        leagues = [part["league"] for part in (before, content)]
        old, new = ({name: one[name] for name in one if name not in MAY_GROW} for one in leagues)
        changed = difference(old, new)
        for name, method in leagues[0]["methods"].items():
            if any((out / "units").glob(f"*/{name}")):  # of one that has not begun, everything may change
                changed = changed or difference(method, leagues[1]["methods"].get(name), f"method {name}")
        for name in before["sets"].keys() & content["sets"].keys():
            changed = changed or difference(before["sets"][name], content["sets"][name], f"set {name}")
        if changed:
            raise ConfigError(f"{out}: holds a league with another {changed}; restore that, or give another --out")
        content["sets"] = before["sets"] | content["sets"]
    elif out.is_file() or (out.is_dir() and any(out.iterdir())):
        raise ConfigError(f"{out}: holds something other than a league; give another --out")
    write_json(file, content)


def run_league(league: LeagueConfig, contests: Sequence[Contest], book: Book, jobs: int, device: str = "cpu") -> None:
    """Runs what is not complete yet: round by round, set by set, the choice of settings first.

    Raises:
        DiskError: the disk is full, read-only or gone.
    """
    out = book.out
    begin(out, league, contests)
    for contest in contests:
        book.enter(contest)
    options = WorkerOptions(out, None, device, LeagueWorker)

    def work(entries: Sequence[Entry]) -> None:
        left = {entry.name: entry for entry in entries}
        for outcome in run_units(entries, options, jobs):
            entry = left.pop(outcome.unit.name)
            new = entry.name not in book.units
            book.add(entry, outcome.result, outcome.problem)
            if new:
                _say(entry, book.units[entry.name])
        for entry in left.values():
            book.add(entry, None, None)

    for labels in league.rounds:
        for contest in contests:
            work(choice_units(league, contest))
            chosen = best_trials(book.scores(contest.name))
            for seed in league.table_seeds:
                work(table_units(league, contest, chosen, seed, labels))
                book.write(picture=True)


def planned(league: LeagueConfig, contests: Sequence[Contest]) -> dict[str, Entry]:
    """All units by name, as if every method chose its first trial."""
    entries = [entry for contest in contests for entry in choice_units(league, contest)]
    for labels in league.rounds:
        for contest in contests:
            for seed in league.table_seeds:
                entries += table_units(league, contest, {}, seed, labels)
    return {entry.name: entry for entry in entries}


def describe(league: LeagueConfig, contests: Sequence[Contest], out: Path) -> str:
    """What there is to do: units, and hours on one core, by set."""
    lines, total, left = [], 0.0, 0.0
    for contest in contests:
        seconds: dict[str, list[float]] = {}
        for entry in planned(league, [contest]).values():
            estimate = unit_seconds(entry, contest.sizes, league.folds)
            total += estimate
            left += 0.0 if (out / "units" / entry.name / "result.json").is_file() else estimate
            what = "choice" if entry.config.seed in league.choice_seeds else "table"
            seconds.setdefault(f"{what}, {entry.kind}", []).append(estimate)
        lines.append(f"{contest.name}: {sum(contest.sizes)} recordings of {len(contest.sizes)} classes")
        lines += [
            f"  {what:<20} {len(each):>5} units, {sum(each) / 3600:5.2f} h, at most {max(each):4.0f} s"
            for what, each in sorted(seconds.items())
        ]
    lines.append(f"about {total / 3600:.1f} hours on one core in all, {left / 3600:.1f} of them left")
    return "\n".join(lines)


def _say(entry: Entry, facts: Mapping[str, Any]) -> None:
    if "problem" in facts:
        text = printable(f"failed: {facts['problem']}")
    else:
        text = f"{facts['accuracy']:.1%}" if "accuracy" in facts else f"loss {facts['loss']:.3f}"
    seconds = f", {facts['seconds']:.0f} s" if "seconds" in facts else ""
    console.print(f"{entry.name}: {text}{seconds}", soft_wrap=True, markup=False)
