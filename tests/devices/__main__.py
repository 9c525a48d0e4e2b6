"""Steps of every stage on a pretended accelerator: tensors without values that refuse to mix with those of the CPU.

    python -m tests.devices

Nothing is computed, and nothing that needs a value can run: whatever reads one within a step, as `item()` does, makes a
GPU wait, and is an error here. One reading is allowed, of the metrics that are logged. A process of its own, since a
pretended device cannot be taken back. Prints a JSON object: what each case raised, "" for nothing; and what was raised
of mistakes that were planted.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils import backend_registration

from neuromoco.config import RunConfig
from neuromoco.datasets import read_recordings
from neuromoco.events import write_atis
from neuromoco.snn.neurons import evaluation_mode
from neuromoco.train.loop import _Loop
from neuromoco.train.processes import build_accelerator
from neuromoco.train.run_folder import RunFolder
from neuromoco.train.stages import _begun_task
from neuromoco.train.task import Task, build_optimizer
from tests.conftest import make_recording
from tests.helpers.small_runs import small_settings

DEVICE = "pretended"
ENCODERS = ("chain_tiny", "sew_resnet_tiny", "spikformer_tiny")  # the larger ones are made of the same parts
METHODS = ("simclr", "byol", "vicreg")
BATCH_NORMS = ("plain", "shuffled", "sync")
Plant = Callable[[Task], Any]


class _Device(backend_registration._DummyBackendModule):
    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16, torch.float16]


def move(network: nn.Module) -> None:
    """Puts tensors without values on the device in the place of parameters and buffers."""
    for part in network.modules():
        for name, value in part._parameters.items():
            if value is not None:
                part._parameters[name] = nn.Parameter(torch.empty_like(value, device=DEVICE), value.requires_grad)
        for name, buffer in part._buffers.items():
            if buffer is not None:
                part._buffers[name] = torch.empty_like(buffer, device=DEVICE)


@contextmanager
def one_reading() -> Iterator[list[int]]:
    """Lets `tolist` give zeros, and counts its calls."""
    read: list[int] = []

    def counted(self: Tensor) -> Any:
        read.append(self.numel())
        return [0.0] * self.numel()

    with patch.object(FakeTensor, "tolist", counted):
        yield read


def run_step(task: Task, plant: Plant | None = None) -> None:
    """One optimizer step of the training loop, and what follows it, with its batch on the device."""
    loop = object.__new__(_Loop)
    loop.task, loop.accelerator, loop.model = task, task.accelerator, task.model
    batch = next(iter(task.loader))
    with FakeTensorMode(allow_non_fake_inputs=True), one_reading() as read:
        move(task.model)
        loop.optimizer = build_optimizer(  # type: ignore[assignment]
            [{"params": [one for one in task.model.parameters() if one.requires_grad], "peak": 0.01}], task.schedule
        )
        if plant is not None:
            plant(task)
        loop._step([tuple(torch.empty_like(part, device=DEVICE) for part in batch)], 0)
        task.after_step(0.5)
    if len(read) != 1:
        raise AssertionError(f"{len(read)} readings of values in a step; the metrics are read at once")


def evaluate(task: Task) -> None:
    """A classifier's or an encoder's pass without gradients."""
    batch = next(iter(task.loader))[0]
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        network = task.network()
        move(network)
        with evaluation_mode(network):
            network(torch.empty_like(batch, device=DEVICE))


def cases(data: Path) -> Iterator[tuple[str, RunConfig, Callable[[Task], None]]]:
    """Each kind of encoder in every stage; each way of batch norm, rivals, half precision, and what a setting adds."""
    small: dict[str, Any] = {"frames": {"steps": 2, "height": 32, "width": 32}, "encoder.options": {}}
    for name in ENCODERS:
        own = small | {"encoder.name": name}
        for stage in ("pretrain", "supervised"):
            yield f"{stage} {name}", small_settings(data, stage, 4, own), run_step
        yield f"evaluation {name}", small_settings(data, "supervised", 4, own), evaluate
    for norm in BATCH_NORMS:
        own = {"pretrain.moco.batch_norm": norm, "pretrain.moco.head": "batch_norm"}
        yield f"batch norm {norm}", small_settings(data, "pretrain", 4, own), run_step
    for method in METHODS:
        yield method, small_settings(data, "pretrain", 4, {"pretrain.method": method}), run_step
    for stage in ("pretrain", "supervised"):
        yield f"bf16 {stage}", small_settings(data, stage, 4, {"compute.precision": "bf16"}), run_step
    yield "mixup", small_settings(data, "supervised", 4, {"supervised.mixup": 0.5}), run_step


def planted() -> dict[str, Plant]:
    """Mistakes that a GPU would not forgive, or would wait for."""

    def queue_on_the_cpu(task: Task) -> None:
        task.model._buffers["queue"] = torch.empty_like(task.model._buffers["queue"], device="cpu")  # type: ignore[arg-type]

    def statistics_on_the_cpu(task: Task) -> None:
        norm = next(part for part in task.model.modules() if part._buffers.get("running_mean") is not None)
        norm._buffers["running_mean"] = torch.zeros(len(norm._buffers["running_mean"]))  # type: ignore[arg-type]

    def weight_on_the_cpu(task: Task) -> None:
        layer = next(part for part in task.model.modules() if isinstance(part, nn.Linear))
        layer.weight = nn.Parameter(torch.zeros(layer.weight.shape))

    def loss_on_the_cpu(task: Task) -> None:
        losses = task.losses
        task.losses = (
            lambda *given: {  # type: ignore[method-assign]
                name: value + torch.zeros(1).mean() * torch.ones(3)[:1] if name == "loss" else value
                for name, value in losses(*given).items()
            }
        )

    def value_read(task: Task) -> None:
        losses = task.losses

        def read(*given: Any) -> dict[str, Tensor]:
            found = losses(*given)
            found["loss"].item()
            return found

        task.losses = read  # type: ignore[method-assign]

    return {one.__name__: one for one in (
        queue_on_the_cpu, statistics_on_the_cpu, weight_on_the_cpu, loss_on_the_cpu, value_read
    )}  # fmt: skip


def outcome(work: Callable[[], None]) -> str:
    """What some work raises, in a line; "" if nothing."""
    try:
        work()
    except Exception as error:
        return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    return ""


def main() -> None:
    """Runs all cases, and those with a mistake planted."""
    backend_registration._setup_privateuseone_for_python_backend(DEVICE, _Device())
    found: dict[str, dict[str, str]] = {"right": {}, "planted": {}}
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        for label in range(2):
            for number in range(4):
                (data / f"class{label}").mkdir(parents=True, exist_ok=True)
                write_atis(data / f"class{label}/{number}.bin", make_recording(10 * label + number, label=label))

        def task_of(config: RunConfig, name: str) -> Task:
            run = RunFolder(Path(folder) / name.replace(" ", "-"))
            run.path.mkdir()
            accelerator = build_accelerator("cpu", config.seed, config.compute)
            return _begun_task(run, config, accelerator, read_recordings)

        for name, config, work in cases(data):
            found["right"][name] = outcome(lambda name=name, config=config, work=work: work(task_of(config, name)))
        config = small_settings(data, "pretrain", 4, {})
        for name, plant in planted().items():
            found["planted"][name] = outcome(lambda name=name, plant=plant: run_step(task_of(config, name), plant))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
