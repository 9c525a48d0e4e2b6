"""Uploads a checkpoint to the Hugging Face Hub, with its card as the README."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from neuromoco.checkpoint import CheckpointHeader, best_weights, read_header
from neuromoco.errors import ConfigError
from neuromoco.hub.names import WEIGHTS, repository_of
from neuromoco.hub.problems import hub_problems
from neuromoco.support.untrusted import read_bytes

TAGS = ["event-camera", "neuromorphic", "spiking-neural-network", "neuromoco"]
LONGEST_CARD = 1 << 20  # bytes


def push(model: Path | str, place: str, *, card: Path | None = None, private: bool = False) -> dict[str, Any]:
    """Uploads a checkpoint and its card to a repository of the Hub, which is made if it is missing.

    Args:
        model: a checkpoint, a run, or a name that ships.
        place: hf://owner/name.
        card: a Markdown file; by default the one beside the checkpoint with its name, else one is written from what
            the checkpoint says of itself.
        private: whether only its owner sees a repository that is made.

    Returns:
        "repository", "url" of the commit, and "card": where the card came from, or None if it was written.

    Raises:
        CheckpointError: no usable checkpoint, or the Hub refuses or cannot be reached.
        ConfigError: the card cannot be read.
    """
    from huggingface_hub import CommitOperationAdd, HfApi

    repository, revision = repository_of(place)
    weights, header = best_weights(model), read_header(model)
    beside = weights.with_suffix(".md")
    source = card or (beside if beside.is_file() else None)
    text = card_text(repository, header, None if source is None else _read(source))
    with hub_problems(f"hf://{repository}"):
        api = HfApi()
        api.create_repo(repository, private=private, exist_ok=True)
        files = [CommitOperationAdd(WEIGHTS, str(weights)), CommitOperationAdd("README.md", text.encode())]
        commit = api.create_commit(repository, files, commit_message="neuromoco push", revision=revision)
    return {"repository": repository, "url": commit.commit_url, "card": None if source is None else str(source)}


def card_text(repository: str, header: CheckpointHeader, card: str | None) -> str:
    """A README with the metadata that the Hub reads: the text of a card, or what the checkpoint says of itself."""
    if card is not None and card.startswith("---\n"):
        return card
    metadata = yaml.safe_dump({"library_name": "neuromoco", "tags": TAGS}, sort_keys=False)
    return f"---\n{metadata}---\n\n{card or _described(repository, header)}"


def _described(repository: str, header: CheckpointHeader) -> str:
    frames, seen = header.frames, header.seen
    name = repository.partition("/")[2]
    if header.kind == "encoder":
        use = f"neuromoco train --init hf://{repository} --data FOLDER"
    else:
        use = f"neuromoco predict FILES --model hf://{repository}"
    metrics = "\n".join(f"| {metric} | {value:g} |" for metric, value in sorted(header.metrics.items()))
    classes = f"| classes | {', '.join(header.class_names)} |\n" if header.class_names else ""
    sensor = f" of {seen.sensor[1]} x {seen.sensor[0]} pixels" if seen.sensor else ""
    return f"""# {name}

A spiking {header.kind} for event-camera recordings, made with neuromoco.

```sh
{use}
```

| | |
|---|---|
| encoder | {header.encoder.name} {header.encoder.options or ""} |
| frames | {frames.steps} steps by {frames.slice_by}, {frames.height} x {frames.width} |
{classes}| trained on | {seen.count:,} recordings{sensor} |
| training | stage {header.stage}, epoch {header.epoch}, seed {header.seed} |
| versions | {", ".join(f"{package} {version}" for package, version in header.versions.items())} |

Metrics of that epoch:

| | |
|---|---|
{metrics}
"""


def _read(file: Path) -> str:
    try:
        return read_bytes(file, LONGEST_CARD).decode("utf-8")
    except ValueError as error:
        raise ConfigError(f"{file}: is no card ({error}); give a Markdown file") from None
