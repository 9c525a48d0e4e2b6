"""What a visitor says of a file, in words: the options for reading it, and the part of the sensor to use.

They are those of `neuromoco predict`, with the same checks: the fields of a form, of the page, and of its API.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args, get_origin

from neuromoco.config import FrameConfig, RecordingsConfig, parse_settings
from neuromoco.config.recordings import DESCRIBED
from neuromoco.datasets.samples import read_options
from neuromoco.errors import ConfigError
from neuromoco.events import ReadOptions
from neuromoco.events.columns import names_in
from neuromoco.events.reader import FORMATS

LONGEST = 200  # characters of a word
FIELDS = DESCRIBED | {"crop": str(FrameConfig.model_fields["crop"].description)}  # what each says, by its name
OPTION = re.compile(rf"--({'|'.join(name.replace('_', '-') for name in FIELDS)})\b(?: (?!with |reads )(?=\S))?")


@dataclass(frozen=True)
class Reading:
    """How a file is read.

    Attributes:
        options: what the file does not say itself.
        crop: the part of the sensor that is used instead of the network's: left column, top row, width and height.
            "activity" is that in which the file's events lie; None leaves it to the network.
    """

    options: ReadOptions = field(default_factory=ReadOptions)
    crop: tuple[int, int, int, int] | Literal["activity"] | None = None

    def fields(self) -> dict[str, str]:
        """The words of all `FIELDS`, which `reading_of` takes; empty where nothing is said."""
        words = {}
        for name in FIELDS:
            value = self.crop if name == "crop" else getattr(self.options, name)
            if isinstance(value, tuple):
                value = ("x" if name == "sensor" else ",").join(map(str, value))
            words[name] = "" if value in (None, False) else "true" if value is True else str(value)
        return words

    def options_in_words(self) -> list[str]:
        """The same, as options of a command."""
        given = {name.replace("_", "-"): word for name, word in self.fields().items() if word}
        return [f"--{name}" if name == "salvage" else f"--{name}={word}" for name, word in given.items()]


def reading_of(words: Mapping[str, str]) -> Reading:
    """How a file is read, by the words in some of `FIELDS`; an empty one says nothing.

    Raises:
        ConfigError: a word that is not allowed.
    """
    given = {name: word for name, word in words.items() if name in FIELDS and word}
    for name, word in given.items():
        if len(word) > LONGEST or not word.isprintable():
            raise ConfigError(f"{name}: give at most {LONGEST} printable characters")
    crop = parse_settings(FrameConfig, {"crop": given.pop("crop", None)}, "crop").crop
    names_in(given.get("columns"))  # refuses what is neither names nor an order
    return Reading(read_options(parse_settings(RecordingsConfig, given, "the options for reading")), crop)


def choices(name: str) -> tuple[str, ...]:
    """The words that a field takes; none if it takes any."""
    kind = RecordingsConfig.model_fields[name].annotation if name in DESCRIBED else str
    if kind is bool:
        return ("true", "false")
    literals: tuple[str, ...] = next((get_args(one) for one in get_args(kind) if get_origin(one) is Literal), ())
    return tuple(FORMATS) if name == "format" else literals


def with_names(message: str, names: Mapping[str, str], joint: str) -> str:
    """A message that names options of the command line, with the names of fields instead.

    Args:
        message: such as "give --time-unit ms".
        names: of the fields, by those of `FIELDS`.
        joint: what stands between a field and its value, such as "=".
    """

    def field_of(found: re.Match[str]) -> str:
        name = found[1].replace("-", "_")
        return names[name] + (joint if found[0].endswith(" ") else "")

    return OPTION.sub(field_of, message)


def fields_in(message: str) -> list[str]:
    """The fields that a message asks for."""
    return list(dict.fromkeys(name.replace("-", "_") for name in OPTION.findall(message)))
