"""The registry of encoders, by name.

To add an encoder, register a function that returns an `Encoder`:

    @register_encoder
    def my_encoder(neuron: NeuronConfig, *, width: int = 32) -> Encoder:
        '''The line that `neuromoco encoders` shows.'''

The encoder has the function's name, and its options are the keyword arguments after `neuron`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from torch import Tensor, nn

from neuromoco.config import EncoderConfig
from neuromoco.errors import ConfigError
from neuromoco.frames import POLARITIES
from neuromoco.snn.neurons import reset_state
from neuromoco.support.untrusted import one_line


class Encoder(nn.Module):
    """A spiking encoder: frames [T, N, P, H, W] -> one feature vector per time step, [T, N, D].

    Attributes:
        body: the network between frames and features.
        feature_dim: D, width of a feature vector.
        smallest: the smallest H and W that the encoder takes.
    """

    def __init__(self, body: nn.Module, feature_dim: int, smallest: int) -> None:
        super().__init__()
        self.body, self.feature_dim, self.smallest = body, feature_dim, smallest

    def forward(self, frames: Tensor) -> Tensor:
        """Computes features of frames; every neuron starts from rest.

        Args:
            frames: event counts, float [T, N, P, H, W].

        Returns:
            float [T, N, D].

        Raises:
            ConfigError: frames of another rank or number of polarities, or too small.
        """
        if frames.ndim != 5 or frames.shape[2] != POLARITIES or min(frames.shape[3:]) < self.smallest:
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
    """Registers a function `(neuron, *, options) -> Encoder` under its own name; a decorator.

    Raises:
        ConfigError: another encoder has that name.
    """
    name = builder.__name__
    if name in _BUILDERS:
        raise ConfigError(f"an encoder named {name} is registered already")
    _BUILDERS[name] = builder
    return builder


def list_encoders() -> dict[str, str]:
    """Name and one-line description of every registered encoder.

    Examples:
        >>> from neuromoco.encoders import list_encoders
        >>> sorted(list_encoders())
        ['chain_tiny', 'sew_resnet18', 'sew_resnet_tiny', 'spikformer_2_256', 'spikformer_tiny']
    """
    return {name: (inspect.getdoc(b) or "").partition("\n")[0] for name, b in sorted(_BUILDERS.items())}


def describe_encoders() -> list[dict[str, Any]]:
    """What `neuromoco encoders` shows of each: name, parameters, features (D), options with defaults, and `what`."""
    rows = []
    for name, what in list_encoders().items():
        encoder = build_encoder(EncoderConfig(name=name))
        facts = {"parameters": sum(p.numel() for p in encoder.parameters()), "features": encoder.feature_dim}
        options = {option: parameter.default for option, parameter in _options(_BUILDERS[name]).items()}
        rows.append({"name": name, **facts, "options": options, "what": what})
    return rows


def build_encoder(config: EncoderConfig) -> Encoder:
    """Builds an encoder with fresh weights, drawn from torch's global generator.

    Raises:
        ConfigError: an unknown encoder, an unknown option, or a value that the option does not allow.
    """
    builder = _BUILDERS.get(config.name)
    if builder is None:
        raise ConfigError(f"no encoder named {one_line(repr(config.name))}; known are {', '.join(list_encoders())}")
    known = _options(builder)
    for name, value in config.options.items():
        if name not in known:
            raise ConfigError(f"{config.name} has no option {one_line(repr(name))}; it has {', '.join(known)}")
        _check_option(config.name, name, value, known[name].default)
    return builder(config.neuron, **config.options)


def _options(builder: Callable[..., Encoder]) -> dict[str, inspect.Parameter]:
    return {name: option for name, option in inspect.signature(builder).parameters.items() if name != "neuron"}


def _check_option(encoder: str, name: str, value: Any, default: Any) -> None:
    """An option has the type of its default, and numbers are above 0. The encoder itself checks names."""
    number = isinstance(default, int | float)
    kind: Any = (int, float) if isinstance(default, float) else type(default)
    allowed = isinstance(value, kind) and not isinstance(value, bool)
    if not allowed or (number and not 0 < value < LARGEST_OPTION):
        what = f"a {'whole ' if kind is int else ''}number above 0" if number else "a name"
        raise ConfigError(f"{encoder}: option {name}={one_line(repr(value))}; it is {what}, for example {default}")
