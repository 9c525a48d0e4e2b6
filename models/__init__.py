"""Trained classifiers and pre-trained encoders that ship with the package, each with its card, and recordings.

A classifier is a set of files with one name: `NAME.safetensors` (the checkpoint), `NAME.onnx` (time unrolled, takes
frames), `NAME.loihi` (a folder for the integer twin), `NAME.md` (the card). `python -m benchmarks.shipped_model`
writes all of them. An encoder is `NAME.safetensors` and `NAME.md`, which `python -m benchmarks.shipped_encoder` writes.
"""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parent
DEFAULT = "sew_resnet_tiny-digits"
SUFFIXES = {"onnx": ".onnx", "loihi-sim": ".loihi", "torch": ".safetensors"}  # by backend


def available_models() -> list[str]:
    """Names of the classifiers."""
    return sorted(path.stem for path in FOLDER.glob("*.onnx"))


def available_encoders() -> list[str]:
    """Names of the encoders, to train from."""
    return sorted({path.stem for path in FOLDER.glob("*.safetensors")} - set(available_models()))


def model_path(name: str = DEFAULT, suffix: str = ".onnx") -> Path:
    """The path of one file of a model, whether or not the file exists."""
    return FOLDER / f"{name}{suffix}"


def example_paths() -> list[Path]:
    """Recordings of the simulated camera, one of each digit, which no model was trained on; file names are digits."""
    return sorted((FOLDER / "examples").glob("*.bin"))
