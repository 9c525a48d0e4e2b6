"""Recipes: complete named runs, one YAML file each, beside this one."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from neuromoco.config import RunConfig, load_config
from neuromoco.errors import ConfigError

DEFAULT = "tiny"


def list_recipes() -> list[str]:
    """The names of the recipes that ship with the package."""
    return sorted(Path(entry.name).stem for entry in files(__name__).iterdir() if entry.name.endswith(".yaml"))


def load_recipe(name: str) -> RunConfig:
    """The settings of a recipe, by name or by the path of a YAML file.

    Raises:
        ConfigError: no such recipe or file, or settings that are not allowed.
    """
    if name.endswith((".yaml", ".yml")):
        return load_config(name)
    if name not in list_recipes():
        raise ConfigError(f"no recipe named {name!r}; known are {', '.join(list_recipes())}, or give a .yaml file")
    return load_config(str(files(__name__) / f"{name}.yaml"))
