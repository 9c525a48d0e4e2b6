"""The device that tensors are on."""

from __future__ import annotations

import torch

from neuromoco.errors import ConfigError

DEVICES = ("auto", "cpu", "cuda")


def pick_device(name: str) -> torch.device:
    """The torch device for "auto" (CUDA where available), "cpu" or "cuda".

    Raises:
        ConfigError: an unknown name, or "cuda" where torch finds no CUDA device.
    """
    if name not in DEVICES:
        raise ConfigError(f"--device {name}; allowed are {', '.join(DEVICES)}")
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("--device cuda: torch finds no CUDA device here; give --device cpu")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")
