"""Commands that write a trained network for other runtimes, and check what was written."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

import typer
from rich.text import Text

from neuromoco import models
from neuromoco.app.cli.arguments import crop_in
from neuromoco.app.cli.command_group import AsJson, Quiet, app, complain, show
from neuromoco.app.cli.events import CropWord
from neuromoco.app.cli.recordings import READING, takes_recordings
from neuromoco.app.cli.tables import verified_table
from neuromoco.config import RecordingsConfig
from neuromoco.errors import ConfigError, ParityError, UnsupportedLayerError
from neuromoco.export import targets
from neuromoco.runtime.header import TargetName
from neuromoco.runtime.onnx_guard.operator_sets import OPSET
from neuromoco.support.console import escape
from neuromoco.support.extras import need
from neuromoco.support.files import files_in
from neuromoco.unsupported import Unsupported

MODULE = re.compile(r"\.py:\w+$")  # ends the name of a module, which is run
Weights = Annotated[Path | None, typer.Option(help="Of a module: its weights, .safetensors or .pth.")]
Renames = Annotated[
    list[str] | None,
    typer.Option("--rename", help="OLD=NEW: names in --weights that begin with OLD begin with NEW instead."),
]
Example = Annotated[
    str | None, typer.Option(help="Of a module: the shape of its input, T,N,C,H,W, or a .npy of an example.")
]
ModuleLayout = Annotated[
    Literal["TN", "NT"], typer.Option(help="Of a module: the order of the first axes of its input.")
]
Steps = Annotated[int | None, typer.Option(help="Of a module that takes one time step N,C,H,W per call: how many.")]


@app.command()
@takes_recordings(READING)
def export(
    model: Annotated[
        Path,
        typer.Argument(help="A run of a classifier, its checkpoint, or file.py:name of a torch module, which is run."),
    ],
    file: Annotated[
        Path | None, typer.Option("--out", help="File (loihi, c: folder) to write; by default next to the checkpoint.")
    ] = None,
    target: Annotated[
        TargetName,
        typer.Option(
            help="onnx: all time steps in one call; onnx-step: one per call; loihi: for Lava; c: C99; html: one page; "
            "nir: for others."
        ),
    ] = "onnx",
    source: Annotated[
        Literal["frames", "events"],
        typer.Option("--input", help="What an ONNX file takes; with events, it bins them itself."),
    ] = "frames",
    quantize: Annotated[
        Literal["int8"] | None, typer.Option(help="8-bit weights and values in ONNX, calibrated on --data.")
    ] = None,
    rates: Annotated[
        bool, typer.Option("--spike-rates", help="Spike rates of every layer as an output of ONNX.")
    ] = False,
    opset: Annotated[int, typer.Option(help="Version of ONNX's operators, 13 to 21.")] = OPSET,
    portable: Annotated[
        bool,
        typer.Option(
            "--portable", help="ONNX for any runtime: one recording a call, no texts, plain operators, fp16's range."
        ),
    ] = False,
    dialect: Annotated[
        Literal["stock", "extended"] | None,
        typer.Option(
            help="Dialect of a Loihi export; any Lava-DL loads stock, the default for networks that are a chain."
        ),
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Recordings to calibrate the result on and to compare it with its source on.")
    ] = None,
    crop: CropWord = None,
    weights: Weights = None,
    rename: Renames = None,
    example: Example = None,
    layout: ModuleLayout = "TN",
    steps: Steps = None,
    classes: Annotated[
        str | None,
        typer.Option(help="Of a module: A,B,C, its classes in order; with --data it classifies recordings."),
    ] = None,
    slice_by: Annotated[
        Literal["count", "time"], typer.Option(help="Of a module with --data: how recordings become its time steps.")
    ] = "count",
    check: Annotated[bool, typer.Option("--check", help="List what cannot be exported; write nothing.")] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
    *,
    recordings: RecordingsConfig,
) -> None:
    """Write a trained classifier, or any spiking network, for another runtime, and compare the two layer by layer.

    Example: neuromoco export runs/tuned --out walk.onnx
    Example: neuromoco export net.py:build --weights net.pth --example 4,2,3,32,32 --out net.onnx
    Example: neuromoco export net.py:build --example 4,2,2,34,34 --classes cat,dog --data recordings/ --target loihi
    """
    options: dict[str, Any] = {"input": source, "quantize": quantize, "spike_rates": rates, "dialect": dialect}
    options |= {"opset": opset, "portable": portable}
    given: dict[str, Any] = {"data": data, "reading": recordings, "crop": crop_in(crop)}
    if MODULE.search(str(model)):
        how: dict[str, Any] = {"layout": layout, "steps": steps}
        names = [name.strip() for name in classes.split(",")] if classes else None
        parts = (str(model), weights, rename, example)
        if data is None:
            usual = {name: option.values[0] for name, option in targets.OPTIONS.items()}
            changed = [f"--{name.replace('_', '-')}" for name, value in options.items() if value != usual[name]]
            changed += ["--crop"] * (crop is not None) + ["reading recordings"] * (recordings != RecordingsConfig())
            changed += ["--slice-by"] * (slice_by != "count")
            if changed:
                raise ConfigError(f"{model}: {changed[0]} of a module; omit it, or give --data and --classes, too")
            _export_module(parts, file, as_json, check, target=target, class_names=names, **how)
            return
        if check:
            raise ConfigError(f"{model}: --check with --data; omit --data")
        module, shape = module_and_example(*parts)
        place = file or Path(parts[0].rpartition(":")[0]).with_suffix(targets.TARGETS[target].suffix)
        how |= {"class_names": names, "slice_by": slice_by}
        report = targets.export(module, shape, place, target=target, **given, **how, **options)
        show(report, as_json, lambda: Text(targets.summary(place, report)))
        return
    expect_no_module(model, weights or rename or classes, example, layout, steps)
    if check:
        _show_unsupported(targets.list_unsupported(model, target=target, **options), str(model), as_json)
    file = file or targets.default_place(model, target, options)
    report = targets.export(model, file, target=target, **given, **options)
    show(report, as_json, lambda: Text(targets.summary(file, report)))


def _export_module(
    parts: tuple[Any, ...], file: Path | None, as_json: bool, check: bool, class_names: list[str] | None, **how: Any
) -> None:
    """Exports a torch module of the user's, or lists what cannot be exported."""
    module, given = module_and_example(*parts)
    from neuromoco.export.modules.export import export_module, summary, unsupported_in

    if check:
        _show_unsupported(unsupported_in(module, given, **how), parts[0], as_json)
    file = file or Path(parts[0].rpartition(":")[0]).with_suffix(targets.TARGETS[how["target"]].suffix)
    report = export_module(module, given, file, class_names=class_names, **how)
    show(report, as_json, lambda: Text("\n".join(summary(file, report))))


