"""Recipes: complete named runs, one YAML file each in this folder."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from neuromoco.config import RunConfig, load_config
from neuromoco.errors import ConfigError

DEFAULT = "tiny"


def list_recipes() -> list[str]:
    """The names of the recipes that ship with the package, sorted.

    Examples:
        >>> from neuromoco.recipes import list_recipes
        >>> "demo" in list_recipes()
        True
    """
    return sorted(Path(entry.name).stem for entry in files(__name__).iterdir() if entry.name.endswith(".yaml"))


def load_recipe(name: str) -> RunConfig:
    """Loads the settings of a recipe, by its name or by the path of a YAML file.

    Args:
        name: one of `list_recipes()`, or a path that ends in .yaml or .yml.

    Raises:
        ConfigError: no such recipe or file, or settings that are not allowed.

    Examples:
        >>> from neuromoco.recipes import load_recipe
        >>> load_recipe("tiny").encoder.name
        'sew_resnet_tiny'
    """
    if name.endswith((".yaml", ".yml")):
        return load_config(name)
    if name not in list_recipes():
        raise ConfigError(f"no recipe named {name!r}; known are {', '.join(list_recipes())}, or give a .yaml file")
    return load_config(str(files(__name__) / f"{name}.yaml"))
