"""Checkpoints that describe themselves: safetensors files with everything needed to use the weights.

The metadata has one JSON text under "neuromoco" (see `CheckpointHeader`); the tensors are those of a `Classifier` or of
an encoder alone. Reading the header needs no torch.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, NamedTuple, TypeVar

from pydantic import Field, ValidationError, field_validator, model_validator
from safetensors import SafetensorError, safe_open

from neuromoco.confidence import Calibration
from neuromoco.config import EncoderConfig, FrameConfig, ReadingConfig, Settings
from neuromoco.errors import CheckpointError, ConfigError
from neuromoco.events import ReadOptions
from neuromoco.fit.reference import FitReference
from neuromoco.hub.names import find_checkpoint, names_in_words
from neuromoco.support.files import read_json, writing
from neuromoco.support.untrusted import is_regular, one_line, parse_json

if TYPE_CHECKING:
    from torch import Tensor, nn

FORMAT_VERSION: Literal[1] = 1
KEY = "neuromoco"
RUN_SETTINGS, BEST, LAST = "config.yaml", "weights/best.safetensors", "weights/last.safetensors"  # of a run folder
SUMMARY = "metrics.json"
FINE_TUNED, FROM_SCRATCH, PROBE = COMPARED = ("finetune", "supervised", "probe")  # folders in a run of stage "all"
LARGEST_HEADER = 1 << 24  # bytes of names and shapes in a file; real ones have some 10 kB
HD = (720, 1280)  # rows and columns of the largest usual sensor
LARGEST_RATIO, LEAST_LIMIT = 4, 1024  # of a frame's side to the sensor's; all are allowed up to so many pixels
Count = Annotated[int, Field(ge=0, lt=1 << 63)]


class SeenRecordings(Settings):
    """Summary of the recordings that a network was trained on, to warn of very different ones."""

    count: Count
    shortest_us: Count  # duration of the shortest, microseconds
    longest_us: Count
    fewest_events: Count
    most_events: Count
    sensor: tuple[Count, Count] | None = None  # rows and columns of their most frequent sensor


class CheckpointHeader(Settings):
    """Everything that a checkpoint states about its weights."""

    added: ClassVar[tuple[str, ...]] = ("reading", "fit", "calibration")
    format: Literal[1] = FORMAT_VERSION
    kind: Literal["encoder", "classifier"]
    encoder: EncoderConfig
    frames: FrameConfig
    reading: ReadingConfig = ReadingConfig()  # what the training recordings did not say of themselves
    class_names: tuple[str, ...] = ()  # in the order of the logits; empty for an encoder
    seen: SeenRecordings
    stage: str  # "pretrain", "finetune" or "supervised"
    epoch: int  # epochs of training behind these weights
    seed: int
    metrics: dict[str, float] = {}  # of that epoch
    versions: dict[str, str] = {}  # of the packages that wrote the file
    fit: FitReference | None = None  # what the training recordings are like; None in files of earlier versions
    calibration: Calibration | None = None  # of a classifier; None in files of earlier versions

    def read_options(self, given: ReadOptions | None = None) -> ReadOptions:
        """Options for reading a file to answer for: those given, and what is known of the training recordings."""
        given = given or ReadOptions()
        if self.reading == ReadingConfig():
            return given
        return replace(given, defaults=ReadOptions(**self.reading.model_dump()))

    @model_validator(mode="after")
    def _check_frames(self) -> CheckpointHeader:
        """A network for frames far larger than its sensor would be slow for nothing."""
        for side, pixels in zip((self.frames.height, self.frames.width), self.seen.sensor or HD, strict=True):
            if side > max(LEAST_LIMIT, LARGEST_RATIO * pixels):
                raise ValueError(f"frames of {side} pixels from a sensor of {pixels}")
        if isinstance(self.frames.crop, str):
            raise ValueError(f"frames of a crop {self.frames.crop!r} instead of pixels")
        return self

    @field_validator("class_names")
    @classmethod
    def _once(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(names)) < len(names):
            raise ValueError("two classes of the same name")
        return names


class Stored(NamedTuple):
    """A tensor in a file."""

    shape: tuple[int, ...]
    kind: str  # of its numbers, such as "F32"


HeaderType = TypeVar("HeaderType", bound=CheckpointHeader)


def save_checkpoint(path: Path | str, module: nn.Module, header: CheckpointHeader) -> None:
    """Writes a module's parameters and buffers with a header; an interrupted write leaves no file."""
    from safetensors.torch import save_file

    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in module.state_dict().items()}
    with writing(path) as part:
        save_file(tensors, part, metadata={KEY: header.model_dump_json()})


def replace_header(path: Path | str, header: CheckpointHeader) -> None:
    """Gives a checkpoint another header; its tensors stay as they are, byte for byte.

    Raises:
        CheckpointError: the file is missing or damaged.
    """
    read_header(path)
    path = best_weights(path)
    with path.open("rb") as file:
        entries = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        entries["__metadata__"][KEY] = header.model_dump_json()
        names = json.dumps(entries, separators=(",", ":")).encode()
        names += b" " * (-len(names) % 8)  # tensors are aligned
        with writing(path) as part, part.open("wb") as copy:
            copy.write(len(names).to_bytes(8, "little") + names)
            shutil.copyfileobj(file, copy)


