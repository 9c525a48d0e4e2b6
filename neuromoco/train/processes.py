"""One or several training processes, through Accelerate: setup, shared errors, division of a batch."""

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

TIMEOUT = timedelta(hours=6)  # the other processes wait while the first one reads recordings

Result = TypeVar("Result")


def build_accelerator(device: str, seed: int, compute: ComputeConfig) -> Accelerator:
    """Sets up device, processes, precision and order of the batches.

    Raises:
        ConfigError: an unknown or missing device, or fp16 without CUDA.
    """
    cpu = pick_device(device).type == "cpu"
    if cpu and compute.precision == "fp16":
        raise ConfigError("compute.precision=fp16 needs CUDA; on the CPU give bf16 or off")
    # A program may train several times with different precisions.
    AcceleratorState._reset_state()
    accelerator = Accelerator(
        cpu=cpu,
        mixed_precision="no" if compute.precision == "off" else compute.precision,
        # The batch size counts all processes together.
        dataloader_config=DataLoaderConfiguration(split_batches=True, use_seedable_sampler=True, data_seed=seed),
        kwargs_handlers=[InitProcessGroupKwargs(timeout=TIMEOUT)],
    )
    console.quiet = console.quiet or not accelerator.is_main_process  # only one process prints
    return accelerator


def main_process_first(accelerator: Accelerator, work: Callable[[], Result]) -> Result:
    """Does the work in the main process, which fills the caches, then in the others.

    An error in one process is raised in all, so that none waits for a process that has ended.
    """
    results: list[Result] = []
    local: Exception | None = None
    for turn in (True, False):
        if accelerator.is_main_process == turn:
            try:
                results.append(work())
            except Exception as error:
                local = error
        accelerator.wait_for_everyone()
    messages = gather_object([None if local is None else str(local)])
    if local is not None:
        raise local
    for message in filter(None, messages):
        raise NeuromocoError(message)
    return results[0]


def divide_batch(setting: str, batch_size: int, accumulate: int, processes: int, groups: int = 1) -> int:
    """Recordings per pass through the network, in all processes together; `groups` are those of batch norm.

    Raises:
        ConfigError: the batch is not divisible; the message names the stage's section, `setting`.
    """
    parts = accumulate * max(groups, processes)
    if batch_size % parts:
        by = [f"{processes} processes"] * (processes > 1) + [f"{accumulate} passes"] * (accumulate > 1)
        by += [f"{groups} groups of batch norm"] * (groups > 1)
        raise ConfigError(
            f"a batch of {batch_size} recordings cannot be divided among {' and '.join(by)}; give a multiple of "
            f"{parts}: --set {setting}.batch_size={parts * max(1, round(batch_size / parts))}"
        )
    return batch_size // accumulate
