"""Settings out of YAML and of the words of a command line, and back."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from neuromoco.config.tree import RunConfig, Settings
from neuromoco.errors import ConfigError

AnySettings = TypeVar("AnySettings", bound=Settings)
# Kinds of values, as pydantic names them and as YAML's readers do.
PLAIN = {
    "tuple": "a list",
    "dictionary": "names with values",
    "integer": "a whole number",
    "number": "a number",
    "string": "text",
    "boolean": "true or false",
}


def parse_config(tree: Any, source: str) -> RunConfig:
    """Builds the tree of settings of a run from plain data; raises as `parse_settings`."""
    return parse_settings(RunConfig, tree, source)


def parse_settings(kind: type[AnySettings], tree: Any, source: str) -> AnySettings:
    """Builds settings from plain data.

    Raises:
        ConfigError: an unknown name, a wrong type or a value out of range; `source` begins the message.
    """
    if not isinstance(tree, Mapping):
        raise ConfigError(f"{source}: settings are names with values, not {type(tree).__name__}")
    try:
        return kind.model_validate(tree)
    except ValidationError as error:
        raise ConfigError(f"{source}: {_in_words(kind, error)}") from None


def _in_words(kind: type[Settings], error: ValidationError) -> str:
    """The first mistake in one line; what may stand there is told for every kind of value that may."""
    errors = error.errors()
    first = errors[0]
    if first["type"] == "value_error":  # of the tree as a whole
        return str(first["ctx"]["error"])
    where = _place(first["loc"])
    if first["type"] == "extra_forbidden":
        return f"{where}: no such name{_allowed(kind, first)}"
    if first["type"] == "missing":
        return f"{where}: is missing"
    wanted = dict.fromkeys(_wanted(e["msg"]) for e in errors if _place(e["loc"]) == where)
    return f"{where}: should be {' or '.join(wanted)}, given {first['input']!r}"


def _place(parts: tuple[int | str, ...]) -> str:
    """`pretrain.epochs`; without the parts by which pydantic tells apart the kinds of value of one setting."""
    return ".".join(str(part) for part in parts if not re.search(r"^constrained-|^int$|\[", str(part)))


def _wanted(message: str) -> str:
    """What a setting should be, in the words of YAML instead of Python's."""
    words = re.sub(
        r", (unable to|got a number with) .*| or instance of .*", "", message.removeprefix("Input should be ")
    )
    for theirs, ours in PLAIN.items():
        words = words.replace(f"a valid {theirs}", ours)
    return words


def load_config(path: Path | str) -> RunConfig:
    """Reads a run's settings from YAML; raises as `load_settings`."""
    return load_settings(RunConfig, path)


def load_settings(kind: type[AnySettings], path: Path | str) -> AnySettings:
    """Reads settings from YAML.

    Raises:
        ConfigError: the file is missing or does not hold such settings.
    """
    try:
        tree = yaml.safe_load(Path(path).read_text(encoding="utf-8")) or {}
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from None
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"{path}: is not YAML ({' '.join(str(error).split())})") from None
    return parse_settings(kind, tree, str(path))


def dump_config(config: Settings) -> str:
    """The settings as YAML, in the order in which they are declared."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)


def with_values(config: RunConfig, values: Mapping[str, Any], source: str = "settings") -> RunConfig:
    """The settings with leaves replaced: `{"pretrain.moco.queue_size": 512}`.

    Raises:
        ConfigError: a name or a value that is not allowed; `source` begins the message.
    """
    tree = config.model_dump()
    for name, value in values.items():
        *groups, leaf = name.split(".")
        node = tree
        for group in groups:
            if not isinstance(node.get(group), dict):
                node[group] = {}
            node = node[group]
        node[leaf] = value
    return parse_config(tree, source)


def parse_changes(changes: Iterable[str]) -> dict[str, Any]:
    """Names and values of `a.b=value`, the values in YAML.

    Raises:
        ConfigError: a change that is not of that form.
    """
    values: dict[str, Any] = {}
    for change in changes:
        name, equals, text = change.partition("=")
        if not equals or not name.strip():
            raise ConfigError(f"--set {change}: give a name and a value, for example --set seed=1")
        try:
            value = yaml.safe_load(text)
        except (yaml.YAMLError, ValueError):  # ValueError: a date that there is not
            raise ConfigError(f"--set {change}: the value is not YAML") from None
        values[name.strip()] = _number(text) if value == text.strip() else value
    return values


def _number(text: str) -> Any:
    # YAML 1.1 reads 1e-3 as text; people write it as a number.
    try:
        number = float(text)
    except ValueError:
        return text.strip()
    return number if math.isfinite(number) else text.strip()


def _allowed(kind: type[Settings], error: Any) -> str:
    if error["type"] != "extra_forbidden":
        return ""
    node: Any = kind
    for part in error["loc"][:-1]:
        field = getattr(node, "model_fields", {}).get(part)
        node = field.annotation if field else None
        if node is not None and not hasattr(node, "model_fields"):  # X | None
            node = next((a for a in getattr(node, "__args__", ()) if hasattr(a, "model_fields")), None)
    names = getattr(node, "model_fields", {})
    return f"; known names: {', '.join(names)}" if names else ""
