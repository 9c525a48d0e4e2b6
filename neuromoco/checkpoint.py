"""Checkpoints that describe themselves: safetensors files with everything needed to use the weights.

The metadata has one JSON text under "neuromoco" (see `CheckpointHeader`); the tensors are those of a `Classifier` or of
an encoder alone. Reading the header needs no torch.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
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
    """Summary of the recordings that a network was trained on, to warn of very different ones."""

    count: int
    shortest_us: int  # duration of the shortest, microseconds
    longest_us: int
    fewest_events: int
    most_events: int
    sensor: tuple[int, int] | None = None  # rows and columns of their most frequent sensor


class CheckpointHeader(Settings):
    """Everything that a checkpoint states about its weights."""

    format: Literal[1] = FORMAT_VERSION
    kind: Literal["encoder", "classifier"]
    encoder: EncoderConfig
    frames: FrameConfig
    class_names: tuple[str, ...] = ()  # in the order of the logits; empty for an encoder
    seen: SeenRecordings
    stage: str  # "pretrain", "finetune" or "supervised"
    epoch: int  # epochs of training behind these weights
    seed: int
    metrics: dict[str, float] = {}  # of that epoch
    versions: dict[str, str] = {}  # of the packages that wrote the file


HeaderType = TypeVar("HeaderType", bound=CheckpointHeader)


def save_checkpoint(path: Path | str, module: nn.Module, header: CheckpointHeader) -> None:
    """Writes a module's parameters and buffers with a header; an interrupted write leaves no file."""
    from safetensors.torch import save_file

    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in module.state_dict().items()}
    with writing(path) as part:
        save_file(tensors, part, metadata={KEY: header.model_dump_json()})


def is_checkpoint(path: Path | str) -> bool:
    """Whether a file starts like safetensors: the length of a header that fits into the file, then a brace."""
    try:
        with Path(path).open("rb") as file:
            head = file.read(9)
        return head[8:] == b"{" and int.from_bytes(head[:8], "little") <= Path(path).stat().st_size - 8
    except OSError:
        return False


def read_header(path: Path | str) -> CheckpointHeader:
    """Reads the header of a checkpoint.

    Raises:
        CheckpointError: the file is missing, damaged, or not written by neuromoco.
    """
    with _open(path, "numpy") as file:
        return parse_header(path, file.metadata() or {}, CheckpointHeader, "a safetensors")


def load_tensors(path: Path | str) -> dict[str, Tensor]:
    """Loads the tensors of a checkpoint, by name, onto the CPU.

    Raises:
        CheckpointError: the file is missing or damaged.
    """
    with _open(path, "pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no mapping)


def load_into(module: nn.Module, tensors: dict[str, Tensor], path: Path | str) -> None:
    """Loads tensors into a module, whose names and shapes must match exactly.

    Raises:
        CheckpointError: a tensor is missing, unknown, or of another shape; `path` begins the message.
    """
    state = module.state_dict()
    missing, unknown = sorted(state.keys() - tensors.keys()), sorted(tensors.keys() - state.keys())
    if missing or unknown:
        what = f"lacks {missing[0]}" if missing else f"has {unknown[0]}, which the network does not"
        raise CheckpointError(f"{path}: {what}; it was written for another network than its header says")
    for name, tensor in tensors.items():
        if tensor.shape != state[name].shape:
            shapes = f"{tuple(tensor.shape)} instead of {tuple(state[name].shape)}"
            raise CheckpointError(f"{path}: {name} has shape {shapes}")
    module.load_state_dict(tensors)


@contextmanager
def _open(path: Path | str, framework: str) -> Iterator[Any]:
    path = Path(path)
    if not path.is_file():
        what = "is a folder; give a file in its weights/" if path.is_dir() else "does not exist"
        raise CheckpointError(f"{path}: {what}")
    try:
        with safe_open(path, framework=framework) as file:
            yield file
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{path}: is no safetensors file, or is cut or damaged ({error})") from error


def parse_header(path: Path | str, metadata: Mapping[str, str], kind: type[HeaderType], what: str) -> HeaderType:
    """Parses the header of a file that neuromoco wrote, of the format `what`, such as "an ONNX".

    Raises:
        CheckpointError: another program or a newer neuromoco wrote the file, or its header is damaged.
    """
    if KEY not in metadata:
        raise CheckpointError(f"{path}: is {what} file that neuromoco did not write")
    try:
        tree: Any = json.loads(metadata[KEY])
        version = tree.get("format") if isinstance(tree, dict) else None
        if version != FORMAT_VERSION:
            known = f"this version reads {FORMAT_VERSION}: install a newer neuromoco"
            raise CheckpointError(f"{path}: has format {version}; {known}")
        return kind.model_validate(tree)
    except (json.JSONDecodeError, ValidationError) as error:
        raise CheckpointError(f"{path}: has a damaged header ({str(error).splitlines()[0]})") from error
