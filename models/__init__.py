"""Trained classifiers that ship with the package, each with its card, and recordings to try them on.

A model is a set of files with one name: `NAME.safetensors` (the checkpoint), `NAME.onnx` (time unrolled, takes
frames), `NAME.loihi` (a folder for the integer twin), `NAME.md` (the card). `python -m benchmarks.shipped_model`
writes all of them.
"""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parent
DEFAULT = "sew_resnet_tiny-digits"
SUFFIXES = {"onnx": ".onnx", "loihi-sim": ".loihi", "torch": ".safetensors"}  # by backend


def available_models() -> list[str]:
    """Names of the models."""
    return sorted(path.stem for path in FOLDER.glob("*.onnx"))


def model_path(name: str = DEFAULT, suffix: str = ".onnx") -> Path:
    """The path of one file of a model, whether or not the file exists."""
    return FOLDER / f"{name}{suffix}"


def example_paths() -> list[Path]:
    """Recordings of the simulated camera, one of each digit, which no model was trained on; file names are digits."""
    return sorted((FOLDER / "examples").glob("*.bin"))
