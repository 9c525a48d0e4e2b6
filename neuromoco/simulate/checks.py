"""Checks of single settings."""

from __future__ import annotations

from numbers import Integral
from typing import Any

from neuromoco.errors import ConfigError


def check_attributes(config: object, kind: type[Any], least: float, most: float, *names: str) -> None:
    """Raises a ConfigError unless the named attributes are numbers of a kind (Real, Integral) within a range."""
    check_values({name: getattr(config, name) for name in names}, kind, least, most)


def check_values(values: dict[str, Any], kind: type[Any], least: float, most: float) -> None:
    """Raises a ConfigError unless the values, by name, are numbers of a kind (Real, Integral) within a range."""
    for name, value in values.items():
        # To Python a boolean is an integer, but it is never meant as one here.
        if not isinstance(value, kind) or isinstance(value, bool) or not least <= value <= most:
            number = "whole number" if kind is Integral else "number"
            raise ConfigError(f"{name}={value!r}; it is a {number} between {least:,} and {most:,}")
