"""The command line. Each command is thin: it turns words into calls and results into words."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.markup import escape

from neuromoco import __version__, read_recording
from neuromoco.app.commands import Commands, complain, need_training, print_json
from neuromoco.app.render import demo_table, encoder_table, evaluation_table, facts_table, prediction_line
from neuromoco.app.settings import default_run_folder, facts_of, run_settings
from neuromoco.config import dump_config
from neuromoco.console import console
from neuromoco.errors import ConfigError, NeuromocoError
from neuromoco.prediction import check_complete
from neuromoco.recipes import DEFAULT, list_recipes, load_recipe

app = typer.Typer(
    name="neuromoco",
    help="Unlabelled event-camera recordings in, a small spiking classifier out.",
    no_args_is_help=True,
    cls=Commands,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
out = Console(highlight=False, soft_wrap=True)

Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, only results and errors.")]


@app.callback(invoke_without_command=True)
def common(
    ctx: typer.Context,
    show_version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an error that ends the command.")
    ] = False,
) -> None:
    """Unlabelled event-camera recordings in, a small spiking classifier out."""
    if show_version:
        out.print(__version__)
        raise typer.Exit
    if ctx.invoked_subcommand is None:
        out.print(ctx.get_help())


@app.command()
def train(
    stage: Annotated[
        Literal["pretrain", "finetune", "supervised", "all"] | None,
        typer.Option(help="pretrain needs no labels; all is pretrain, then finetune."),
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="A folder of class folders, or a flat one to pretrain on; or digits.")
    ] = None,
    recipe: Annotated[str | None, typer.Option(help=f"One of {', '.join(list_recipes())}, or a .yaml file.")] = None,
    encoder: Annotated[str | None, typer.Option(help="A name that `neuromoco encoders` lists.")] = None,
    init: Annotated[str | None, typer.Option(help="The pre-trained encoder to finetune.")] = None,
    labels_per_class: Annotated[int | None, typer.Option(help="Train on so many labels of each class.")] = None,
    freeze: Annotated[bool, typer.Option("--freeze", help="Finetune the head alone.")] = False,
    epochs: Annotated[int | None, typer.Option(help="Epochs of the stage.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of weights, order, views and splits.")] = None,
    changes: Annotated[
        list[str] | None, typer.Option("--set", metavar="A.B=VALUE", help="Change one setting; may be repeated.")
    ] = None,
    folder: Annotated[Path | None, typer.Option("--out", help="The run folder to make.")] = None,
    resume: Annotated[
        Path | None, typer.Option(help="Go on with the run in this folder; its settings are kept.")
    ] = None,
    print_config: Annotated[bool, typer.Option("--print-config", help="Print the settings and stop.")] = False,
    device: Device = "auto",
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Train an encoder or a classifier.

    Example: neuromoco train --stage pretrain --data recordings/ --out runs/pretrain
    """
    console.quiet = quiet
    words = {"stage": stage, "data": data, "init": init, "seed": seed, "encoder.name": encoder}
    if resume is not None:
        others = [*words.values(), recipe, labels_per_class, epochs, changes, folder]
        if freeze or print_config or any(other is not None for other in others):
            raise ConfigError("--resume takes its settings from the run folder; give it alone, or with --device")
        need_training()
        from neuromoco.train import resume as go_on

        _run(resume, lambda run: go_on(run, device), as_json)
        return
    config = run_settings(
        load_recipe(recipe or DEFAULT),
        words,
        changes or [],
        epochs=epochs,
        labels_per_class=labels_per_class,
        freeze=freeze,
    )
    if print_config:
        out.print(dump_config(config), end="", markup=False)
        return
    need_training()
    from neuromoco.train import train as begin

    _run(folder or default_run_folder(config), lambda run: begin(config, run, device), as_json)


