"""One process or several: what they share is Accelerate's; how they divide a batch and agree on mistakes is here."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import TypeVar

from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import DataLoaderConfiguration, InitProcessGroupKwargs, gather_object

from neuromoco.config import ComputeConfig
from neuromoco.errors import ConfigError, NeuromocoError
from neuromoco.support.console import console
from neuromoco.support.device import pick_device

# The others wait while the first process reads recordings.
PATIENCE = timedelta(hours=6)

Found = TypeVar("Found")


def build_accelerator(device: str, seed: int, compute: ComputeConfig) -> Accelerator:
    """Device, processes, precision and order of the batches of a run.

    Raises:
        ConfigError: an unknown device, one that this machine does not have, or fp16 without CUDA.
    """
    cpu = pick_device(device).type == "cpu"
    if cpu and compute.precision == "fp16":
        raise ConfigError("compute.precision=fp16 needs CUDA; on the CPU give bf16 or off")
    # A program may train several times, each run with its own precision.
    AcceleratorState._reset_state()
    accelerator = Accelerator(
        cpu=cpu,
        mixed_precision="no" if compute.precision == "off" else compute.precision,
        # A batch is that of all processes together.
        dataloader_config=DataLoaderConfiguration(split_batches=True, use_seedable_sampler=True, data_seed=seed),
        kwargs_handlers=[InitProcessGroupKwargs(timeout=PATIENCE)],
    )
    console.quiet = console.quiet or not accelerator.is_main_process  # one voice is enough
    return accelerator


def in_turn(accelerator: Accelerator, work: Callable[[], Found]) -> Found:
    """Does some work in the main process, which fills the caches, and then in the others.

    Whatever goes wrong in one process is raised in all of them, so that none waits for one that is gone.
    """
    found: list[Found] = []
    own: Exception | None = None
    for turn in (True, False):
        if accelerator.is_main_process == turn:
            try:
                found.append(work())
            except Exception as error:
                own = error
        accelerator.wait_for_everyone()
    mistakes = gather_object([None if own is None else str(own)])
    if own is not None:
        raise own
    for mistake in filter(None, mistakes):
        raise NeuromocoError(mistake)
    return found[0]


def divide_batch(setting: str, batch_size: int, accumulate: int, processes: int, groups: int = 1) -> int:
    """Recordings of a pass through the network, in all processes together.

    Args:
        setting: the stage's part of the settings, for the message.
        batch_size: recordings an optimizer step.
        accumulate: passes a step.
        processes: how many.
        groups: of batch norm, in all processes together.

    Raises:
        ConfigError: they do not divide the batch.
    """
    parts = accumulate * max(groups, processes)
    if batch_size % parts:
        by = [f"{processes} processes"] * (processes > 1) + [f"{accumulate} passes"] * (accumulate > 1)
        by += [f"{groups} groups of batch norm"] * (groups > 1)
        raise ConfigError(
            f"a batch of {batch_size} recordings does not divide among {' and '.join(by)}; give a multiple of "
            f"{parts}: --set {setting}.batch_size={parts * max(1, round(batch_size / parts))}"
        )
    return batch_size // accumulate
