"""The errors that a user can cause.

    NeuromocoError            exit code 1
    ├── DiskError             1  a disk that is full, read-only, broken or gone
    ├── ConfigError           2  a setting, an argument or a name that is not allowed
    ├── EventFileError        3  a file that is not a readable event recording
    ├── CheckpointError       4  a file that is not a usable checkpoint
    ├── MissingPackageError   5  a package that is needed but not installed
    │   └── MissingExtraError    an optional part of neuromoco that is needed but not installed
    ├── UnsupportedLayerError 6  a network that an export target cannot express
    └── ParityError           7  an export whose logits differ too much from those of its source

Every message is one line that says what was given, what is allowed, and what to type. The command
line prints it and exits with the code. Any other exception that escapes is a bug in neuromoco.
"""

from __future__ import annotations

from neuromoco.installation import pip_install


class NeuromocoError(Exception):
    """Base of every error that a user can cause; `exit_code` is that of the command line."""

    exit_code = 1


class DiskError(NeuromocoError):
    """A disk that is full, read-only, broken or gone, or a place without permission. The message begins with its path.

    What was complete before is kept: with space or another folder, the same command or `--resume` goes on.
    """


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
    """A package that is needed but not installed."""

    exit_code = 5


class MissingExtraError(MissingPackageError):
    """An optional part of neuromoco that is needed but not installed; the message names its pip command.

    Args:
        what: needs the packages, begins the message.
        extra: to install, such as "loihi".
    """

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} needs packages that are not installed: {pip_install(extra)}")


class UnsupportedLayerError(NeuromocoError):
    """A network with a layer that an export target cannot express. The message names the layer."""

    exit_code = 6


class ParityError(NeuromocoError):
    """An export whose logits differ from those of its source by more than is allowed."""

    exit_code = 7
