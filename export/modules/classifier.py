"""A torch module as a classifier of recordings, so that every target and option takes it as it takes a checkpoint."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from neuromoco.checkpoint import CheckpointHeader, SeenRecordings
from neuromoco.config import EncoderConfig, FrameConfig, RecordingsConfig
from neuromoco.config.frames import Crop
from neuromoco.datasets.prepare import recordings_of
from neuromoco.errors import ConfigError
from neuromoco.events import Recording
from neuromoco.export.check.accuracy_loss import parts_of
from neuromoco.export.exporter import ExportJob
from neuromoco.export.modules.export import Layout, Stepped, check_module
from neuromoco.frames import POLARITIES, batch_frames
from neuromoco.runtime.header import TargetName
from neuromoco.runtime.prediction import Floats
from neuromoco.snn.neurons import evaluation_mode, reset_state
from neuromoco.support.sampling import evenly_spaced
from neuromoco.support.untrusted import one_line
from neuromoco.train.environment import package_versions

MOST = 200  # recordings that the header summarises
STAGE = "module"  # in the header, of what this package did not train


class ModuleNetwork(nn.Module):
    """A module as a network of frames [T, N, P, H, W], whose layers have the module's own names in graphs."""

    def __init__(self, module: nn.Module, layout: Layout, stepwise: bool) -> None:
        super().__init__()
        self.encoder = nn.Module()  # whose body's name graphs leave out
        self.encoder.body = module
        self._forward = [Stepped(module, layout, stepwise)]  # not registered, as its layers are the module's

    def forward(self, frames: Tensor) -> Any:
        return self._forward[0](frames)


class ModuleClassifier:
    """A module and what it says of itself, as exporters take it; see `ExportedClassifier`.

    Attributes:
        header: what an export says of it.
        network: frames [T, N, P, H, W] to logits [T, N, classes], or their mean over time.
    """

    def __init__(self, header: CheckpointHeader, network: nn.Module) -> None:
        self.header, self.network = header, network

    def frames(self, recordings: Sequence[Recording]) -> Floats:
        """Frames [T, N, P, H, W] of N recordings."""
        return batch_frames(recordings, self.header.frames)

    @torch.inference_mode()
    def frame_logits(self, frames: Floats) -> Floats:
        """Logits [T, N, classes] of frames [T, N, P, H, W]."""
        logits: Floats = self.network(torch.from_numpy(frames)).numpy()
        return logits


@contextmanager
def module_job(
    module: nn.Module,
    example: Tensor,
    target: TargetName,
    class_names: Sequence[str] | None,
    *,
    steps: int | None = None,
    layout: Layout = "TN",
    slice_by: Literal["count", "time"] = "count",
    data: Path | str | None = None,
    recordings: Sequence[Recording] | None = None,
    reading: RecordingsConfig | None = None,
    crop: Crop = None,
) -> Iterator[ExportJob]:
    """The export of a module as a classifier of recordings; within, the module is in evaluation mode.

    Raises:
        ConfigError: no class names, or an example that is no frames of two polarities.
        EventFileError: a recording cannot be read.
    """
    frames = check_module(module, example, Path("-"), "onnx", steps, layout)
    if not class_names or not all(isinstance(name, str) for name in class_names):
        raise ConfigError(f"class names {one_line(repr(class_names))}; with recordings, name every class, in order")
    if frames.ndim != 5 or frames.shape[2] != POLARITIES:
        raise ConfigError(
            f"an example of {one_line(str(tuple(example.shape)))}; with recordings, a module takes frames "
            "[T, N, 2, H, W] of OFF and ON events"
        )
    with evaluation_mode(module), tempfile.TemporaryDirectory() as folder:
        # Its weights as a file, whose name and hash an export states as its source.
        source = Path(folder) / f"{type(module).__name__}.safetensors"
        save_file({name: tensor.detach().clone().contiguous() for name, tensor in module.state_dict().items()}, source)
        header = CheckpointHeader(
            kind="classifier",
            encoder=EncoderConfig(name=type(module).__name__),
            frames=FrameConfig(steps=len(frames), height=frames.shape[3], width=frames.shape[4], slice_by=slice_by),
            class_names=tuple(class_names),
            seen=_seen(recordings or (), frames),
            stage=STAGE,
            epoch=0,
            seed=0,
            versions=package_versions(),
        )
        network = ModuleNetwork(module, layout, steps is not None).eval()
        _check_classes(network, frames, len(class_names))
        data = None if data is None else Path(data)
        given: Any = (target, data, recordings, reading or RecordingsConfig(), crop)
        job = ExportJob(source, ModuleClassifier(header, network), *given)
        if data is not None:
            parts = evenly_spaced(parts_of(data, job)[1], MOST)
            known = _seen([recording for part in parts for recording in recordings_of(part)], frames)
            classifier = ModuleClassifier(header.model_copy(update={"seen": known}), network)
            job = ExportJob(source, classifier, *given)
        yield job


@torch.no_grad()
def _check_classes(network: nn.Module, frames: Tensor, classes: int) -> None:
    """Refuses results of another length than there are class names; a network that fails is named when traced."""
    found = None
    with suppress(Exception):  # of the user's code
        found = network(frames)
    reset_state(network)
    if isinstance(found, Tensor) and found.shape[-1:] != (classes,):
        raise ConfigError(f"{classes} class names for results {tuple(found.shape)}; name every class, in order")


def _seen(recordings: Sequence[Recording], frames: Tensor) -> SeenRecordings:
    """What recordings are like; without any, as many events as the frames of an example have."""
    if not recordings:
        events = [int(frames[:, n].sum()) for n in range(frames.shape[1])]
        return SeenRecordings(
            count=0, shortest_us=0, longest_us=0, fewest_events=max(1, min(events)), most_events=max(1, *events)
        )
    durations, events = [int(one.duration) for one in recordings], [len(one) for one in recordings]
    sensors = [(recording.height, recording.width) for recording in recordings]
    return SeenRecordings(
        count=len(recordings),
        shortest_us=min(durations),
        longest_us=max(durations),
        fewest_events=min(events),
        most_events=max(events),
        sensor=max(set(sensors), key=sensors.count),
    )
