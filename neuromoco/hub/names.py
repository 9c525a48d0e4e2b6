"""Where a checkpoint is, by the word that names it: a path, the name of one that ships, or hf://owner/name.

This is the one place that resolves such words; `neuromoco.checkpoint.best_weights` asks it, and through that every
command and function that takes a checkpoint.
"""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files
from pathlib import Path

from neuromoco.errors import CheckpointError
from neuromoco.support.extras import need
from neuromoco.support.untrusted import one_line

WEIGHTS = "model.safetensors"  # the name of a checkpoint in a repository of the Hub
SCHEME = "hf:"  # pathlib makes one stroke of the two behind it
REPOSITORY = re.compile(r"hf:/+([\w.-]+/[\w.-]+)(?:@([\w./-]+))?")
SUFFIX = ".safetensors"


def find_checkpoint(word: Path | str) -> Path:
    """The path that a word names: a path is what it is; a name that ships, or a repository of the Hub, becomes one.

    Args:
        word: a path, the name of a model that ships, or hf://owner/name, with @revision if not the newest.

    Raises:
        CheckpointError: a repository that is not there, is private, has no checkpoint, or cannot be reached.
        MissingExtraError: the Hub's package is not installed.
    """
    path = Path(word)
    if is_on_hub(path):
        return _download(path.as_posix())
    if path.name != str(path) or path.suffix == SUFFIX or path.exists():
        return path
    return shipped_checkpoints().get(path.name, path)


def is_on_hub(word: Path | str) -> bool:
    """Whether a word names a repository of the Hub."""
    return Path(word).parts[:1] == (SCHEME,)


def is_shared(word: Path | str) -> bool:
    """Whether a word names what ships or is on the Hub, which was made of other recordings than the user's."""
    return is_on_hub(word) or (str(word) in shipped_checkpoints() and not Path(word).exists())


def shipped_checkpoints() -> dict[str, Path]:
    """The checkpoints that ship with the package, by name."""
    folder = Path(str(files("neuromoco.models")))
    return {path.name.removesuffix(SUFFIX): path for path in sorted(folder.glob(f"*{SUFFIX}"))}


def names_in_words() -> str:
    """What may stand for a checkpoint instead of a path, for messages."""
    return f"names that ship: {', '.join(shipped_checkpoints())}; of the Hub: hf://owner/name"


def repository_of(word: Path | str) -> tuple[str, str | None]:
    """The repository, owner/name, and the revision that a word such as hf://owner/name@v1 names.

    Raises:
        CheckpointError: it names none.
    """
    match = REPOSITORY.fullmatch(Path(word).as_posix())
    if match is None:
        raise CheckpointError(f"{one_line(str(word))}: names no repository; give hf://owner/name")
    return match[1], match[2]


@cache
def _download(word: str) -> Path:
    """The checkpoint of a repository, in the Hub's own cache; looked up once per process."""
    repository, revision = repository_of(word)
    need("hub", f"hf://{repository}")
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url

    from neuromoco.hub.problems import hub_problems, is_reached

    with hub_problems(f"hf://{repository}"):
        # Asked first, because the download would try a Hub that cannot be reached again and again.
        url = hf_hub_url(repository, WEIGHTS, revision=revision)
        online = is_reached(lambda: get_hf_file_metadata(url))
        return Path(hf_hub_download(repository, WEIGHTS, revision=revision, local_files_only=not online))
