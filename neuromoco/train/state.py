"""States, from which a run resumes exactly where it stopped.

A state is a folder state/step-N: Accelerate's files (weights, key encoder, queue and pointer, optimizer, loss scale,
the random states of each process), `progress.json`: epoch, optimizer steps done in it, and the metrics summed over
them, and `sums.json`: length and SHA-256 of these files. The last state and the one before it are kept.

Order and views of the recordings follow from (seed, epoch, index), so the number of steps done is the sampler's
position.
"""

from __future__ import annotations

import shutil
import signal
import time
from dataclasses import asdict, dataclass, field
from hashlib import file_digest
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object

from neuromoco.errors import CheckpointError, ConfigError, NeuromocoError
from neuromoco.support.console import console, escape
from neuromoco.support.disk_errors import disk_errors
from neuromoco.support.ending import EndRequest, raise_request
from neuromoco.support.files import LARGEST_JSON, remove, sync, sync_all, write_json
from neuromoco.support.untrusted import parse_json, read_bytes
from neuromoco.train.processes import main_process_first
from neuromoco.train.run_folder import RunFolder

SUMS = "sums.json"


@dataclass
class Progress:
    """Progress within an epoch."""

    epoch: int = 1
    steps: int = 0  # optimizer steps done in it
    recordings: int = 0  # that this process has used in it
    sums: dict[str, float] = field(default_factory=dict)  # of each of its metrics over these recordings
    seconds: float = 0.0

    def add(self, means: dict[str, float], recordings: int) -> None:
        """Counts one step, given the mean of each metric over its recordings."""
        self.steps, self.recordings = self.steps + 1, self.recordings + recordings
        for name, value in means.items():
            self.sums[name] = self.sums.get(name, 0.0) + value * recordings


class States:
    """Writes and reads the states of one run, once the accelerator has prepared model, optimizer and loader.

    Args:
        run: its folder.
        accelerator: of the run.
        minutes: after which a state is due.
        request: to end, of this process.
    """

    def __init__(self, run: RunFolder, accelerator: Accelerator, minutes: float, request: EndRequest) -> None:
        self.run, self.accelerator, self.seconds, self._request = run, accelerator, 60.0 * minutes, request
        self.written = time.monotonic()
        self._ending = False

    def due(self, seconds: float | None = None) -> bool:
        """Whether the last state is older than `seconds`, by default the settings' time, or a process is to end.

        The answer is equal in all processes.
        """
        late = time.monotonic() - self.written >= (self.seconds if seconds is None else seconds)
        flags = torch.tensor([float(late), float(self._request.signal > 0)], device=self.accelerator.device)
        some_late, self._ending = (self.accelerator.reduce(flags, "sum") > 0).tolist()
        return bool(some_late or self._ending)

    def write(self, progress: Progress, step: int) -> None:
        """Writes the state after `step` optimizer steps and removes all but the one before it.

        Raises:
            DiskError: the disk is full, read-only or gone; the states before are kept.
            KeyboardInterrupt: the state is written, and `due` found a process that is to end.
        """
        accelerator = self.accelerator
        state = self.run.states / f"step-{step:09d}"
        part = state.with_name(f".{state.name}.part")  # one name for all processes
        try:
            with disk_errors(state):
                if accelerator.is_main_process:
                    shutil.rmtree(part, ignore_errors=True)
                    part.mkdir(parents=True)
                accelerator.wait_for_everyone()
                accelerator.save_state(str(part))
                by_process = gather_object([asdict(progress)])
                accelerator.wait_for_everyone()
                if accelerator.is_main_process:
                    write_json(part / "progress.json", by_process)
                    write_json(part / SUMS, _sums(part))
                    self.run.sync()  # a state never is of a later epoch than the metrics
                    sync_all(part)
                    part.rename(state)
                    sync(state.parent)
                    self.run.remove_old_states()
        except BaseException:
            shutil.rmtree(part, ignore_errors=True)
            raise
        self.written = time.monotonic()
        if self._ending:
            raise_request(self._request.signal or signal.SIGTERM)

    def read(self) -> Progress:
        """Loads the newest undamaged state, if there is one.

        Raises:
            CheckpointError: no state is undamaged.
            ConfigError: another number of processes wrote it.
        """
        state = main_process_first(self.accelerator, self._newest_undamaged)
        if state is None:
            return Progress()
        try:
            by_process = parse_json(read_bytes(state / "progress.json", LARGEST_JSON))
            if len(by_process) != self.accelerator.num_processes:
                processes = f"{len(by_process)} process(es), resumed with {self.accelerator.num_processes}"
                raise ConfigError(f"{self.run.path}: was started with {processes}; resume with {len(by_process)}")
            self.accelerator.load_state(str(state))
            return Progress(**by_process[self.accelerator.process_index])
        except NeuromocoError:
            raise
        except Exception as error:  # of torch, pickle, safetensors or zip, by what is damaged or of another network
            problem = f"cannot be loaded ({type(error).__name__})"
            raise CheckpointError(f"{state}: {problem}; delete it to resume from the one before") from error

    def _newest_undamaged(self) -> Path | None:
        """The newest undamaged state, if there are states; removes damaged newer ones."""
        states = self.run.list_states()
        damaged: list[Path] = []
        for state in states:
            problem = _damage(state)
            if problem is None:
                for other in damaged:
                    remove(other)
                return state
            damaged.append(state)
            console.print(f"{escape(str(state))}: {problem}; trying the state before it", soft_wrap=True)
        if damaged:
            advice = f"delete {self.run.states} to train from the beginning"
            raise CheckpointError(f"{damaged[0]}: is damaged, and no state before it is whole; {advice}")
        return None


def _sums(state: Path) -> dict[str, tuple[int, str]]:
    """Length and SHA-256 of the files of a state, by their names in its folder."""
    sums = {}
    for file in sorted(path for path in state.rglob("*") if path.is_file() and path.name != SUMS):
        with file.open("rb") as content:
            sums[file.relative_to(state).as_posix()] = (file.stat().st_size, file_digest(content, "sha256").hexdigest())
    return sums


def _damage(state: Path) -> str | None:
    """What is wrong with a state, or None. Those of older versions have no sums."""
    if not (state / "progress.json").is_file():
        return "is damaged (progress.json is missing)"
    if not (state / SUMS).is_file():
        return None
    try:
        before, now = parse_json(read_bytes(state / SUMS, LARGEST_JSON)), _sums(state)
    except (OSError, ValueError):
        return "is damaged"
    if not isinstance(before, dict):
        return f"is damaged ({SUMS})"
    wrong = [name for name, sums in before.items() if list(now.get(name, ())) != sums]
    return f"is damaged ({wrong[0]})" if wrong else None
