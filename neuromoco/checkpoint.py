"""Checkpoints that describe themselves: safetensors with everything needed to use the weights.

The file's header holds one JSON text under "neuromoco" (see `CheckpointHeader`); the tensors are those of
`Classifier` or of an encoder alone. Reading the header needs no torch.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from pydantic import ValidationError
from safetensors import SafetensorError, safe_open

from neuromoco.config import EncoderConfig, FrameConfig, Settings
from neuromoco.errors import CheckpointError
from neuromoco.support.files import writing

if TYPE_CHECKING:
    from torch import Tensor, nn

FORMAT_VERSION: Literal[1] = 1
KEY = "neuromoco"


class SeenRecordings(Settings):
    """The recordings that a network was trained on, so that a very different one can be told.

    Attributes:
        count: number of recordings.
        shortest_us: duration of the shortest, microseconds.
        longest_us: duration of the longest.
        fewest_events: events of the sparsest.
        most_events: events of the densest.
        sensor: rows and columns of the sensor of most of them.
    """

    count: int
    shortest_us: int
    longest_us: int
    fewest_events: int
    most_events: int
    sensor: tuple[int, int] | None = None


class CheckpointHeader(Settings):
    """What a checkpoint says of itself.

    Attributes:
        format: version of this layout.
        kind: "encoder" (features only) or "classifier".
        encoder: the registry's name, options and neuron.
        frames: how recordings become frames.
        class_names: in the order of the logits; empty for an encoder.
        seen: the training recordings.
        stage: "pretrain", "finetune" or "supervised".
        epoch: epochs behind these weights.
        seed: of the run.
        metrics: figures of that epoch, by name.
        versions: of the packages that wrote it.
    """

    format: Literal[1] = FORMAT_VERSION
    kind: Literal["encoder", "classifier"]
    encoder: EncoderConfig
    frames: FrameConfig
    class_names: tuple[str, ...] = ()
    seen: SeenRecordings
    stage: str
    epoch: int
    seed: int
    metrics: dict[str, float] = {}
    versions: dict[str, str] = {}


HeaderType = TypeVar("HeaderType", bound=CheckpointHeader)


def save_checkpoint(path: Path | str, module: nn.Module, header: CheckpointHeader) -> None:
    """Writes a module's parameters and buffers with their header, whole or not at all."""
    from safetensors.torch import save_file

    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in module.state_dict().items()}
    with writing(path) as part:
        save_file(tensors, part, metadata={KEY: header.model_dump_json()})


def is_checkpoint(path: Path | str) -> bool:
    """Whether a file begins as safetensors files do: the length of a header that it can hold, then a brace."""
    try:
        with Path(path).open("rb") as file:
            head = file.read(9)
        return head[8:] == b"{" and int.from_bytes(head[:8], "little") <= Path(path).stat().st_size - 8
    except OSError:
        return False


def read_header(path: Path | str) -> CheckpointHeader:
    """What a checkpoint says of itself.

    Raises:
        CheckpointError: missing, damaged, or not written by neuromoco.
    """
    return parse_header(path, _metadata(path), CheckpointHeader, "a safetensors")


def load_tensors(path: Path | str) -> dict[str, Tensor]:
    """The tensors of a checkpoint, on the CPU.

    Raises:
        CheckpointError: missing or damaged.
    """
    from safetensors.torch import load_file

    _metadata(path)
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: is cut or damaged ({error})") from error


def load_into(module: nn.Module, tensors: dict[str, Tensor], path: Path | str) -> None:
    """Loads tensors into a module that must have exactly these.

    Raises:
        CheckpointError: a tensor is missing, unknown, or of another shape.
    """
    own = module.state_dict()
    missing, unknown = sorted(own.keys() - tensors.keys()), sorted(tensors.keys() - own.keys())
    if missing or unknown:
        what = f"lacks {missing[0]}" if missing else f"has {unknown[0]}, which the network does not"
        raise CheckpointError(f"{path}: {what}; it was written for another network than its header says")
    for name, tensor in tensors.items():
        if tensor.shape != own[name].shape:
            shapes = f"{tuple(tensor.shape)} instead of {tuple(own[name].shape)}"
            raise CheckpointError(f"{path}: {name} has shape {shapes}")
    module.load_state_dict(tensors)


def _metadata(path: Path | str) -> dict[str, str]:
    path = Path(path)
    if not path.is_file():
        what = "is a folder; give a file in its weights/" if path.is_dir() else "does not exist"
        raise CheckpointError(f"{path}: {what}")
    try:
        with safe_open(path, framework="numpy") as file:
            return dict(file.metadata() or {})
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{path}: is no safetensors file, or is cut or damaged ({error})") from error


def parse_header(path: Path | str, metadata: dict[str, str], kind: type[HeaderType], what: str) -> HeaderType:
    """The header of a file that neuromoco wrote.

    Args:
        path: named in errors.
        metadata: texts by key, as the file has them.
        kind: the header's class.
        what: the file's format, for errors.

    Raises:
        CheckpointError: not written by neuromoco, by a newer one, or damaged.
    """
    if KEY not in metadata:
        raise CheckpointError(f"{path}: is {what} file that neuromoco did not write")
    try:
        tree: Any = json.loads(metadata[KEY])
        found = tree.get("format") if isinstance(tree, dict) else None
        if found != FORMAT_VERSION:
            raise CheckpointError(
                f"{path}: has format {found}; this version reads {FORMAT_VERSION}: install a newer neuromoco"
            )
        return kind.model_validate(tree)
    except (json.JSONDecodeError, ValidationError) as error:
        raise CheckpointError(f"{path}: has a damaged header ({str(error).splitlines()[0]})") from error
