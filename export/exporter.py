"""What the exporters of all targets share: the job, the steps of an export, its header."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from torch import nn

from neuromoco.checkpoint import CheckpointHeader
from neuromoco.config import RecordingsConfig
from neuromoco.config.frames import Crop
from neuromoco.errors import ConfigError
from neuromoco.events import Recording
from neuromoco.graph.nodes import Graph
from neuromoco.runtime.header import ExportHeader, TargetName
from neuromoco.runtime.prediction import Floats
from neuromoco.support.files import write_json
from neuromoco.train.environment import package_versions
from neuromoco.unsupported import Unsupported


class ExportedClassifier(Protocol):
    """A classifier as exporters take it: a trained one, or a torch module with what it says of itself."""

    @property
    def header(self) -> CheckpointHeader:
        """What an export says of it."""

    @property
    def network(self) -> nn.Module:
        """Frames [T, N, P, H, W] to logits [T, N, classes], or their mean over time."""

    def frames(self, recordings: Sequence[Recording]) -> Floats:
        """Frames [T, N, P, H, W] of N recordings."""


@dataclass(frozen=True)
class ExportJob:
    """A checkpoint on its way to a target."""

    source: Path
    classifier: ExportedClassifier
    target: TargetName
    data: Path | None = None  # file or folder of recordings to calibrate and compare on
    recordings: Sequence[Recording] | None = None  # to compare on instead of those in `data`
    reading: RecordingsConfig = field(default_factory=RecordingsConfig)  # how those in `data` are read
    crop: Crop = None  # the part of their sensor that is used instead of the network's

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the frames."""
        return self.classifier.header.frames.height, self.classifier.header.frames.width

    @property
    def examples(self) -> list[Floats]:
        """Frames [T, 1, P, H, W] of two of the recordings given, on which the graph is compared with the network."""
        return [self.classifier.frames([recording]) for recording in (self.recordings or ())[:2]]

    @cached_property
    def header(self) -> ExportHeader:
        """What an export says about itself, of frames in float32."""
        return export_header(self.classifier, self.source, self.target)


class Exporter(ABC):
    """How a target writes and compares one checkpoint; each target has a class of these.

    Attributes:
        suffix: of the target's files.
        job: the checkpoint, and recordings to compare on.
    """

    suffix = ""

    def __init__(self, job: ExportJob) -> None:
        self.job = job

    def check_place(self, out: Path) -> None:
        """Checks that the export may be written to `out`.

        Raises:
            ConfigError: `out` is something else that must not be replaced.
        """
        if out.is_dir() or out.resolve() == self.job.source.resolve():
            problem = "a folder" if out.is_dir() else "the checkpoint itself"
            raise ConfigError(f"{out}: is {problem}; --out names a new {self.suffix} file")

    def find_unsupported(self, graph: Graph) -> list[Unsupported]:
        """Layers of a traced network that the target cannot express."""
        return []

    @abstractmethod
    def write(self, graph: Graph, part: Path) -> dict[str, Any]:
        """Writes the export to `part`; returns facts for the report."""

    @abstractmethod
    def compare(self, graph: Graph, part: Path) -> tuple[dict[str, Any], str | None]:
        """Compares `part` with its source; returns figures for the report, and why it must not be kept or None."""

    def write_report(self, report: dict[str, Any], part: Path, out: Path) -> None:
        """Writes the report of an export that is kept."""
        write_json(report_path(out), report)

    @staticmethod
    @abstractmethod
    def summary(out: Path, report: dict[str, Any]) -> list[str]:
        """The report in a few lines for the terminal."""


def export_header(classifier: ExportedClassifier, source: Path, target: TargetName, **changes: Any) -> ExportHeader:
    """What an export says about itself: everything that its source says, versions, and where it comes from."""
    facts = classifier.header.model_dump() | {
        "versions": package_versions(),
        "target": target,
        "source": source.name,
        "source_sha256": hashlib.sha256(source.read_bytes()).hexdigest(),
    }
    return ExportHeader.model_validate(facts | changes)


def report_path(out: Path) -> Path:
    """Where the report of a file is."""
    return out.with_name(f"{out.stem if out.suffix == '.onnx' else out.name}.report.json")


def check_replaceable(path: Path, names: Collection[str], sign: str, target: str) -> None:
    """Refuses a folder to write that holds anything but an earlier export: these `names`, `sign` among them."""
    if not path.exists():
        return
    if not path.is_dir():
        raise ConfigError(f"{path}: is a file; --out names a folder to make")
    others = sorted(entry.name for entry in path.iterdir() if entry.name not in names)
    if others or not (path / sign).is_file():
        problem = f"holds {others[0]}" if others else f"is empty, or no {target} export"
        raise ConfigError(f"{path}: {problem}; only an earlier export is replaced: give another --out")
