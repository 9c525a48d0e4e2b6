"""A Loihi export written to disk; `neuromoco.runtime.loihi.folder` reads it."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from neuromoco.runtime.header import ExportHeader
from neuromoco.runtime.loihi.blocks import LARGEST_MESSAGE, Dialect, LoihiGraph
from neuromoco.runtime.loihi.manifest import (
    FRAMES,
    MANIFEST,
    NET,
    InputCoding,
    Manifest,
    ManifestLayer,
    ReadoutCoding,
    Reset,
    kind_of,
)
from neuromoco.runtime.loihi.net_file import layer_numbers, write_net
from neuromoco.runtime.loihi.twin import run
from neuromoco.snn.loihi_ranges import UNIT
from neuromoco.support.files import write_json

RUNNER = Path(__file__).parent.parent / "lava_runner"  # every export holds a copy
RESET_OFFSET = 1  # of netx; blocks add their depth


def describe(graph: LoihiGraph, dialect: Dialect, header: ExportHeader) -> Manifest:
    """The manifest of a network."""
    numbers, steps = layer_numbers(graph, dialect), header.frames.steps
    return Manifest(
        dialect=dialect,
        steps=steps,
        latency=graph.latency,
        reset=Reset(interval=steps, offset=RESET_OFFSET),
        input=InputCoding(
            shape=graph.port.shape,
            message_bits=LARGEST_MESSAGE.bit_length(),
            largest=LARGEST_MESSAGE,
            coding="event counts a step, polarity and pixel, as graded spikes; larger ones are sent as the largest",
        ),
        readout=ReadoutCoding(
            layer=numbers[graph.readout.name],
            scale=graph.readout.scale,
            read=f"membrane / {UNIT} / scale after a recording's last step: its logits, added up over the steps",
        ),
        class_names=header.class_names,
        layers=tuple(
            ManifestLayer(
                index=numbers[block.name],
                name=block.name,
                kind="readout" if block is graph.readout else kind_of(block),
                depth=block.depth,
                largest=block.largest,
                scale=getattr(block, "scale", 1.0),
            )
            for block in graph.blocks
        ),
        header=header,
    )


def write_folder(folder: Path, graph: LoihiGraph, manifest: Manifest, samples: NDArray[np.uint8]) -> None:
    """Fills an empty folder with everything but the report; samples [T, N, P, H, W] are kept with their logits."""
    write_net(folder / NET, graph, manifest.dialect)
    write_json(folder / MANIFEST, manifest.model_dump(mode="json"))
    logits = run(graph, samples).logits.sum(0)
    np.savez_compressed(folder / FRAMES, frames=samples, logits=logits.astype(np.int64))
    for source in sorted(RUNNER.rglob("*.py")):  # contents alone: an installed package may be read-only
        place = folder / source.relative_to(RUNNER)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, place)
