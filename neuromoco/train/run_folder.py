"""The folder of one run.

config.yaml        the complete settings, from which the run can be repeated
environment.json   versions, git revision, command, threads
split.json         the training and validation recordings
metrics.jsonl      one line per epoch
curves.png         the metrics as curves, redrawn every minute or so
logs/              files of the experiment trackers
metrics.json       the last and the best epoch, written at the end
weights/           last.safetensors, and best.safetensors if there is a validation set
state/             the state to resume from after an interruption
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from neuromoco.config import RunConfig, dump_config, load_config
from neuromoco.errors import ConfigError
from neuromoco.support.files import read_json, write_json, write_text

PACKAGES = ("neuromoco", "torch", "spikingjelly", "accelerate", "numpy")


class RunFolder:
    """Paths and files of one run."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.last = self.path / "weights" / "last.safetensors"
        self.best = self.path / "weights" / "best.safetensors"
        self.metrics = self.path / "metrics.jsonl"
        self.summary = self.path / "metrics.json"
        self.curves = self.path / "curves.png"
        self.states = self.path / "state"

    def check_free(self) -> None:
        """Raises ConfigError if the path is a file, or a folder with anything but partial files of a killed run."""
        if self.path.is_file() or (self.path.is_dir() and not all(map(_is_partial, self.path.iterdir()))):
            advice = f"resume it: neuromoco train --resume {self.path}, or give another --out"
            raise ConfigError(f"{self.path}: already exists; {advice}")

    def begin(self, config: RunConfig) -> None:
        """Creates the folder of a new run, or adds what an interrupted start did not write."""
        if not self.is_begun:
            write_text(self.path / "config.yaml", dump_config(config))
        if not (self.path / "environment.json").is_file():
            write_json(self.path / "environment.json", environment())

    def remove_partial_files(self) -> None:
        """Removes what a killed run had not finished writing."""
        for part in list(filter(_is_partial, self.path.rglob(".*"))):
            if part.is_dir():
                shutil.rmtree(part, ignore_errors=True)
            else:
                part.unlink(missing_ok=True)

    @classmethod
    def open(cls, path: Path | str) -> tuple[RunFolder, RunConfig]:
        """Opens the folder of a started run and loads its settings; raises ConfigError if it holds none."""
        run = cls(path)
        if not run.is_begun:
            raise ConfigError(f"{run.path}: holds no run (no config.yaml); --resume takes the folder of a run")
        return run, load_config(run.path / "config.yaml")

    def split(self) -> dict[str, Any] | None:
        """The content of `split.json`, or None if it is not written yet."""
        file = self.path / "split.json"
        return read_json(file) if file.is_file() else None

    @property
    def is_begun(self) -> bool:
        """Whether the folder holds a run, which can be resumed."""
        return (self.path / "config.yaml").is_file()

    @property
    def is_complete(self) -> bool:
        """Whether the run reached its last epoch."""
        return self.summary.is_file()

    def latest_state(self) -> Path | None:
        """The newest complete state, if there is one."""
        return max(self.states.glob("step-[0-9]*"), default=None)

    def remove_states_except(self, newest: Path) -> None:
        """Removes older and partial states."""
        for entry in self.states.iterdir():
            if entry != newest:
                shutil.rmtree(entry, ignore_errors=True)

    def history(self) -> list[dict[str, Any]]:
        """The lines of `metrics.jsonl`."""
        if not self.metrics.is_file():
            return []
        return [json.loads(line) for line in self.metrics.read_text(encoding="utf-8").splitlines()]

    def write_history(self, history: list[dict[str, Any]]) -> None:
        """Rewrites the whole file, so that an interruption leaves no incomplete line."""
        write_text(self.metrics, "".join(json.dumps(line) + "\n" for line in history))


def _is_partial(path: Path) -> bool:
    return path.name.startswith(".") and path.name.endswith(".part")


@cache
def package_versions() -> dict[str, str]:
    """Versions of Python and of the packages that affect the result."""
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        with suppress(PackageNotFoundError):
            versions[name] = version(name)
    return versions


def environment() -> dict[str, Any]:
    """The machine, versions and command of a run."""
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
    """The commit of the checkout that the package runs from, or None."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=5, check=False).stdout.strip() or None
    except (OSError, subprocess.TimeoutExpired):
        return None
