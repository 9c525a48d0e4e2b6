"""States, from which a run resumes exactly where it stopped.

A state is a folder state/step-N: Accelerate's files (weights, key encoder, queue and pointer, optimizer, loss scale,
the random states of each process) and `progress.json`: epoch, optimizer steps done in it, and the metrics summed over
them. Order and views of the recordings follow from (seed, epoch, index), so the number of steps done is the sampler's
position.
"""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import asdict, dataclass, field

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object

from neuromoco.errors import ConfigError
from neuromoco.support.files import write_json
from neuromoco.train.run_folder import RunFolder


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
    """Writes and reads the states of one run, once the accelerator has prepared model, optimizer and loader."""

    def __init__(self, run: RunFolder, accelerator: Accelerator, minutes: float) -> None:
        self.run, self.accelerator, self.seconds = run, accelerator, 60.0 * minutes
        self.written = time.monotonic()

    def due(self, seconds: float | None = None) -> bool:
        """Whether the last state is older than `seconds`, by default the settings' time; equal in all processes."""
        late = float(time.monotonic() - self.written >= (self.seconds if seconds is None else seconds))
        flag = torch.tensor(late, device=self.accelerator.device)
        return bool(self.accelerator.reduce(flag, "sum") > 0)

    def write(self, progress: Progress, step: int) -> None:
        """Writes the state after `step` optimizer steps and removes earlier ones."""
        accelerator = self.accelerator
        state = self.run.states / f"step-{step:09d}"
        part = state.with_name(f".{state.name}.part")  # one name for all processes
        if accelerator.is_main_process:
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir(parents=True)
        accelerator.wait_for_everyone()
        accelerator.save_state(str(part))
        by_process = gather_object([asdict(progress)])
        accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            write_json(part / "progress.json", by_process)
            part.rename(state)
            self.run.remove_states_except(state)
        self.written = time.monotonic()

    def read(self) -> Progress:
        """Loads the newest state, if there is one; raises ConfigError if another number of processes wrote it."""
        state = self.run.latest_state()
        if state is None:
            return Progress()
        by_process = json.loads((state / "progress.json").read_text(encoding="utf-8"))
        if len(by_process) != self.accelerator.num_processes:
            processes = f"{len(by_process)} process(es), resumed with {self.accelerator.num_processes}"
            raise ConfigError(f"{self.run.path}: was started with {processes}; resume with {len(by_process)}")
        self.accelerator.load_state(str(state))
        return Progress(**by_process[self.accelerator.process_index])
