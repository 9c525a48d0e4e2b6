"""Checks of single settings."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any

from neuromoco.errors import ConfigError


def check_real(config: object, least: float, most: float, *names: str) -> None:
    """Refuses attributes that are no numbers between the two."""
    for name in names:
        check_one(name, getattr(config, name), least, most, Real)


def check_whole(config: object, least: int, most: int, *names: str) -> None:
    """Refuses attributes that are no whole numbers between the two."""
    for name in names:
        check_one(name, getattr(config, name), least, most, Integral)


def check_one(name: str, value: Any, least: float, most: float, kind: type[Any]) -> None:
    """Refuses a value of another kind, or outside the range."""
    # A boolean is a whole number to Python, and never meant as one here.
    allowed = isinstance(value, kind) and not isinstance(value, bool)
    if not allowed or not least <= value <= most:
        number = "whole number" if kind is Integral else "number"
        raise ConfigError(f"{name}={value!r}; it is a {number} between {least:,} and {most:,}")
