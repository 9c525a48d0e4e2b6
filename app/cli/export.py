"""Commands that write a trained network for other runtimes, and check what was written."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.markup import escape

from neuromoco import models
from neuromoco.app.cli.command_group import AsJson, Quiet, app, complain, out, print_json
from neuromoco.app.cli.tables import export_lines, loihi_lines, nir_lines, verified_table
from neuromoco.errors import ConfigError, ParityError, UnsupportedLayerError
from neuromoco.support.console import console
from neuromoco.support.extras import need
from neuromoco.support.files import files_in

Target = Literal["onnx", "onnx-step", "loihi", "nir"]
SUFFIXES = {"onnx": ".onnx", "onnx-step": ".onnx", "loihi": ".loihi", "nir": ".nir"}


@app.command()
def export(
    model: Annotated[Path, typer.Argument(help="A checkpoint of a classifier.")],
    file: Annotated[
        Path | None,
        typer.Option("--out", help="The file (loihi: folder) to write; by default beside the checkpoint."),
    ] = None,
    target: Annotated[
        Target,
        typer.Option(help="onnx: all time steps in one call; onnx-step: one a call; loihi: for Lava; nir: for others."),
    ] = "onnx",
    source: Annotated[
        Literal["frames", "events"], typer.Option("--input", help="What an ONNX file takes; events bins them itself.")
    ] = "frames",
    quantize: Annotated[
        Literal["int8"] | None, typer.Option(help="8-bit weights and values in ONNX, calibrated on --data.")
    ] = None,
    rates: Annotated[
        bool, typer.Option("--spike-rates", help="Spike rates of every layer as an output of ONNX.")
    ] = False,
    dialect: Annotated[
        Literal["stock", "extended"] | None,
        typer.Option(
            help="Of a Loihi export; stock is a chain that any Lava-DL loads, and the default where it can be."
        ),
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Recordings to compare the result with its source on, or to calibrate it.")
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="List what cannot be exported, and write nothing.")] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Write a trained classifier for another runtime, compared with its source layer by layer.

    Example: neuromoco export runs/tuned/weights/best.safetensors --out walk.onnx
    """
    console.quiet = quiet
    _check_options(target, source, quantize, rates, dialect)
    need("export")
    if target in ("loihi", "nir"):
        need(target, f"--target {target}")
    if check:
        _list_unsupported(model, target, dialect, as_json)
        return
    from neuromoco.export.check.parity import some_recordings
    from neuromoco.export.header import OnnxOptions
    from neuromoco.export.to_onnx.export import export_onnx

    onnx = OnnxOptions("onnx-step" if target == "onnx-step" else "onnx", source, rates, quantize)
    suffix = onnx.suffix if target.startswith("onnx") else ""
    file = file or model.with_name(f"{model.stem}{suffix}{SUFFIXES[target]}")
    if target == "loihi":
        from neuromoco.export.to_loihi.export import export_loihi

        report = export_loihi(model, file, dialect, [], data)
        lines = loihi_lines(file, report)
        _print(report, lines, as_json)
        return
    recordings = some_recordings(files_in([data]) if data else models.example_paths())
    if target == "nir":
        from neuromoco.export.to_nir.export import export_nir

        report = export_nir(model, file, recordings)
        lines = nir_lines(file, report)
    else:
        report = export_onnx(model, file, onnx, recordings, data)
        lines = export_lines(file, report)
    _print(report, lines, as_json)


def _print(report: dict[str, Any], lines: str, as_json: bool) -> None:
    if as_json:
        print_json(report)
    else:
        out.print(lines)


def _check_options(target: Target, source: str, quantize: str | None, rates: bool, dialect: str | None) -> None:
    """Refuses options of another target."""
    if not target.startswith("onnx") and (source == "events" or quantize or rates):
        raise ConfigError(f"--target {target} with options of ONNX; leave --input, --quantize and --spike-rates out")
    if target != "loihi" and dialect:
        raise ConfigError(f"--dialect with --target {target}; it goes with --target loihi")


def _list_unsupported(model: Path, target: Target, dialect: Any, as_json: bool) -> None:
    if target == "loihi":
        from neuromoco.export.to_loihi.export import list_unsupported_loihi

        found = list_unsupported_loihi(model, dialect)
    elif target == "nir":
        from neuromoco.export.to_nir.export import list_unsupported_nir

        found = list_unsupported_nir(model)
    else:
        from neuromoco.export.to_onnx.export import list_unsupported

        found = list_unsupported(model)
    if as_json:
        print_json([vars(entry) for entry in found])
    elif not found:
        out.print(f"{escape(str(model))}: every layer can be exported")
    for entry in found:
        complain(UnsupportedLayerError(str(entry)))
    raise typer.Exit(UnsupportedLayerError.exit_code if found else 0)


@app.command()
def verify(
    folder: Annotated[Path, typer.Argument(help="A Loihi export.")],
    recordings: Annotated[
        list[Path] | None, typer.Argument(help="Event files, or folders of them; by default the bundled ones.")
    ] = None,
    most: Annotated[int, typer.Option(min=1, help="At most so many recordings, evenly chosen.")] = 50,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Run a Loihi export in Lava's simulator, and compare every spike and logit with the integer twin.

    Example: neuromoco verify walk.loihi recordings/
    """
    console.quiet = quiet
    need("loihi")
    from neuromoco.export.to_loihi.verify import verify_folder

    result = verify_folder(folder, files_in(recordings or models.example_paths()), most)
    if as_json:
        print_json(result)
    else:
        out.print(verified_table(str(folder), result))
    if result["problem"]:
        raise ParityError(f"{folder}: {result['problem']}")