def _run(folder: Path, work: Callable[[Path], dict[str, Any]], as_json: bool) -> None:
    try:
        summary = work(folder)
    except KeyboardInterrupt:
        print(
            f"neuromoco: interrupted; go on with it: neuromoco train --resume {shlex.quote(str(folder))}",
            file=sys.stderr,
        )
        raise
    from neuromoco.train import best_weights

    weights = best_weights(folder)
    if as_json:
        print_json({"run": str(folder), "weights": str(weights), **summary})
        return
    for name, line in summary.items():
        if line:
            accuracy, loss = line.get("validation_accuracy"), line["loss"]
            figure = f"loss {loss:.3f}" if accuracy is None else f"validation accuracy {accuracy:.1%}"
            out.print(f"{name} epoch {line['epoch']}: {figure}")
    out.print(f"weights: {escape(str(weights))}")


@app.command()
def evaluate(
    model: Annotated[Path, typer.Argument(help="A checkpoint of a classifier.")],
    data: Annotated[str, typer.Option(help="A folder of class folders, or digits (its test part).")],
    device: Device = "auto",
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Measure a classifier on recordings with labels.

    Example: neuromoco evaluate runs/tuned/weights/best.safetensors --data test/
    """
    console.quiet = quiet
    need_training()
    from neuromoco.classifier import TrainedClassifier
    from neuromoco.datasets import data_folder
    from neuromoco.evaluate import evaluate as measure

    result = measure(TrainedClassifier(model, device), data_folder(data, "test"))
    if as_json:
        print_json(result.to_json())
    else:
        out.print(evaluation_table(result))


@app.command()
def predict(
    files: Annotated[list[Path], typer.Argument(help="Event files.")],
    model: Annotated[Path, typer.Option(help="A checkpoint of a classifier.")],
    any_length: Annotated[
        bool, typer.Option("--any-length", help="Also recordings much shorter than those of the training.")
    ] = False,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Classify event files. A file that cannot be read is named, and the others are answered.

    Example: neuromoco predict walk.aedat4 --model runs/tuned/weights/best.safetensors
    """
    need_training()
    from neuromoco.classifier import TrainedClassifier

    classifier = TrainedClassifier(model, device)

    def answer(file: Path) -> None:
        recording = read_recording(file)
        if not any_length:
            check_complete(file, recording, classifier.header.seen)
        (prediction,) = classifier.predict([recording])
        if as_json:
            print_json({"file": str(file), **prediction.to_json()}, indent=None)
        else:
            out.print(f"{escape(str(file))}: {prediction_line(prediction)}")

    _each(files, answer, as_json)


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

    _each(files, show, as_json)


def _each(files: list[Path], work: Callable[[Path], None], as_json: bool) -> None:
    """Does every file, whatever becomes of the others; the exit code is that of the last that failed."""
    failed = 0
    for file in files:
        try:
            work(file)
        except NeuromocoError as error:
            failed = error.exit_code
            complain(error)
            if as_json:
                print_json({"file": str(file), "error": str(error)}, indent=None)
    if failed:
        raise typer.Exit(failed)


@app.command()
def encoders(as_json: AsJson = False) -> None:
    """List the encoders that --encoder takes.

    Example: neuromoco encoders
    """
    need_training()
    from neuromoco.encoders import describe_encoders

    rows = describe_encoders()
    if as_json:
        print_json(rows)
    else:
        out.print(encoder_table(rows))


@app.command()
def demo(
    folder: Annotated[
        Path | None, typer.Option("--out", help="Where to write; by default runs/demo-1, -2, ...")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 0,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Do the whole chain on the built-in recordings, in some minutes.

    Pre-train without labels, fine-tune with 5 labels a class, train the same encoder from scratch with the
    same labels, measure both on held-out recordings, and classify one recording from a file.

    Example: neuromoco demo
    """
    console.quiet = quiet
    need_training()
    from neuromoco.app.demo import run_demo

    result = run_demo(folder, seed)
    if as_json:
        print_json(result)
    else:
        out.print(demo_table(result))


def main() -> None:
    """The command `neuromoco`."""
    app()
