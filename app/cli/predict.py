"""Commands that use trained networks: classify files, measure speed, list models."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from neuromoco import models
from neuromoco.app.cli.arguments import crop_in, microseconds
from neuromoco.app.cli.command_group import (
    Abstain,
    AsJson,
    Backend,
    Device,
    Quiet,
    app,
    complain,
    out,
    print_json,
    show,
)
from neuromoco.app.cli.events import CropWord, warn_of
from neuromoco.app.cli.recordings import READING, takes_recordings
from neuromoco.app.cli.tables import answer_line, bench_table, model_lines
from neuromoco.app.cli.timelines import (
    AsTimeline,
    LabelsOut,
    Least,
    Pause,
    Quietest,
    Shortest,
    Stride,
    table_root,
    timeline_settings,
    timeline_table,
    write_segments,
)  # fmt: skip
from neuromoco.checkpoint import is_checkpoint
from neuromoco.config import RecordingsConfig
from neuromoco.datasets.samples import read_options
from neuromoco.errors import ConfigError, EventFileError, NeuromocoError
from neuromoco.events.piped import is_pipe
from neuromoco.events.recording import NOTHING_ODD
from neuromoco.runtime.facts import facts_of
from neuromoco.runtime.loihi.manifest import MANIFEST, NET
from neuromoco.runtime.prediction import Prediction
from neuromoco.runtime.timeline import Timeline
from neuromoco.support.console import console, escape
from neuromoco.support.files import files_in

Model = Annotated[
    Path | None,
    typer.Option(help="An exported .onnx file, a Loihi export or a checkpoint; by default the bundled model."),
]


@app.command()
@takes_recordings(READING)
def predict(
    files: Annotated[list[Path], typer.Argument(help="Event files, or folders of event files; - reads a pipe.")],
    model: Model = None,
    stop_at: Annotated[
        float | None, typer.Option(help="Stop at the first step where a class reaches this probability (onnx-step).")
    ] = None,
    abstain: Abstain = None,
    backend: Backend = "auto",
    any_length: Annotated[
        bool,
        typer.Option(
            "--any-length", help="Accept short recordings also if the model is of a version that does not judge them."
        ),
    ] = False,
    crop: CropWord = None,
    window: Annotated[str | None, typer.Option(help="Classify each window of this length, for example 500ms.")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Number of processes.")] = 1,
    timeline: AsTimeline = False,
    stride: Stride = None,
    pause: Pause = None,
    shortest: Shortest = None,
    quiet_below: Quietest = None,
    least: Least = None,
    labels_out: LabelsOut = None,
    device: Device = "auto",
    as_json: AsJson = False,
    quiet: Quiet = False,
    *,
    recordings: RecordingsConfig,
) -> None:
    """Classify event files. A file that cannot be read is reported, and the others are still classified.

    Example: neuromoco predict walk.aedat4 --model walk.onnx
    """
    from neuromoco.runtime.batch import Job, classify_files

    options = read_options(recordings)
    length = None if window is None else microseconds(window)
    durations = {"stride": stride, "pause": pause, "shortest": shortest}
    numbers = {"quiet": quiet_below, "least": least}
    rule = timeline_settings(timeline, window, durations, numbers, labels_out)
    if rule is not None and (stop_at is not None or abstain is not None):
        raise ConfigError("--stop-at or --abstain with a timeline, which has --least")
    failed, oddities = 0, dict.fromkeys(files_in(files), NOTHING_ODD)
    root = table_root(list(oddities)) if labels_out else None
    model = model_or_default(model, backend)
    job = Job(model, device, backend, any_length, stop_at, length, options, crop_in(crop), abstain, rule)
    timelines: dict[Path, Timeline] = {}
    for answer in classify_files(list(oddities), job, 1 if any(map(is_pipe, oddities)) else jobs):
        oddities[answer.file] = oddities[answer.file].and_of(answer.oddities)
        if isinstance(answer.result, EventFileError) and (model_given := model_of(answer.file)):
            told = EventFileError(f"{answer.file}: is a model: give it with --model {model_given}")
            answer = replace(answer, result=told)
        if isinstance(answer.result, NeuromocoError):
            failed = answer.result.exit_code
            complain(answer.result)
        if isinstance(answer.result, Timeline):
            timelines[answer.file] = answer.result
        if as_json:
            print_json(answer.to_json(), indent=None)
        elif isinstance(answer.result, Timeline):
            out.print(timeline_table(answer.file, answer.result))
        elif not isinstance(answer.result, NeuromocoError):
            out.print(answer_line(answer))
    warn_of(oddities)
    if labels_out and root and timelines:
        count, unknown = write_segments(labels_out, root, timelines)
        more = f"; without {unknown} of unknown class" if unknown else ""
        message = f"wrote {count} segments to {escape(str(labels_out))}, for --data {escape(str(root))}{more}"
        console.print(message, soft_wrap=True)
    if failed:
        raise typer.Exit(failed)


def model_or_default(model: Path | None, backend: str = "auto") -> Path:
    """The model that was given, or the bundled one."""
    if model is None:
        model = models.model_path(suffix=models.SUFFIXES.get(backend, ".onnx"))
        console.print(
            f"no --model given: using {models.DEFAULT}, trained on simulated digits (neuromoco models)", soft_wrap=True
        )
    return model


def model_of(file: Path) -> Path | None:
    """The model that a file is, or is a part of; None if it is none."""
    if all((file.parent / name).is_file() for name in (MANIFEST, NET)):
        return file.parent
    return file if is_checkpoint(file) or (file.suffix == ".onnx" and file.is_file()) else None


@app.command()
def bench(
    files: Annotated[list[Path] | None, typer.Argument(help="Event files; by default the bundled ones.")] = None,
    model: Model = None,
    runs: Annotated[int, typer.Option(min=1, help="How often to classify each file.")] = 20,
    threads: Annotated[int, typer.Option(min=0, help="Threads of the runtime; 0 means one per core.")] = 0,
    device: Device = "auto",
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Measure how long a model takes on this machine, stage by stage.

    Example: neuromoco bench walk.aedat4 --model walk.onnx
    """
    from neuromoco.runtime.batch import Job

    model, files = model_or_default(model), files_in(files or models.example_paths())
    job = Job(model, device, any_length=True)
    classifier = job.load(threads)
    stages: dict[str, list[float]] = {}
    for run in range(runs + 1):  # the first warms up
        for file in files:
            answer = job.whole(classifier, file).result
            if isinstance(answer, NeuromocoError):
                raise answer
            if run and isinstance(answer, Prediction):
                for stage, seconds in (*answer.timings.items(), ("in all", sum(answer.timings.values()))):
                    stages.setdefault(stage, []).append(1e3 * seconds)
    figures = {
        stage: {"median": float(np.median(ms)), "p95": float(np.percentile(ms, 95))} for stage, ms in stages.items()
    }
    result = {
        "model": str(model),
        "files": len(files),
        "runs": runs,
        "per_second": 1e3 / figures["in all"]["median"],
        "milliseconds": figures,
    }
    show(result, as_json, lambda: bench_table(result))


@app.command(name="models")
def list_models(as_json: AsJson = False, quiet: Quiet = False) -> None:
    """List the classifiers and the encoders that ship with the package.

    Example: neuromoco models
    """
    files = [models.model_path(name) for name in models.available_models()]
    files += [models.model_path(name, ".safetensors") for name in models.available_encoders()]
    rows = [{"name": file.stem, "file": str(file), **facts_of(file)} for file in files]
    show(rows, as_json, lambda: "\n".join(map(model_lines, rows)))
