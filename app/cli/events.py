"""Commands on event files: inspect, convert, simulate, download."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import typer

from neuromoco.app.cli.arguments import crop_in, sensor_size
from neuromoco.app.cli.command_group import AsJson, Quiet, app, each_file, out, print_json, show
from neuromoco.app.cli.tables import facts_table
from neuromoco.config import FrameConfig
from neuromoco.config.recordings import DESCRIBED
from neuromoco.errors import ConfigError
from neuromoco.events import ReadOptions, read_recording, survey_recording
from neuromoco.events.columns import names_in
from neuromoco.events.recording import NOTHING_ODD, Oddities, oddity_lines
from neuromoco.events.writers import WRITERS, writer_for
from neuromoco.frames import filled_part_of
from neuromoco.runtime.facts import facts_of
from neuromoco.support.console import console, escape, track
from neuromoco.support.files import files_in

LATEST = 1 << 53  # us
FileFormat = Annotated[str | None, typer.Option("--format", help=DESCRIBED["format"])]
Sensor = Annotated[str | None, typer.Option(metavar="WxH", help=DESCRIBED["sensor"])]
ColumnOrder = Annotated[str | None, typer.Option("--columns", help=DESCRIBED["columns"])]
TimeUnit = Annotated[Literal["s", "ms", "us", "ns"] | None, typer.Option(help=DESCRIBED["time_unit"])]
Select = Annotated[str | None, typer.Option(help=DESCRIBED["select"])]
Flip = Annotated[Literal["x", "y", "xy"] | None, typer.Option(help=DESCRIBED["flip"])]
Salvage = Annotated[bool, typer.Option("--salvage", help=DESCRIBED["salvage"])]
CropWord = Annotated[
    str | None, typer.Option("--crop", metavar="X,Y,W,H", help=str(FrameConfig.model_fields["crop"].description))
]


def read_options(
    format: str | None,
    sensor: str | None,
    columns: str | None,
    time_unit: str | None,
    select: str | None = None,
    flip: str | None = None,
    salvage: bool = False,
) -> ReadOptions:
    """The options for reading a file, from their command-line words."""
    size = None if sensor is None else sensor_size(sensor)
    names_in(columns)  # refuses what is neither names nor an order
    return ReadOptions(format, size, columns, time_unit, select, flip, salvage)  # type: ignore[arg-type]


def warn_of(oddities: Mapping[Path, Oddities]) -> None:
    """Warns of what was done to the events of files to read them, a line a kind."""
    for line in oddity_lines(list(oddities.values())):
        first = next(file for file, odd in oddities.items() if odd != NOTHING_ODD)
        console.print(f"warning: {first}: {line}", soft_wrap=True, markup=False)


@app.command()
def info(
    files: Annotated[list[Path], typer.Argument(help="Recordings (- reads a pipe), checkpoints or exports.")],
    plot: Annotated[Path | None, typer.Option(help="Write a picture of the recording to this .png file.")] = None,
    format: FileFormat = None,
    sensor: Sensor = None,
    columns: ColumnOrder = None,
    time_unit: TimeUnit = None,
    select: Select = None,
    flip: Flip = None,
    salvage: Salvage = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Describe a recording, a checkpoint or an export.

    Example: neuromoco info walk.aedat4 --plot walk.png
    """
    options = read_options(format, sensor, columns, time_unit, select, flip, salvage)
    if plot is not None and len(files) != 1:
        raise ConfigError(f"--plot {plot} with {len(files)} files; give one")

    def describe(file: Path) -> None:
        facts = facts_of(file, options)
        if as_json:
            print_json({"file": str(file), **facts}, indent=None)
        else:
            out.print(facts_table(str(file), facts))

    each_file(files, describe, as_json)
    if plot is not None:
        from neuromoco.app.cli.plots import draw_survey

        draw_survey(plot, survey_recording(files[0], options), files[0].name)


@app.command()
def convert(
    source: Annotated[Path, typer.Argument(help="A recording of any format; - reads a pipe.")],
    target: Annotated[Path, typer.Argument(help="The file to write.")],
    to: Annotated[
        str | None, typer.Option(help=f"One of {', '.join(WRITERS)}; by default the one that fits the file name.")
    ] = None,
    format: FileFormat = None,
    sensor: Sensor = None,
    columns: ColumnOrder = None,
    time_unit: TimeUnit = None,
    select: Select = None,
    flip: Flip = None,
    salvage: Salvage = False,
    start: Annotated[
        int | None,
        typer.Option(min=-LATEST, max=LATEST, help="Time of the first event in microseconds, such as 0; others shift."),
    ] = None,
    crop: CropWord = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Write a recording in another format. Events that the format cannot hold are an error.

    Example: neuromoco convert walk.raw walk.npz
    """
    write = writer_for(target, to)
    if target.resolve() == source.resolve():
        raise ConfigError(f"{target}: is the recording itself; name another file")
    recording = read_recording(source, options=read_options(format, sensor, columns, time_unit, select, flip, salvage))
    recording = filled_part_of(recording, crop_in(crop), source)
    if start is not None and len(recording):
        recording = dataclasses.replace(recording, t=recording.t - recording.t[0] + start)
    write(target, recording)
    facts = {
        "file": str(target),
        "source": str(source),
        "events": len(recording),
        **recording.oddities.facts(),
        "bytes": target.stat().st_size,
    }
    warn_of({source: recording.oddities})
    line = f"{escape(str(target))}: {len(recording):,} events of {escape(recording.source)}, {facts['bytes']:,} bytes"
    show(facts, as_json, lambda: line)


@app.command()
def simulate(
    images: Annotated[list[Path], typer.Argument(help="Pictures, or folders of pictures; class folders are kept.")],
    folder: Annotated[Path, typer.Option("--out", help="Folder to write to.")],
    motion: Annotated[
        Literal["saccades", "loop"], typer.Option(help="How a picture moves: as in N-MNIST, or as in CIFAR10-DVS.")
    ] = "saccades",
    sensor: Annotated[str, typer.Option(metavar="WxH", help="Size of the camera in pixels.")] = "34x34",
    seed: Annotated[int, typer.Option(min=0, help="Seed of the camera's noise.")] = 0,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Record pictures with a simulated event camera: one .npz per picture.

    Example: neuromoco simulate digits/ --out recordings/
    """
    from neuromoco.app.cli.simulate import record_picture

    size = sensor_size(sensor)
    jobs = [(path, Path(path.parent.name if place.is_dir() and path.parent != place else ".")) for place in images
            for path in files_in([place])]  # fmt: skip
    for number, (path, inside) in enumerate(track(jobs, "recording pictures")):
        record_picture(path, folder / inside / f"{path.stem}.npz", motion, size, seed + number)
    facts = {"folder": str(folder), "recordings": len(jobs), "sensor": f"{size[0]} x {size[1]}"}
    show(facts, as_json, lambda: f"{escape(str(folder))}: {len(jobs):,} recordings of {facts['sensor']} pixels")


@app.command()
def download(
    name: Annotated[str, typer.Argument(help="A published data set, such as n-mnist; an unknown name lists them.")],
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Download a published data set to where --data NAME finds it: data/NAME, or $NEUROMOCO_DATA/NAME.

    Example: neuromoco download n-mnist
    """
    from neuromoco.datasets.downloads import download as fetch
    from neuromoco.datasets.named import set_folder

    facts = {"name": name, "downloaded": fetch(name), "folder": str(set_folder(name))}
    state = "is now in" if facts["downloaded"] else "is already in"
    show(facts, as_json, lambda: f"{name}: {state} {escape(str(facts['folder']))}; neuromoco train --data {name}")
