"""Optional parts of the package (extras), and the packages that they need."""

from __future__ import annotations

from importlib.util import find_spec

from neuromoco.errors import MissingExtraError

PACKAGES = {
    "train": (
        "torch",
        "torchvision",
        "spikingjelly",
        "accelerate",
        "scipy",
        "sklearn",
        "matplotlib",
        "PIL",
        "threadpoolctl",
    ),
    "export": ("torch", "spikingjelly", "onnx", "onnx_ir"),
    "loihi": ("h5py",),
    "nir": ("nir",),
    "serve": ("fastapi", "uvicorn", "python_multipart", "prometheus_client", "starlette"),
    "app": ("gradio", "markdown_it", "matplotlib", "PIL"),
    "datasets": ("tonic",),
    "league": ("lightly",),
    "hub": ("huggingface_hub",),
}


def is_installed(extra: str) -> bool:
    """Whether every package of an extra can be imported."""
    return all(find_spec(name) for name in PACKAGES[extra])


def need(extra: str, what: str = "this command") -> None:
    """Raises MissingExtraError unless the packages of an extra are installed; `what` needs them, for the message."""
    if not is_installed(extra):
        raise MissingExtraError(what, extra)
