"""What every export says of itself, and where its report stands."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from neuromoco.errors import ConfigError
from neuromoco.runtime.checkpoint_file import TrainedClassifier
from neuromoco.runtime.header import ExportHeader, Target
from neuromoco.train.run_folder import package_versions

RANDOM = 4  # recordings of noise in a comparison


@dataclass(frozen=True)
class OnnxOptions:
    """What is written.

    Attributes:
        target: "onnx" (all steps in one call) or "onnx-step" (one a call).
        input: "frames" or "events".
        rates: whether spike rates are an output.
        quantize: "int8", or None.
    """

    target: Target = "onnx"
    input: Literal["frames", "events"] = "frames"
    rates: bool = False
    quantize: Literal["int8"] | None = None

    @property
    def suffix(self) -> str:
        """What tells the files of one checkpoint apart."""
        parts = ("step" * (self.target == "onnx-step"), "events" * (self.input == "events"), self.quantize)
        return "".join(f"-{part}" for part in parts if part)

    def check(self, data: Path | None) -> None:
        """Refuses what does not go together.

        Raises:
            ConfigError: says what to leave out, or what is missing.
        """
        if self.quantize and data is None:
            raise ConfigError("--quantize int8 is calibrated on recordings of yours: give them with --data FOLDER")
        if self.target == "onnx-step" and (self.input == "events" or self.rates or self.quantize):
            raise ConfigError("--target onnx-step takes frames; leave --input events, --spike-rates and --quantize out")


def export_header(classifier: TrainedClassifier, source: Path, options: OnnxOptions) -> ExportHeader:
    """What the file says of itself."""
    facts = classifier.header.model_dump() | {
        "versions": package_versions(),
        "target": options.target,
        "input": options.input,
        "source": source.name,
        "source_sha256": hashlib.sha256(source.read_bytes()).hexdigest(),
    }
    return ExportHeader.model_validate(facts)


def report_path(out: Path) -> Path:
    """Where the report of a file stands."""
    return out.with_name(f"{out.stem if out.suffix == '.onnx' else out.name}.report.json")
