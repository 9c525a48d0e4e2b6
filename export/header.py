"""What the exporters of all targets share: the job, the header that every export carries, and where files lie."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from neuromoco.errors import ConfigError
from neuromoco.events import Recording
from neuromoco.runtime.checkpoint_file import TrainedClassifier
from neuromoco.runtime.header import ExportHeader, TargetName
from neuromoco.train.run_folder import package_versions


@dataclass(frozen=True)
class ExportJob:
    """A checkpoint on its way to a target.

    Attributes:
        source: the checkpoint.
        classifier: what it holds.
        target: name of the target.
        data: file or folder of recordings to calibrate and compare on, or None.
        recordings: to compare on instead of those in `data`, or None.
    """

    source: Path
    classifier: TrainedClassifier
    target: TargetName
    data: Path | None = None
    recordings: Sequence[Recording] | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the frames."""
        return self.classifier.header.frames.height, self.classifier.header.frames.width

    @cached_property
    def header(self) -> ExportHeader:
        """What an export says about itself, of frames in float32."""
        return export_header(self.classifier, self.source, self.target)


def export_header(classifier: TrainedClassifier, source: Path, target: TargetName, **changes: Any) -> ExportHeader:
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


def check_file_place(source: Path, out: Path, suffix: str) -> None:
    """Checks that a file may be written to `out`.

    Raises:
        ConfigError: `out` is a folder or the checkpoint.
    """
    if out.is_dir() or out.resolve() == source.resolve():
        problem = "a folder" if out.is_dir() else "the checkpoint itself"
        raise ConfigError(f"{out}: is {problem}; --out names a new {suffix} file")
