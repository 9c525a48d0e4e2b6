"""The folder of one run.

config.yaml        the complete settings, from which the run can be repeated
environment.json   what the numbers depend on: versions, git revision, threads, kernels; and that of later resumptions
split.json         the training and validation recordings
folds.json         answers of networks that were trained in folds, each on the recordings that did not train it
left_out.json      files that cannot be read, and why, if the run goes on without them
metrics.jsonl      one line per epoch
curves.png         the metrics as curves, redrawn every minute or so
logs/              files of the experiment trackers
metrics.json       the last and the chosen epoch, written at the end
weights/           last.safetensors, and best.safetensors if there is a validation set
state/             the last two states to resume from after an interruption
.lock              held by the process that trains in the folder

A run of stage "all" has such folders inside: pretrain/, finetune/, and, if it compares, supervised/ and probe/.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from filelock import FileLock, Timeout

from neuromoco.checkpoint import BEST, LAST, RUN_SETTINGS
from neuromoco.config import RunConfig, dump_config, load_config, with_values
from neuromoco.errors import ConfigError
from neuromoco.support.disk_errors import disk_errors
from neuromoco.support.files import (
    LARGEST_JSON,
    is_partial,
    read_json,
    remove,
    sync,
    sync_all,
    write_json,
    write_text,
)
from neuromoco.support.untrusted import parse_json, read_bytes
from neuromoco.train.environment import environment, report_changes
from neuromoco.train.processes import main_process_first

LOCK = ".lock"
KEPT_STATES = 2  # the last one, and the one before it should that be damaged


class RunFolder:
    """Paths and files of one run."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.last = self.path / LAST
        self.best = self.path / BEST
        self.left_out = self.path / "left_out.json"
        self.metrics = self.path / "metrics.jsonl"
        self.summary = self.path / "metrics.json"
        self.curves = self.path / "curves.png"
        self.states = self.path / "state"
        self.folds = self.path / "folds.json"

    def check_free(self) -> None:
        """Raises ConfigError if the path is a file, or a folder with anything but what a killed run leaves behind."""
        if self.path.is_file() or (self.path.is_dir() and not all(map(_is_left_over, self.path.iterdir()))):
            advice = f"resume it: neuromoco train --resume {self.path}, or give another --out"
            raise ConfigError(f"{self.path}: already exists; {advice}")

    @contextmanager
    def kept_alone(self) -> Iterator[None]:
        """Keeps other processes from training in this folder, which is made if missing; ends with this process.

        Raises:
            ConfigError: another process trains in it.
            DiskError: the folder cannot be made, or its disk knows no locks.
        """
        lock = FileLock(self.path / LOCK, timeout=0, mode=0o600, fallback_to_soft=False)
        with disk_errors(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            try:
                lock.acquire()
            except Timeout:
                advice = "wait until it ends, or give another --out"
                raise ConfigError(f"{self.path}: another process is training in it; {advice}") from None
        try:
            yield
        finally:
            lock.release()

    def begin(self, config: RunConfig, device: str) -> None:
        """Creates the folder of a new run, or adds what an interrupted start did not write.

        If a run is resumed in another environment, this is reported, and added to `environment.json`.
        """
        if not self.is_begun:
            write_text(self.path / RUN_SETTINGS, dump_config(config))
        file, now = self.path / "environment.json", environment(device)
        if not file.is_file():
            write_json(file, now)
            return
        begun = read_json(file)
        resumed = begun.get("resumed", [])
        if not isinstance(resumed, list) or not all(isinstance(entry, dict) for entry in resumed):
            raise ConfigError(f"{file}: is damaged; delete it to have it written again")
        if report_changes((resumed or [begun])[-1], now):
            write_json(file, begun | {"resumed": [*resumed, now]})

    def remove_partial_files(self) -> None:
        """Removes what a killed run had not finished writing."""
        for part in list(filter(is_partial, self.path.rglob(".*"))):
            remove(part)

    @classmethod
    def open(cls, path: Path | str) -> tuple[RunFolder, RunConfig]:
        """Opens the folder of a started run and loads its settings; raises ConfigError if it holds none."""
        run = cls(path)
        if not run.is_begun:
            raise ConfigError(f"{run.path}: holds no run (no {RUN_SETTINGS}); --resume takes the folder of a run")
        return run, _as_before(load_config(run.path / RUN_SETTINGS))

    def split(self) -> dict[str, Any] | None:
        """The content of `split.json`, or None if it is not written yet."""
        file = self.path / "split.json"
        return read_json(file) if file.is_file() else None

    @property
    def is_begun(self) -> bool:
        """Whether the folder holds a run, which can be resumed."""
        return (self.path / RUN_SETTINGS).is_file()

    @property
    def is_complete(self) -> bool:
        """Whether the run reached its last epoch."""
        return self.summary.is_file()

    def list_states(self) -> list[Path]:
        """The complete states, the newest first."""
        return sorted(self.states.glob("step-[0-9]*"), reverse=True)

    def remove_old_states(self) -> None:
        """Removes partial states, and all but the last two."""
        kept = self.list_states()[:KEPT_STATES]
        for entry in self.states.iterdir():
            if entry not in kept:
                remove(entry)

    def sync(self) -> None:
        """Waits until weights and metrics are on the disk."""
        if self.metrics.is_file():
            sync_all(self.last.parent)
            sync(self.metrics)
            sync(self.path)

    def history(self, epochs: int | None = None) -> list[dict[str, Any]]:
        """The lines of `metrics.jsonl`; of the first `epochs`, if given.

        Raises:
            ConfigError: the file is damaged, or lacks one of these epochs.
        """
        try:
            raw = (
                read_bytes(self.metrics, LARGEST_JSON) if self.metrics.exists() and self.metrics.stat().st_size else b""
            )
            history = [parse_json(line) for line in raw.splitlines()[:epochs]]
        except (OSError, ValueError) as error:
            raise ConfigError(f"{self.metrics}: is damaged; restore it, or start a new run") from error
        if not all(isinstance(line, dict) for line in history) or len(history) < (epochs or 0):
            raise ConfigError(f"{self.metrics}: lacks epochs that were trained; restore it, or start a new run")
        return history

    def write_history(self, history: list[dict[str, Any]]) -> None:
        """Rewrites the whole file, so that an interruption leaves no incomplete line."""
        write_text(self.metrics, "".join(json.dumps(line) + "\n" for line in history))


@contextmanager
def keeping_alone(run: RunFolder, accelerator: Accelerator, check: Callable[[], None]) -> Iterator[None]:
    """Keeps the folder of a run for the processes of an accelerator, and checks it once nobody else writes to it.

    Raises:
        ConfigError: others train in it.
        DiskError: the folder cannot be made.
        NeuromocoError: what `check` raises.
    """
    with ExitStack() as kept:

        def enter() -> None:
            if accelerator.is_main_process:
                kept.enter_context(run.kept_alone())
                check()

        main_process_first(accelerator, enter)
        yield


def _is_left_over(path: Path) -> bool:
    return is_partial(path) or path.name == LOCK


def _as_before(config: RunConfig) -> RunConfig:
    """Settings of a run that began before some of them, with what it meant: everything decays, nothing is compared."""
    optimizers = {name: getattr(config, name).optimizer for name in ("pretrain", "finetune", "supervised")}
    silent = [name for name, optimizer in optimizers.items() if "decay" not in optimizer.model_fields_set]
    changes: dict[str, Any] = {f"{name}.optimizer.decay": "all" for name in silent}
    if "compare" not in config.model_fields_set:
        changes["compare"] = False
    return with_values(config, changes)
