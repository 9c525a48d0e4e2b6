"""neuromoco: unlabelled event-camera recordings in, a small spiking classifier out.

Everything a user needs is here, and is loaded when it is first used: `import neuromoco` loads no torch. Reading
recordings, frames and classification with an exported file need the base install alone; `train`, `export` and
`list_encoders` need the extras "train" and "export". Where these are not installed, `dir(neuromoco)` omits the names,
and using one raises `MissingExtraError`, which says what to install.

Examples:
    >>> import neuromoco
    >>> classifier = neuromoco.load_classifier("models/sew_resnet_tiny-digits.onnx")
    >>> recording = neuromoco.read_recording("models/examples/3.bin")
    >>> classifier.predict([recording])[0].label
    '3'
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from neuromoco.errors import (
    CheckpointError,
    ConfigError,
    EventFileError,
    MissingExtraError,
    MissingPackageError,
    NeuromocoError,
    ParityError,
    UnsupportedLayerError,
)
from neuromoco.support.extras import is_installed, need

if TYPE_CHECKING:
    from neuromoco.encoders import list_encoders
    from neuromoco.events import Recording, read_recording
    from neuromoco.export.targets import export
    from neuromoco.frames import to_frames
    from neuromoco.recipes import load_recipe
    from neuromoco.runtime.load import load_classifier
    from neuromoco.runtime.prediction import Prediction
    from neuromoco.runtime.stream import StreamClassifier
    from neuromoco.train.stages import train

__version__ = version("neuromoco")

__all__ = [
    "CheckpointError",
    "ConfigError",
    "EventFileError",
    "MissingExtraError",
    "MissingPackageError",
    "NeuromocoError",
    "ParityError",
    "Prediction",
    "Recording",
    "StreamClassifier",
    "UnsupportedLayerError",
    "__version__",
    "export",
    "list_encoders",
    "load_classifier",
    "load_recipe",
    "read_recording",
    "to_frames",
    "train",
]

# Where each lazy name is defined, and the extra that it needs. `train` and `export` are packages that can be called.
_LAZY = {
    "Prediction": ("neuromoco.runtime.prediction", None),
    "Recording": ("neuromoco.events", None),
    "StreamClassifier": ("neuromoco.runtime.stream", None),
    "export": ("neuromoco", "export"),
    "list_encoders": ("neuromoco.encoders", "train"),
    "load_classifier": ("neuromoco.runtime.load", None),
    "load_recipe": ("neuromoco.recipes", None),
    "read_recording": ("neuromoco.events", None),
    "to_frames": ("neuromoco.frames", None),
    "train": ("neuromoco", "train"),
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home, extra = _LAZY[name]
    if extra:
        need(extra, f"neuromoco.{name}")
    value = import_module(f"{home}.{name}") if home == __name__ else getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """The public names that can be used here: without torch, those that need none."""
    return [name for name in __all__ if (extra := _LAZY.get(name, ("", None))[1]) is None or is_installed(extra)]
