"""Commands on event files: inspect, convert, simulate."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.markup import escape

from neuromoco.app.cli.command_group import AsJson, Quiet, app, each_file, out, print_json
from neuromoco.app.cli.tables import facts_table
from neuromoco.errors import ConfigError
from neuromoco.events import ReadOptions, read_recording, survey_recording
from neuromoco.events.writers import WRITERS, writer_for
from neuromoco.runtime.facts import facts_of
from neuromoco.support.console import console, track
from neuromoco.support.files import files_in

FileFormat = Annotated[
    str | None, typer.Option("--format", help="Of files that cannot be recognised, such as dat without a header.")
]
Sensor = Annotated[str | None, typer.Option(metavar="WxH", help="Pixels of the sensor, where the file does not say.")]
ColumnOrder = Annotated[
    str | None, typer.Option("--columns", help="Order of unnamed columns in a text or .npy, such as txyp.")
]
TimeUnit = Annotated[
    Literal["s", "ms", "us", "ns"] | None, typer.Option(help="Of times in a text or an array that does not say it.")
]


def read_options(format: str | None, sensor: str | None, columns: str | None, time_unit: str | None) -> ReadOptions:
    """What the options say of a file.

    Raises:
        ConfigError: a value that is not allowed.
    """
    size = None
    if sensor is not None:
        found = re.fullmatch(r"(\d{1,5})\s*[xX]\s*(\d{1,5})", sensor.strip())
        if not found or not all(1 <= int(side) <= 65535 for side in found.groups()):
            raise ConfigError(f"--sensor {sensor}: give width and height, for example --sensor 640x480")
        size = (int(found[1]), int(found[2]))
    if columns is not None and sorted(columns.replace("_", "")) != sorted("txyp"):
        raise ConfigError(
            f"--columns {columns}: name each of t, x, y and p once, and _ for others, for example --columns txyp"
        )
    return ReadOptions(format, size, columns, time_unit)  # type: ignore[arg-type]


@app.command()
def info(
    files: Annotated[list[Path], typer.Argument(help="Recordings, checkpoints or exports.")],
    plot: Annotated[Path | None, typer.Option(help="Write a picture of a recording, .png.")] = None,
    format: FileFormat = None,
    sensor: Sensor = None,
    columns: ColumnOrder = None,
    time_unit: TimeUnit = None,
    as_json: AsJson = False,
) -> None:
    """Say what a recording, a checkpoint or an export holds.

    Example: neuromoco info walk.aedat4 --plot walk.png
    """
    options = read_options(format, sensor, columns, time_unit)
    if plot is not None and len(files) != 1:
        raise ConfigError(f"--plot {plot} with {len(files)} files; give one")

    def show(file: Path) -> None:
        facts = facts_of(file, options)
        if as_json:
            print_json({"file": str(file), **facts}, indent=None)
        else:
            out.print(facts_table(str(file), facts))

    each_file(files, show, as_json)
    if plot is not None:
        from neuromoco.app.cli.plots import draw_survey

        draw_survey(plot, survey_recording(files[0], options), files[0].name)


@app.command()
def convert(
    source: Annotated[Path, typer.Argument(help="A recording of any format.")],
    target: Annotated[Path, typer.Argument(help="The file to write.")],
    to: Annotated[
        str | None, typer.Option(help=f"One of {', '.join(WRITERS)}; by default what the file's name says.")
    ] = None,
    format: FileFormat = None,
    sensor: Sensor = None,
    columns: ColumnOrder = None,
    time_unit: TimeUnit = None,
    as_json: AsJson = False,
) -> None:
    """Write a recording in another format. Events that the format cannot hold are an error, never lost.

    Example: neuromoco convert walk.raw walk.npz
    """
    write = writer_for(target, to)
    if target.resolve() == source.resolve():
        raise ConfigError(f"{target}: is the recording itself; name another file")
    recording = read_recording(source, options=read_options(format, sensor, columns, time_unit))
    write(target, recording)
    facts = {"file": str(target), "source": str(source), "events": len(recording), "bytes": target.stat().st_size}
    if as_json:
        print_json(facts)
    else:
        out.print(
            f"{escape(str(target))}: {len(recording):,} events of {escape(recording.source)}, {facts['bytes']:,} bytes"
        )


@app.command()
def simulate(
    images: Annotated[list[Path], typer.Argument(help="Pictures, or folders of them; class folders are kept.")],
    folder: Annotated[Path, typer.Option("--out", help="Where to write.")],
    motion: Annotated[
        Literal["saccades", "loop"], typer.Option(help="How a picture moves: as in N-MNIST, or as in CIFAR10-DVS.")
    ] = "saccades",
    sensor: Annotated[str, typer.Option(metavar="WxH", help="Pixels of the camera.")] = "34x34",
    seed: Annotated[int, typer.Option(min=0, help="Of the camera's noise.")] = 0,
    quiet: Quiet = False,
) -> None:
    """Record pictures with a simulated event camera: one .npz a picture.

    Example: neuromoco simulate digits/ --out recordings/
    """
    console.quiet = quiet
    from neuromoco.app.cli.simulate import record_picture

    size = read_options(None, sensor, None, None).sensor
    assert size is not None
    jobs = [(path, Path(path.parent.name if place.is_dir() and path.parent != place else ".")) for place in images
            for path in files_in([place])]  # fmt: skip
    for number, (path, inside) in enumerate(track(jobs, "recording pictures")):
        record_picture(path, folder / inside / f"{path.stem}.npz", motion, size, seed + number)
    out.print(f"{escape(str(folder))}: {len(jobs):,} recordings of {size[0]} x {size[1]} pixels")
