"""Commands that use trained networks: classify, inspect, export, measure speed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.markup import escape

from neuromoco import models
from neuromoco.app.commands import AsJson, Device, Quiet, app, complain, each_file, out, print_json
from neuromoco.app.render import bench_table, export_lines, facts_table, model_lines, prediction_line
from neuromoco.app.settings import facts_of, files_in
from neuromoco.console import console
from neuromoco.errors import NeuromocoError, UnsupportedLayerError
from neuromoco.extras import need

Model = Annotated[
    Path | None, typer.Option(help="An exported .onnx file, or a checkpoint; by default the model that comes along.")
]


@app.command()
def predict(
    files: Annotated[list[Path], typer.Argument(help="Event files, or folders of them.")],
    model: Model = None,
    stop_at: Annotated[
        float | None, typer.Option(help="Stop at the first step at which a class has this probability (onnx-step).")
    ] = None,
    any_length: Annotated[
        bool, typer.Option("--any-length", help="Also recordings much shorter than those of the training.")
    ] = False,
    jobs: Annotated[int, typer.Option(min=1, help="Processes.")] = 1,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Classify event files. A file that cannot be read is named, and the others are answered.

    Example: neuromoco predict walk.aedat4 --model walk.onnx
    """
    from neuromoco.app.runtime import Job, classify_files

    failed = 0
    job = Job(_model_or_default(model), device, any_length, stop_at)
    for file, answer in classify_files(files_in(files), job, jobs):
        if isinstance(answer, NeuromocoError):
            failed = answer.exit_code
            complain(answer)
            if as_json:
                print_json({"file": str(file), "error": str(answer)}, indent=None)
        elif as_json:
            print_json({"file": str(file), **answer.to_json()}, indent=None)
        else:
            out.print(f"{escape(str(file))}: {prediction_line(answer)}")
    if failed:
        raise typer.Exit(failed)


def _model_or_default(model: Path | None) -> Path:
    if model is None:
        model = models.model_path()
        console.print(
            f"no --model given: using {models.DEFAULT}, which knows simulated digits (neuromoco models)", soft_wrap=True
        )
    return model


@app.command()
def info(
    files: Annotated[list[Path], typer.Argument(help="Recordings or checkpoints.")],
    as_json: AsJson = False,
) -> None:
    """Say what a recording or a checkpoint holds.

    Example: neuromoco info walk.aedat4 runs/tuned/weights/best.safetensors
    """

    def show(file: Path) -> None:
        facts = facts_of(file)
        if as_json:
            print_json({"file": str(file), **facts}, indent=None)
        else:
            out.print(facts_table(str(file), facts))

    each_file(files, show, as_json)


@app.command()
def export(
    model: Annotated[Path, typer.Argument(help="A checkpoint of a classifier.")],
    file: Annotated[
        Path | None, typer.Option("--out", help="The file to write; by default beside the checkpoint.")
    ] = None,
    target: Annotated[
        Literal["onnx", "onnx-step"], typer.Option(help="onnx: all time steps in one call; onnx-step: one a call.")
    ] = "onnx",
    source: Annotated[
        Literal["frames", "events"], typer.Option("--input", help="What the file takes; events bins them itself.")
    ] = "frames",
    quantize: Annotated[
        Literal["int8"] | None, typer.Option(help="8-bit weights and values, calibrated on --data.")
    ] = None,
    rates: Annotated[bool, typer.Option("--spike-rates", help="Spike rates of every layer as another output.")] = False,
    data: Annotated[
        Path | None, typer.Option(help="Recordings to compare the file with its source on, or to calibrate it.")
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="List what cannot be exported, and write nothing.")] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Write a trained classifier for another runtime, compared with its source layer by layer.

    Example: neuromoco export runs/tuned/weights/best.safetensors --out walk.onnx
    """
    console.quiet = quiet
    need("export")
    from neuromoco.export.onnx_export import OnnxOptions, export_onnx, list_unsupported
    from neuromoco.export.parity import some_recordings

    if check:
        found = list_unsupported(model)
        if as_json:
            print_json([vars(entry) for entry in found])
        elif not found:
            out.print(f"{escape(str(model))}: every layer can be exported")
        for entry in found:
            complain(UnsupportedLayerError(str(entry)))
        raise typer.Exit(UnsupportedLayerError.exit_code if found else 0)
    options = OnnxOptions(target, source, rates, quantize)
    file = file or model.with_name(f"{model.stem}{options.suffix}.onnx")
    recordings = some_recordings(files_in([data]) if data else models.example_paths())
    report = export_onnx(model, file, options, recordings, data)
    if as_json:
        print_json(report)
    else:
        out.print(export_lines(file, report))


@app.command()
def bench(
    files: Annotated[list[Path] | None, typer.Argument(help="Event files; by default the bundled ones.")] = None,
    model: Model = None,
    runs: Annotated[int, typer.Option(min=1, help="Times that each file is classified.")] = 20,
    threads: Annotated[int, typer.Option(min=0, help="Of the runtime; 0 takes one a core.")] = 0,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Measure how long a model takes on this machine, stage by stage.

    Example: neuromoco bench walk.aedat4 --model walk.onnx
    """
    from neuromoco.app.bench import measure

    result = measure(_model_or_default(model), files_in(files or models.example_paths()), runs, threads, device)
    if as_json:
        print_json(result)
    else:
        out.print(bench_table(result))


@app.command(name="models")
def list_models(as_json: AsJson = False) -> None:
    """List the models that come with the package.

    Example: neuromoco models
    """
    rows = [
        {"name": name, "file": str(models.model_path(name)), **facts_of(models.model_path(name))}
        for name in models.available_models()
    ]
    if as_json:
        print_json(rows)
    else:
        for row in rows:
            out.print(model_lines(row))
