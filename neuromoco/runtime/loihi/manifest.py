"""What a Loihi export says about itself, in manifest.json."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from neuromoco.checkpoint import first_mistake
from neuromoco.config import Settings
from neuromoco.errors import CheckpointError
from neuromoco.runtime.header import ExportHeader
from neuromoco.runtime.loihi.blocks import Dialect, LoihiAttention, LoihiBlock, Port, is_relay
from neuromoco.support.untrusted import one_line, read_bytes

NET: Literal["network.net"] = "network.net"
MANIFEST, FRAMES = "manifest.json", "frames.npz"
REPORT, REPORT_TEXT = "report.json", "report.md"
OF_C = "network.h"  # in the folders of --target c, which are compiled
OURS = frozenset({NET, MANIFEST, FRAMES, REPORT, REPORT_TEXT, "run_lava.py", "lava_parts"})


MOST_LAYERS = 4096
LARGEST_MANIFEST = 1 << 24  # bytes
Whole = Annotated[int, Field(ge=0, le=1 << 30)]
Scale = Annotated[float, Field(gt=0.0, le=1e30)]


class ManifestLayer(Settings):
    """A block and its place in the file."""

    index: Whole  # of its group in the file
    name: str  # of its layer of neurons
    kind: Literal["input", "conv", "relay", "ssa", "readout"]
    depth: Whole  # it emits its spikes for step t of a recording at step t + depth
    largest: Whole  # largest value of its spikes
    scale: Scale  # ratio of an integer weight to its float weight


class Reset(Settings):
    """netx's reset_interval and reset_offset, which begin each recording at rest."""

    interval: Whole
    offset: Whole


class InputCoding(Settings):
    """How recordings are sent in."""

    shape: tuple[Whole, Whole, Whole]  # [P, H, W]
    message_bits: Whole
    largest: Whole  # count
    coding: str


class ReadoutCoding(Settings):
    """How to read the answers."""

    layer: Whole  # its number in the file
    scale: Scale  # of its membranes
    read: str


class Manifest(Settings):
    """What a folder holds and how to run it."""

    format: Literal[1] = 1
    dialect: Dialect  # "stock": unmodified lava.lib.dl.netx loads it; "extended": run_lava.py does
    net: Literal["network.net"] = NET
    steps: Whole  # T of a recording; recordings follow one another without a gap
    latency: Whole  # steps from a recording's last input to its answer
    reset: Reset
    input: InputCoding
    readout: ReadoutCoding
    class_names: tuple[str, ...]  # in the order of the readout
    layers: tuple[ManifestLayer, ...] = Field(min_length=2, max_length=MOST_LAYERS)
    header: ExportHeader


def kind_of(block: LoihiBlock) -> Literal["input", "conv", "relay", "ssa"]:
    """A block's kind in the manifest. Lava computes relays of single spikes as convolutions."""
    if isinstance(block, Port):
        return "input"
    if isinstance(block, LoihiAttention):
        return "ssa"
    return "relay" if is_relay(block) else "conv"


def read_manifest(folder: Path | str) -> Manifest:
    """Reads the manifest of a folder. Needs no h5py.

    Raises:
        CheckpointError: the folder is no Loihi export, or its manifest is damaged.
    """
    path = Path(folder) / MANIFEST
    if not Path(folder).is_dir():
        what = "does not exist" if not Path(folder).exists() else "is no folder"
        raise CheckpointError(f"{folder}: {what}; a Loihi export is made by neuromoco export --target loihi")
    try:
        content = read_bytes(path, LARGEST_MANIFEST)
    except ValueError as error:
        if (Path(folder) / OF_C).is_file():
            raise CheckpointError(
                f"{folder}: is C code, and is run once compiled (make -C {folder}); give its checkpoint, or export it "
                "with --target loihi, for the same integers"
            ) from None
        raise CheckpointError(
            f"{folder}: is a folder, and neither a Loihi export ({MANIFEST} {error}) nor a run of neuromoco train"
        ) from None
    try:
        return Manifest.model_validate_json(content)
    except ValidationError as error:
        raise CheckpointError(f"{path}: is cut or damaged ({first_mistake(error)})") from None
    except ValueError as error:
        raise CheckpointError(f"{path}: is cut or damaged ({one_line(error)})") from None
