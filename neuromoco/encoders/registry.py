"""Encoders by name.

To add one, write a function that returns an `Encoder` and register it:

    @register_encoder
    def my_encoder(neuron: NeuronConfig, *, width: int = 32) -> Encoder:
        '''One line that `neuromoco encoders` shows.'''

Its name is the function's, its options are the keyword arguments after `neuron`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from torch import Tensor, nn

from neuromoco.config import EncoderConfig
from neuromoco.errors import ConfigError
from neuromoco.snn.neurons import reset_state


class Encoder(nn.Module):
    """A spiking encoder.

    Attributes:
        feature_dim: D, width of a feature vector.
        smallest: the smallest H and W that it takes.
    """

    def __init__(self, body: nn.Module, feature_dim: int, smallest: int) -> None:
        super().__init__()
        self.body = body
        self.feature_dim = feature_dim
        self.smallest = smallest

    def forward(self, frames: Tensor) -> Tensor:
        """Features of frames, every neuron starting from rest.

        Args:
            frames: event counts, float [T, N, P, H, W].

        Returns:
            float [T, N, D].

        Raises:
            ConfigError: frames of another rank, another number of polarities, or too small.
        """
        if frames.ndim != 5 or frames.shape[2] != 2 or min(frames.shape[3:]) < self.smallest:
            raise ConfigError(
                f"frames of shape {tuple(frames.shape)}; this encoder takes [T, N, 2, H, W] "
                f"with H and W of at least {self.smallest}"
            )
        reset_state(self.body)
        features: Tensor = self.body(frames)
        return features


Builder = TypeVar("Builder", bound=Callable[..., Encoder])
LARGEST_OPTION = 1 << 16
_BUILDERS: dict[str, Callable[..., Encoder]] = {}


def register_encoder(builder: Builder) -> Builder:
    """Makes an encoder known by its function's name.

    Raises:
        ConfigError: the name is taken.
    """
    name = builder.__name__
    if name in _BUILDERS:
        raise ConfigError(f"an encoder named {name} is registered already")
    _BUILDERS[name] = builder
    return builder


def list_encoders() -> dict[str, str]:
    """Every encoder's name and what it is, in one line."""
    return {name: (inspect.getdoc(b) or "").partition("\n")[0] for name, b in sorted(_BUILDERS.items())}


def describe_encoders() -> list[dict[str, Any]]:
    """Name, parameters, feature width, options with their defaults, and one line, of every encoder."""
    rows = []
    for name, what in list_encoders().items():
        parameters = inspect.signature(_BUILDERS[name]).parameters
        options = {key: value.default for key, value in parameters.items() if key != "neuron"}
        encoder = build_encoder(EncoderConfig(name=name))
        size = sum(parameter.numel() for parameter in encoder.parameters())
        rows.append(
            {
                "name": name,
                "parameters": size,
                "features": encoder.feature_dim,
                "options": options,
                "what": what,
            }
        )
    return rows


def build_encoder(config: EncoderConfig) -> Encoder:
    """A new encoder with fresh weights.

    Raises:
        ConfigError: an unknown name, an unknown option, or an option's value that is not allowed.
    """
    builder = _BUILDERS.get(config.name)
    if builder is None:
        raise ConfigError(f"no encoder named {config.name!r}; known are {', '.join(list_encoders())}")
    known = [name for name in inspect.signature(builder).parameters if name != "neuron"]
    unknown = sorted(set(config.options) - set(known))
    if unknown:
        raise ConfigError(f"{config.name} has no option {unknown[0]!r}; it has {', '.join(known)}")
    for name, value in config.options.items():
        _check_option(config.name, name, value, inspect.signature(builder).parameters[name].default)
    return builder(config.neuron, **config.options)


def _check_option(encoder: str, name: str, value: Any, default: Any) -> None:
    """An option is of its default's kind; numbers are above 0. What texts are allowed, the encoder says."""
    number = isinstance(default, int | float)
    kind: Any = (int, float) if isinstance(default, float) else type(default)
    allowed = isinstance(value, kind) and not isinstance(value, bool)
    if not allowed or (number and not 0 < value < LARGEST_OPTION):
        what = f"a {'whole ' if kind is int else ''}number above 0" if number else "a name"
        raise ConfigError(f"{encoder}: option {name}={value!r}; it is {what}, for example {default}")
