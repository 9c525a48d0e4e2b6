"""Trained classifiers that come with the package, each with its card, and recordings to try them on.

A model is a set of files of one name: `NAME.safetensors` (the checkpoint), `NAME.onnx` (time unrolled, from
frames), `NAME.loihi` (a folder for the integer twin), `NAME.md` (the card). All are written by
`python -m benchmarks.shipped_model`.
"""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parent
DEFAULT = "sew_resnet_tiny-digits"


def available_models() -> list[str]:
    """Names of the models."""
    return sorted(path.stem for path in FOLDER.glob("*.onnx"))


def model_path(name: str = DEFAULT, suffix: str = ".onnx") -> Path:
    """A file of a model."""
    return FOLDER / f"{name}{suffix}"


def example_paths() -> list[Path]:
    """Recordings of the simulated camera, one of each digit, which no model has seen; the name says the digit."""
    return sorted((FOLDER / "examples").glob("*.bin"))
