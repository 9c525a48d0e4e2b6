"""Reads settings from YAML and from the command line, and writes them as YAML."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import ValidationError

from neuromoco.config.base import Settings
from neuromoco.config.frames import FrameConfig
from neuromoco.config.plain_yaml import DEEPEST, LONGEST, parse_yaml
from neuromoco.config.tree import RunConfig
from neuromoco.errors import ConfigError
from neuromoco.support.untrusted import one_line, read_bytes

SettingsType = TypeVar("SettingsType", bound=Settings)
# pydantic's names of types -> plain ones
PLAIN = {
    "tuple": "a list",
    "dictionary": "names with values",
    "integer": "a whole number",
    "number": "a number",
    "string": "text",
    "boolean": "true or false",
}


def parse_settings(kind: type[SettingsType], tree: Any, source: str) -> SettingsType:
    """Builds settings from plain data.

    Args:
        kind: class of the settings, such as `RunConfig`.
        tree: names with values, nested.
        source: where the data comes from; begins every error message.

    Raises:
        ConfigError: an unknown name, a wrong type or a value out of range.
    """
    if not isinstance(tree, Mapping):
        raise ConfigError(f"{source}: settings are names with values, not {type(tree).__name__}")
    try:
        return kind.model_validate(tree)
    except ValidationError as error:
        raise ConfigError(f"{source}: {_first_mistake(kind, error)}") from None


def _first_mistake(kind: type[Settings], error: ValidationError) -> str:
    """The first mistake in one line, with every type of value that the setting takes."""
    errors = error.errors()
    first = errors[0]
    if first["type"] == "value_error":  # from a validator of the whole group
        return one_line(first["ctx"]["error"])
    where = _place(first["loc"])
    if first["type"] == "extra_forbidden":
        return f"{one_line(where)}: no such name{_known_names(kind, first['loc'][:-1])}"
    if first["type"] == "missing":
        return f"{where}: is missing"
    allowed = dict.fromkeys(_in_plain_words(e["msg"]) for e in errors if _place(e["loc"]) == where)
    return f"{one_line(where)}: should be {' or '.join(allowed)}, given {_shown(first['input'])}"


def _shown(value: Any) -> str:
    try:
        return one_line(repr(value))
    except ValueError:  # more digits than Python prints
        return "a number of thousands of digits"


def _place(parts: tuple[int | str, ...]) -> str:
    """A name such as `pretrain.epochs`, without the parts in which pydantic names one type of several."""
    return ".".join(str(part) for part in parts if not re.search(r"^constrained-|^int$|\[", str(part)))


def _in_plain_words(message: str) -> str:
    """pydantic's message with YAML's names of types instead of Python's."""
    message = message.removeprefix("Input should be ").replace("Keys should be strings", "a name of text")
    message = re.sub(r", (unable to|got a number with) .*| or instance of .*", "", message)
    return re.sub("a valid (tuple|dictionary|integer|number|string|boolean)", lambda m: PLAIN[m[1]], message)


def load_config(path: Path | str) -> RunConfig:
    """Reads the settings of a run from a YAML file.

    Raises:
        ConfigError: the file is missing, or does not contain the settings of a run.
    """
    return load_settings(RunConfig, path)


def load_settings(kind: type[SettingsType], path: Path | str) -> SettingsType:
    """Reads settings of a class such as `RunConfig` from a YAML file.

    Raises:
        ConfigError: the file is missing, or does not contain such settings.
    """
    try:
        raw = read_bytes(path, LONGEST)
    except ValueError as error:
        raise ConfigError(f"{path}: cannot be read ({error})") from None
    try:
        tree = parse_yaml(raw.decode("utf-8")) or {}
    except ValueError as error:
        raise ConfigError(f"{path}: is not YAML of settings ({one_line(error)})") from None
    return parse_settings(kind, tree, str(path))


def dump_config(config: Settings) -> str:
    """Writes settings as YAML text, in the order in which they are declared; `load_settings` reads it."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)


def with_values(config: RunConfig, values: Mapping[str, Any], source: str = "settings") -> RunConfig:
    """Replaces settings by name, nested ones with dots.

    Args:
        config: the settings to start from; they do not change.
        values: new values by name.
        source: where the values come from; begins every error message.

    Raises:
        ConfigError: a name or a value that is not allowed.

    Examples:
        >>> from neuromoco.config import RunConfig, with_values
        >>> with_values(RunConfig(), {"seed": 1, "pretrain.moco.queue_size": 512}).pretrain.moco.queue_size
        512
    """
    tree = config.model_dump()
    for name, value in values.items():
        *groups, leaf = name.split(".")
        if len(groups) > DEEPEST:
            raise ConfigError(f"{source}: {one_line(name)}: no such name")
        node = tree
        for group in groups:
            if not isinstance(node.get(group), dict):
                node[group] = {}
            node = node[group]
        node[leaf] = value
    return parse_settings(RunConfig, tree, source)


def frames_with(frames: FrameConfig, changes: Mapping[str, Any]) -> FrameConfig:
    """Frames with changes by name, such as `frames.steps`.

    Raises:
        ConfigError: a name that is none of the frames, or a value that is not allowed.
    """
    if others := [name for name in changes if name.partition(".")[0] != "frames"]:
        raise ConfigError(f"--set {one_line(others[0])}: only frames can be changed here, such as frames.steps=8")
    return with_values(RunConfig(frames=frames), changes).frames


def parse_changes(changes: Iterable[str]) -> dict[str, Any]:
    """Parses changes of the form `name=value`, as `--set` takes them; values are YAML.

    Raises:
        ConfigError: a change of another form.

    Examples:
        >>> from neuromoco.config import parse_changes
        >>> parse_changes(["pretrain.optimizer.lr=3e-4", "stage=pretrain"])
        {'pretrain.optimizer.lr': 0.0003, 'stage': 'pretrain'}
    """
    values: dict[str, Any] = {}
    for change in changes:
        name, equals, text = change.partition("=")
        if not equals or not name.strip():
            raise ConfigError(f"--set {one_line(change)}: give a name and a value, for example --set seed=1")
        try:
            value = parse_yaml(text)
        except ValueError as error:
            raise ConfigError(f"--set {one_line(change)}: the value is not YAML ({one_line(error)})") from None
        values[name.strip()] = _number(text) if value == text.strip() else value
    return values


def _number(text: str) -> Any:
    # YAML 1.1 reads 1e-3 as text; people write it as a number.
    try:
        return number if math.isfinite(number := float(text)) else text.strip()
    except ValueError:
        return text.strip()


def _known_names(kind: type[Settings], groups: tuple[int | str, ...]) -> str:
    node: Any = kind
    for group in groups:
        field = getattr(node, "model_fields", {}).get(group)
        kinds = (field.annotation, *get_args(field.annotation)) if field else ()  # X, or X | None
        node = next((kind for kind in kinds if hasattr(kind, "model_fields")), None)
    names = getattr(node, "model_fields", {})
    return f"; known names: {', '.join(names)}" if names else ""
