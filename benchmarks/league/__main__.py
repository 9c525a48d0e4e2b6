"""Compares methods on several sets of recordings; interrupted at any time, the same line goes on.

    python -m benchmarks.league benchmarks/league/full.yaml --data n-mnist=N-MNIST/Train --out runs/league --jobs 2

A set whose recordings are not named is left out; `digits` is built in, and `clothes` is made of the pictures of
Debian's dataset-fashion-mnist where that is installed, or of `--data clothes=FOLDER`.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

from benchmarks.league.run import Book, begin, describe, run_league
from benchmarks.league.sets import Contest, enter, find_data
from benchmarks.league.settings import LeagueConfig
from neuromoco.config import load_settings
from neuromoco.errors import ConfigError, NeuromocoError
from neuromoco.support.console import console, escape
from neuromoco.support.extras import need


def main(arguments: list[str] | None = None) -> int:
    """Runs a league, and returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.league", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", type=Path, help="a league's .yaml file, such as benchmarks/league/small.yaml")
    parser.add_argument("--data", action="append", default=[], metavar="SET=FOLDER", help="a set's recordings")
    parser.add_argument("--out", type=Path, default=Path("runs/league"), help="the folder of the league")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--only", action="append", default=[], metavar="SET", help="only this set; may be repeated")
    parser.add_argument("--dry-run", action="store_true", help="say what there is to do and how long it takes")
    parser.add_argument("--table", action="store_true", help="only write the tables and the picture of what is done")
    options = parser.parse_args(arguments)
    try:
        _run(options)
    except NeuromocoError as error:
        console.print(f"league: {escape(str(error))}", soft_wrap=True)
        return error.exit_code
    except KeyboardInterrupt:
        words = shlex.join(sys.argv[1:] if arguments is None else arguments)
        console.print(f"interrupted; to go on: python -m benchmarks.league {escape(words)}", soft_wrap=True)
        return 130
    return 0


def _run(options: argparse.Namespace) -> None:
    league = load_settings(LeagueConfig, options.file)
    if options.jobs < 1:
        raise ConfigError(f"--jobs {options.jobs}; give 1 or more")
    if options.table:
        if not (options.out / "results.json").is_file():
            raise ConfigError(f"{options.out}: holds no results of a league yet")
        begin(options.out, league, [])  # refuses the results of another league
        Book(options.out, league).write(picture=True)
        print((options.out / "table.md").read_text(encoding="utf-8"), end="")
        return
    if any(method.set.get("pretrain.method", "moco") != "moco" for method in league.methods.values()):
        need("league", "the league")
    contests, absent = _contests(league, options.data, options.only)
    if not contests:
        raise ConfigError(f"no set takes part ({'; '.join(absent.values())})")
    if options.dry_run:
        print(describe(league, contests, options.out))
        return
    run_league(league, contests, Book(options.out, league, absent), options.jobs)
    print((options.out / "table.md").read_text(encoding="utf-8"), end="")


def _contests(league: LeagueConfig, data: list[str], only: list[str]) -> tuple[list[Contest], dict[str, str]]:
    """The sets that take part, and why others do not."""
    given: dict[str, Path] = {}
    for word in data:
        name, equals, folder = word.partition("=")
        if not equals or name not in league.sets:
            raise ConfigError(f"--data {word}; give SET=FOLDER, and a set of {', '.join(league.sets)}")
        given[name] = Path(folder)
    if unknown := [name for name in only if name not in league.sets]:
        raise ConfigError(f"--only {unknown[0]}; the league has {', '.join(league.sets)}")
    contests, absent = [], {}
    for name, config in league.sets.items():
        if only and name not in only:
            continue
        if (found := find_data(name, config, given)) is None:
            absent[name] = f"no recordings were named: --data {name}=FOLDER"
        else:
            contests.append(enter(name, league, found))
    return contests, absent


if __name__ == "__main__":
    sys.exit(main())
