"""The folder of one run: what was asked for, on what, with what, and what came of it.

config.yaml        the complete settings: the run can be made again from this file
environment.json   versions, git revision, command, threads
split.json         which recordings trained and which validated (stages with labels)
metrics.jsonl      a line an epoch
curves.png         them as curves, drawn anew now and then
logs/              what trackers write that keep files
metrics.json       the last and the best epoch, written at the end
weights/           last.safetensors, best.safetensors (the latter by validation only)
state/             what is needed to go on after an interruption
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from neuromoco.config import RunConfig, dump_config, load_config
from neuromoco.errors import ConfigError
from neuromoco.support.files import write_json, write_text, writing

PACKAGES = ("neuromoco", "torch", "spikingjelly", "accelerate", "numpy")


class RunFolder:
    """Paths and files of one run.

    Args:
        path: the folder.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.last = self.path / "weights" / "last.safetensors"
        self.best = self.path / "weights" / "best.safetensors"
        self.metrics = self.path / "metrics.jsonl"
        self.summary = self.path / "metrics.json"
        self.curves = self.path / "curves.png"
        self.states = self.path / "state"

    def check_free(self) -> None:
        """Refuses a folder that holds something already.

        Raises:
            ConfigError: it does.
        """
        # Parts of files that a killed run left before it had begun are not worth keeping.
        if self.path.is_file() or (self.path.is_dir() and any(p for p in self.path.iterdir() if not _is_part(p))):
            raise ConfigError(
                f"{self.path}: exists already; go on with it: neuromoco train --resume {self.path}, "
                "or give another --out"
            )

    def begin(self, config: RunConfig) -> None:
        """Makes the folder of a new run, or completes one that was only just begun."""
        if not self.is_begun:
            write_text(self.path / "config.yaml", dump_config(config))
        if not (self.path / "environment.json").is_file():
            write_json(self.path / "environment.json", environment())

    def drop_parts(self) -> None:
        """Removes what a killed run had not finished writing."""
        for part in [p for p in self.path.rglob(".*") if _is_part(p)]:
            if part.is_dir():
                shutil.rmtree(part, ignore_errors=True)
            else:
                part.unlink(missing_ok=True)

    @classmethod
    def open(cls, path: Path | str) -> tuple[RunFolder, RunConfig]:
        """Finds a run that was begun, and its settings.

        Raises:
            ConfigError: there is no run in the folder.
        """
        run = cls(path)
        if not run.is_begun:
            raise ConfigError(f"{run.path}: holds no run (no config.yaml); --resume takes the folder of a run")
        return run, load_config(run.path / "config.yaml")

    def split(self) -> dict[str, Any] | None:
        """What `split.json` holds, if it is written."""
        file = self.path / "split.json"
        found: dict[str, Any] | None = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None
        return found

    @property
    def is_begun(self) -> bool:
        """Whether there are settings to go on with."""
        return (self.path / "config.yaml").is_file()

    @property
    def is_complete(self) -> bool:
        """Whether the last epoch was reached."""
        return self.summary.is_file()

    def latest_state(self) -> Path | None:
        """The newest whole state, if there is one."""
        states = sorted(self.states.glob("step-[0-9]*"))
        return states[-1] if states else None

    def drop_states_but(self, keep: Path) -> None:
        """Removes older states, and parts of states that an interruption left."""
        for entry in self.states.iterdir():
            if entry != keep:
                shutil.rmtree(entry, ignore_errors=True)

    def history(self) -> list[dict[str, Any]]:
        """The lines of `metrics.jsonl`."""
        if not self.metrics.is_file():
            return []
        return [json.loads(line) for line in self.metrics.read_text(encoding="utf-8").splitlines()]

    def write_history(self, history: list[dict[str, Any]]) -> None:
        """Writes all lines anew, so that an interruption leaves no half line."""
        with writing(self.metrics) as part:
            part.write_text("".join(json.dumps(line) + "\n" for line in history), encoding="utf-8")


def _is_part(path: Path) -> bool:
    return path.name.startswith(".") and path.name.endswith(".part")


@cache
def package_versions() -> dict[str, str]:
    """Versions of the packages that decide what comes out."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def environment() -> dict[str, Any]:
    """Where and how a run is made."""
    import torch

    return {
        "versions": package_versions(),
        "git_revision": _git_revision(),
        "command": sys.argv,
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "processes": int(os.environ.get("WORLD_SIZE", "1")),
        "torch_threads": torch.get_num_threads(),
        "cuda": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


@cache
def _git_revision() -> str | None:
    """Of the checkout that the package runs from, if it does."""
    try:
        answer = subprocess.run(
            ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=40"],
            capture_output=True,
            text=True,
            timeout=5,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() or None
