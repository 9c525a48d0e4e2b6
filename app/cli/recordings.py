"""The options for reading recordings, the same for every command that takes a set of them."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Annotated, Any, TypeVar, get_args

import typer

from neuromoco.app.cli.arguments import microseconds, sensor_size
from neuromoco.app.cli.events import ColumnOrder, FileFormat, Flip, Salvage, Select, Sensor, TimeUnit
from neuromoco.config import RecordingsConfig, parse_settings
from neuromoco.events.columns import names_in

Command = TypeVar("Command", bound=Callable[..., Any])
READING: dict[str, Any] = {
    "format": FileFormat,
    "sensor": Sensor,
    "columns": ColumnOrder,
    "time_unit": TimeUnit,
    "select": Select,
    "flip": Flip,
    "salvage": Salvage,
}
SKIP = {
    "skip_damaged": Annotated[bool, typer.Option("--skip-damaged", help="Go on without files that cannot be read.")],
}
SAMPLES: dict[str, Any] = {
    **SKIP,
    "labels": Annotated[
        str | None, typer.Option(help="A table of labels: a .csv file with columns such as file,begin_s,end_s,class.")
    ],
    "label_times": Annotated[
        str | None, typer.Option(help="What its times count from: clock, of the file, or start, its first event.")
    ],
    "window": Annotated[str | None, typer.Option(help="Cut recordings into samples of this length, such as 500ms.")],
    "stride": Annotated[str | None, typer.Option(help="From one window to the next; by default its length.")],
    "group": Annotated[
        str | None, typer.Option(help="Column of the table whose values stay on one side of a split, such as subject.")
    ],
}


def takes_recordings(options: dict[str, Any]) -> Callable[[Command], Command]:
    """Gives a command some of these options; it gets them together, as its argument `recordings`."""

    def decorate(command: Command) -> Command:
        @wraps(command)
        def wrapper(**arguments: Any) -> Any:
            words = {name: arguments.pop(name) for name in options}
            return command(**arguments, recordings=settings_of(words))

        signature = inspect.signature(command, eval_str=True)
        own = [parameter for parameter in signature.parameters.values() if parameter.name != "recordings"]
        named = inspect.Parameter.KEYWORD_ONLY
        own = [parameter.replace(kind=named) for parameter in own]
        defaults = {name: False if get_args(kind)[0] is bool else None for name, kind in options.items()}
        more = [inspect.Parameter(name, named, default=defaults[name], annotation=options[name]) for name in options]
        wrapper.__signature__ = signature.replace(parameters=[*own, *more])  # type: ignore[attr-defined]
        wrapper.__annotations__ = {parameter.name: parameter.annotation for parameter in (*own, *more)}
        return wrapper  # type: ignore[return-value]

    return decorate


def settings_of(words: dict[str, Any]) -> RecordingsConfig:
    """Settings from the words of the command line; what is not given is left to the set's own file.

    Raises:
        ConfigError: a word that is not allowed.
    """
    given = {name: word for name, word in words.items() if word not in (None, False)}
    names_in(given.get("columns"))  # refuses what is neither names nor an order
    if "sensor" in given:
        given["sensor"] = sensor_size(given["sensor"])
    for name in ("window", "stride"):
        if name in given:
            given[name] = f"{microseconds(given[name])}us"
    return parse_settings(RecordingsConfig, given, "the options for reading")


def words_of(recordings: RecordingsConfig) -> list[str]:
    """Settings as words of a command line, which `settings_of` understands."""
    words = []
    for name, value in recordings.to_plain().items():
        shown = "x".join(map(str, value)) if isinstance(value, list | tuple) else value
        option = f"--{name.replace('_', '-')}"
        words.append(option if value is True else f"{option}={shown}")
    return words