def best_weights(path: Path | str) -> Path:
    """The checkpoint that a word names: a run folder, a name that ships, hf://owner/name; any other path as it is.

    Of a run folder, it is that of the chosen epoch, else of the last; of a run of stage "all", the classifier that it
    kept; until it has compared, the fine-tuned one.

    Raises:
        CheckpointError: a run without weights yet, or with a damaged summary; a repository that cannot be had.
        MissingExtraError: the Hub's package is not installed.
    """
    path = find_checkpoint(path)
    if not (path / RUN_SETTINGS).is_file():
        return path
    folder = path / _kept(path) if (path / FINE_TUNED).is_dir() else path
    for weights in (folder / BEST, folder / LAST):
        if weights.is_file():
            return weights
    raise CheckpointError(f"{path}: is a run without weights yet; complete it: neuromoco train --resume {path}")


def _kept(run: Path) -> str:
    """The folder in a run of stage "all" whose classifier it kept."""
    if not is_complete(run):
        return FINE_TUNED
    summary = run / SUMMARY
    try:
        kept = read_json(summary).get("kept", FINE_TUNED)  # earlier versions did not compare
    except ConfigError as error:
        raise CheckpointError(str(error)) from None
    if kept not in COMPARED:
        raise CheckpointError(f"{summary}: is damaged; name one of {', '.join(COMPARED)} as kept, or give a checkpoint")
    return str(kept)


def is_complete(run: Path) -> bool:
    """Whether the run in this folder reached its end."""
    return (run / SUMMARY).is_file()


def unfinished_epoch(path: Path | str) -> int | None:
    """The epoch behind `best_weights` of a run folder whose run has not reached its end; None of any other path.

    Raises:
        CheckpointError: a run without weights yet.
    """
    path = Path(path)
    return read_header(path).epoch if (path / RUN_SETTINGS).is_file() and not is_complete(path) else None


def is_checkpoint(path: Path | str) -> bool:
    """Whether a file starts like safetensors: the length of a header that fits into the file, then a brace."""
    try:
        if not is_regular(path):
            return False
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


def stored_tensors(path: Path | str) -> dict[str, Stored]:
    """Shapes and types of the tensors of a checkpoint, by name, without reading them.

    Raises:
        CheckpointError: the file is missing or damaged.
    """
    with _open(path, "numpy") as file:
        slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 (it is no mapping)
        return {name: Stored(tuple(entry.get_shape()), entry.get_dtype()) for name, entry in slices.items()}


def load_tensors(path: Path | str) -> dict[str, Tensor]:
    """Loads the tensors of a checkpoint, by name, onto the CPU.

    Raises:
        CheckpointError: the file is missing or damaged.
    """
    with _open(path, "pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no mapping)


def load_into(module: nn.Module, tensors: dict[str, Tensor], path: Path | str) -> None:
    """Loads tensors into a module, whose names, shapes and types must match exactly.

    Raises:
        CheckpointError: a tensor is missing, unknown, of another shape or type, or has numbers that are not finite;
            `path` begins the message.
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
        if tensor.dtype != state[name].dtype:
            raise CheckpointError(f"{path}: {name} has numbers of type {tensor.dtype} instead of {state[name].dtype}")
        if not tensor.isfinite().all():
            raise CheckpointError(f"{path}: {name} has numbers that are not finite")
    module.load_state_dict(tensors)


@contextmanager
def _open(path: Path | str, framework: str) -> Iterator[Any]:
    path = best_weights(path)
    if not is_regular(path):
        what = "is a folder, and no run of neuromoco train" if path.is_dir() else "does not exist"
        if not path.exists() and path.name == str(path) and not path.suffix:
            what += f" ({names_in_words()})"
        raise CheckpointError(f"{path}: {'is no regular file' if path.exists() and not path.is_dir() else what}")
    try:
        with path.open("rb") as begin:
            if (size := int.from_bytes(begin.read(8), "little")) > LARGEST_HEADER:
                raise ValueError(f"a header of {size:,} bytes")
        with safe_open(path, framework=framework) as file:
            yield file
    except (SafetensorError, OSError, ValueError) as error:
        reason = one_line(error)
        raise CheckpointError(f"{path}: is no safetensors file, or is cut or damaged ({reason})") from error


def parse_header(path: Path | str, metadata: Mapping[str, str], kind: type[HeaderType], what: str) -> HeaderType:
    """Parses the header of a file that neuromoco wrote, of the format `what`, such as "an ONNX".

    Raises:
        CheckpointError: another program or a newer neuromoco wrote the file, or its header is damaged.
    """
    if KEY not in metadata:
        raise CheckpointError(f"{path}: is {what} file that neuromoco did not write")
    try:
        tree: Any = parse_json(metadata[KEY])
        version = tree.get("format") if isinstance(tree, dict) else None
        if version != FORMAT_VERSION:
            known = f"this version reads {FORMAT_VERSION}: install a newer neuromoco"
            raise CheckpointError(f"{path}: has format {one_line(repr(version))}; {known}")
        return kind.model_validate(tree)
    except ValidationError as error:
        raise CheckpointError(f"{path}: has a damaged header ({first_mistake(error)})") from None
    except ValueError as error:
        raise CheckpointError(f"{path}: has a damaged header ({one_line(error)})") from None


def first_mistake(error: ValidationError) -> str:
    """The first thing that is wrong with the description in a file, and where."""
    first = error.errors(include_url=False, include_input=False)[0]
    return one_line(f"{'.'.join(map(str, first['loc']))}: {first['msg']}".removeprefix(": "))
