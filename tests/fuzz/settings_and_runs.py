"""Settings in YAML and as `--set` takes them, and the files of run folders."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import yaml

from neuromoco.config import RunConfig, dump_config, load_config, load_settings, parse_changes, with_values
from neuromoco.recipes import list_recipes
from neuromoco.support.console import console
from neuromoco.sweep.plan import SweepConfig, list_sweeps
from tests.fuzz.bytes_damage import damaged
from tests.fuzz.campaign import Files
from tests.fuzz.trees import damaged_tree

ROOT = Path(__file__).parents[2]
RECIPES = ROOT / "neuromoco" / "recipes"
RUN = ROOT / "tests" / "compatibility" / "files" / "run"
SETTINGS, SWEEP = "settings.yaml", "sweep.yaml"
TAGS = ["!!int", "!!bool", "!!timestamp", "!!binary", "!!set", "!!python/name:os.system"]
SIGNS = (
    *("&a", "*a", "[", "{", "]", "}", "-", "?", ":", ",", "'", '"', "|", ">", "%", "#", "---"),
    *("0x", "1:2:3", ".inf", ".nan", "~", "\\ud800"),
)
LONG = ("\n", "\n  ", "\t", "\x00", "<<: *a", "9" * 50, "a: " * 50, "[" * 100, "a: &a [*a]\n")
PIECES = (*(f"{piece} " for piece in (*TAGS, *SIGNS)), *SIGNS, *LONG)


def settings_seeds() -> dict[str, Files]:
    """Recipes and sweeps that ship."""
    recipes = {name: {SETTINGS: (RECIPES / f"{name}.yaml").read_bytes()} for name in list_recipes()[:3]}
    sweeps = {name: {SWEEP: (RECIPES / "sweeps" / f"{name}.yaml").read_bytes()} for name in list_sweeps()[:2]}
    return recipes | sweeps


def mutate_settings(files: Files, rng: np.random.Generator) -> Files:
    """A value changed, signs of YAML put in, or any bytes changed."""
    ((name, raw),) = files.items()
    change = rng.random()
    if change < 0.4:
        return {name: yaml.dump(damaged_tree(yaml.safe_load(raw), rng)).encode("utf-8", "replace")}
    if change < 0.8:
        text = raw.decode()
        for _ in range(int(rng.integers(1, 4))):
            at = int(rng.integers(len(text)))
            text = text[:at] + PIECES[int(rng.integers(len(PIECES)))] + text[at:]
        return {name: text.encode("utf-8", "replace")}
    return {name: damaged(raw, rng)}


def attempt_settings(folder: Path, number: int) -> None:
    """Reads the file; what is accepted survives being written, and is a change too."""
    if (folder / SWEEP).is_file():
        load_settings(SweepConfig, folder / SWEEP)
        return
    if number % 3 == 0:
        lines = (folder / SETTINGS).read_text("utf-8", "replace").splitlines()
        with_values(RunConfig(), parse_changes(line.replace(":", "=", 1) for line in lines[:20] if ":" in line))
        return
    config = load_config(folder / SETTINGS)
    (folder / "again.yaml").write_text(dump_config(config), encoding="utf-8")
    if load_config(folder / "again.yaml") != config:
        raise AssertionError("settings that change when they are written")


def run_seeds() -> dict[str, Files]:
    """The folder of an interrupted run."""
    return {"run": {str(path.relative_to(RUN)): path.read_bytes() for path in RUN.rglob("*") if path.is_file()}}


def mutate_run(files: Files, rng: np.random.Generator) -> Files:
    """One file changed or missing."""
    texts = [name for name in files if name.endswith((".json", ".jsonl", ".yaml"))]
    name = sorted(texts)[int(rng.integers(len(texts)))]
    change = rng.random()
    if change < 0.05:
        return {other: raw for other, raw in files.items() if other != name}
    if change < 0.1:
        return {**files, name: b"[" * 100_000 if rng.random() < 0.5 else b'{"a": ' + b"9" * 5000 + b"}"}
    if change < 0.7 and name.endswith(".json"):
        return {**files, name: json.dumps(damaged_tree(json.loads(files[name]), rng)).encode()}
    if change < 0.7 and name.endswith(".jsonl"):
        lines = files[name].splitlines()
        at = int(rng.integers(len(lines)))
        lines[at] = json.dumps(damaged_tree(json.loads(lines[at]), rng)).encode()
        return {**files, name: b"\n".join(lines)}
    return {**files, name: damaged(files[name], rng)}


def attempt_run(folder: Path, number: int) -> None:
    """Reads it as resuming, plotting and evaluation begin."""
    from neuromoco.train.run_folder import RunFolder
    from neuromoco.train.state import _damage

    console.quiet = True  # a run in another environment says so
    run, config = RunFolder.open(folder)
    run.begin(config, "cpu")
    run.split()
    run.history()
    for state in run.list_states():
        _damage(state)
