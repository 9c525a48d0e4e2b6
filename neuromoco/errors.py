"""What can go wrong because of something the user gave.

    NeuromocoError            exit code 1
    ├── ConfigError           2  a setting, an argument or a name that is not allowed
    ├── EventFileError        3  a file that is not a readable event recording
    ├── CheckpointError       4  a file that is not a usable checkpoint
    ├── MissingPackageError   5  something is needed that is not installed
    │   └── MissingExtraError    an optional part of this package
    ├── UnsupportedLayerError 6  a network that an export target cannot express
    └── ParityError           7  an export whose answers differ too much from those of its source

Every message is one line that says what was given, what is allowed, and what to type. The command
line prints it and exits with the code; anything else that escapes is a defect of this package.
"""

from __future__ import annotations


class NeuromocoError(Exception):
    """Base of every error that a user can cause."""

    exit_code = 1


class ConfigError(NeuromocoError):
    """A setting, an argument or a name that is not allowed."""

    exit_code = 2


class EventFileError(NeuromocoError):
    """A file that is not a readable event recording. The message begins with its path."""

    exit_code = 3


class CheckpointError(NeuromocoError):
    """A file that is not a usable checkpoint. The message begins with its path."""

    exit_code = 4


class MissingPackageError(NeuromocoError):
    """Something is needed that is not installed."""

    exit_code = 5


class MissingExtraError(MissingPackageError):
    """An optional part of the package is needed and is not installed."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f'{what} needs packages that are not installed: pip install "neuromoco[{extra}]"')


class UnsupportedLayerError(NeuromocoError):
    """A network has a layer that the graph or a target cannot express."""

    exit_code = 6


class ParityError(NeuromocoError):
    """An export answers differently from its source by more than is allowed."""

    exit_code = 7