def expect_no_module(model: Path, weights: object, example: str | None, layout: str, steps: int | None) -> None:
    """Refuses options of modules with anything else."""
    if weights or example or steps or layout != "TN":
        raise ConfigError(f"{model}: is no module; --weights, --example, --layout and --steps go with file.py:name")


def module_and_example(
    source: str, weights: Path | None, renames: list[str] | None, example: str | None
) -> tuple[Any, Any]:
    """A torch module of the user's, and an example of its input."""
    need("export", "reading a torch module")
    if example is None:
        raise ConfigError(f"{source}: give the shape of its input, --example T,N,C,H,W, or a .npy of an example")
    from neuromoco.export.modules.source import load_example, load_module

    if renames and weights is None:
        raise ConfigError(f"--rename {renames[0]}: goes with --weights FILE")
    given = load_example(example)
    return load_module(source, weights, renames or ()), given


def _show_unsupported(unsupported: Sequence[Unsupported], source: str, as_json: bool) -> NoReturn:
    """Shows what cannot be exported, and ends."""
    if as_json or not unsupported:
        line = f"{escape(source)}: every layer can be exported"
        show([vars(layer) for layer in unsupported], as_json, lambda: line)
    for layer in unsupported:
        complain(UnsupportedLayerError(str(layer)))
    raise typer.Exit(UnsupportedLayerError.exit_code if unsupported else 0)


@app.command()
def verify(
    folder: Annotated[Path, typer.Argument(help="A Loihi export.")],
    recordings: Annotated[
        list[Path] | None, typer.Argument(help="Event files, or folders of them; by default the bundled ones.")
    ] = None,
    most: Annotated[int, typer.Option(min=1, help="Largest number of recordings, evenly chosen.")] = 50,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Run a Loihi export in Lava's simulator, and compare every spike and logit with the integer twin.

    The runner is this package's own: nothing in the folder is executed.

    Example: neuromoco verify walk.loihi recordings/
    """
    need("loihi")
    from neuromoco.export.to_loihi.verify import verify_folder

    result = verify_folder(folder, files_in(recordings or models.example_paths()), most)
    if result["runner"] == "different":
        complain(f"{folder}: its run_lava.py or lava_parts differ from this version's, which were run instead")
    show(result, as_json, lambda: verified_table(str(folder), result))
    if result["problem"]:
        raise ParityError(f"{folder}: {result['problem']}")
