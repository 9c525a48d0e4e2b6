"""Commands that train and measure."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from neuromoco.app.cli.arguments import default_run_folder, run_settings
from neuromoco.app.cli.command_group import AsJson, Device, Quiet, app, complain, out, print_json, show
from neuromoco.app.cli.events import CropWord
from neuromoco.app.cli.recordings import READING, SAMPLES, takes_recordings
from neuromoco.app.cli.survey import Minutes, starting_point
from neuromoco.app.cli.tables import demo_table, dry_run_lines, encoder_table
from neuromoco.config import RecordingsConfig, dump_config
from neuromoco.errors import ConfigError
from neuromoco.recipes import list_recipes
from neuromoco.support.console import escape, is_first_here
from neuromoco.support.extras import need


@app.command()
@takes_recordings(READING | SAMPLES)
def train(
    stage: Annotated[
        Literal["pretrain", "finetune", "supervised", "all"] | None,
        typer.Option(help="pretrain needs no labels; all is pretrain, then finetune, compared with from scratch."),
    ] = None,
    data: Annotated[
        list[str] | None,
        typer.Option(
            help="A folder of class folders, or a data set. pretrain also takes a flat folder, or several --data."
        ),
    ] = None,
    recipe: Annotated[str | None, typer.Option(help=f"One of {', '.join(list_recipes())}, or a .yaml file.")] = None,
    encoder: Annotated[str | None, typer.Option(help="A name from `neuromoco encoders`.")] = None,
    init: Annotated[
        str | None,
        typer.Option(help="Encoder to start from: a run, a checkpoint, a name of `neuromoco models`, hf://owner/name."),
    ] = None,
    origin: Annotated[
        Literal["spikingjelly", "spikformer"] | None,
        typer.Option("--from", help="Whose names are in --init, if it holds weights of another project."),
    ] = None,
    labels_per_class: Annotated[int | None, typer.Option(help="Use this many labels per class, in all.")] = None,
    freeze: Annotated[bool, typer.Option("--freeze", help="Finetune only the head.")] = False,
    quantize: Annotated[
        Literal["loihi"] | None, typer.Option(help="Finetune with weights rounded as on this chip.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Number of epochs of the stage.")] = None,
    crop: CropWord = None,
    seed: Annotated[int | None, typer.Option(help="Seed for weights, order, views and splits.")] = None,
    changes: Annotated[
        list[str] | None, typer.Option("--set", metavar="A.B=VALUE", help="Change one setting; repeatable.")
    ] = None,
    folder: Annotated[Path | None, typer.Option("--out", help="Run folder to create.")] = None,
    resume: Annotated[Path | None, typer.Option(help="Resume the run in this folder, with its settings.")] = None,
    print_config: Annotated[bool, typer.Option("--print-config", help="Print the settings and stop.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print parameters, memory and steps, and stop. Needs no download.")
    ] = False,
    minutes: Minutes = None,
    device: Device = "auto",
    as_json: AsJson = False,
    quiet: Quiet = False,
    *,
    recordings: RecordingsConfig,
) -> None:
    """Train an encoder or a classifier.

    Without --recipe, the settings are those that `neuromoco survey` advises for the recordings. With --init alone, the
    encoder is fine-tuned on class folders, and pre-trained further on a flat folder.

    Example: neuromoco train --stage pretrain --data recordings/ --out runs/pretrain
    Example: neuromoco train --init runs/pretrain --data labelled/ --out runs/tuned
    """
    sets = data[0] if data and len(data) == 1 else data
    words = {"stage": stage, "data": sets or None, "init": init, "init_from": origin, "seed": seed}
    words["encoder.name"] = encoder
    words |= {f"recordings.{name}": value for name, value in recordings.to_plain().items()} | {"frames.crop": crop}
    if resume is not None:
        others = [*words.values(), recipe, labels_per_class, quantize, epochs, changes, folder, minutes]
        if freeze or print_config or dry_run or any(other is not None for other in others):
            raise ConfigError("--resume takes its settings from the run folder; give it alone, or with --device")
        need("train")
        from neuromoco.train import resume as resume_run

        _run(resume, lambda run: resume_run(run, device), as_json)
        return
    plan_only = print_config or dry_run
    if folder is not None and not plan_only and is_first_here():
        need("train")
        from neuromoco.train.run_folder import RunFolder

        RunFolder(folder).check_free()  # before all recordings are looked at
    config = run_settings(
        starting_point(recipe, words, changes or [], labels_per_class, epochs, minutes, plan=plan_only),
        words,
        changes or [],
        epochs=epochs,
        labels_per_class=labels_per_class,
        freeze=freeze,
        quantize=quantize,
    )
    if print_config:
        out.print(dump_config(config), end="", markup=False)
        return
    need("train")
    if dry_run:
        from neuromoco.train.dry_run import dry_run as plan_run

        plan = plan_run(config)
        show(plan, as_json, lambda: dry_run_lines(plan))
        return
    from neuromoco.train import train as start_run

    _run(folder or default_run_folder(config), lambda run: start_run(config, run, device), as_json)


def _run(folder: Path, work: Callable[[Path], dict[str, Any]], as_json: bool) -> None:
    try:
        summary = work(folder)
    except KeyboardInterrupt:
        complain(f"interrupted; to resume: neuromoco train --resume {shlex.quote(str(folder))}")
        raise
    if not is_first_here():
        return
    from neuromoco.train import best_weights

    weights = best_weights(folder)
    if as_json:
        print_json({"run": str(folder), "weights": str(weights), **summary})
        return
    for name in ("last", "best"):
        if line := summary[name]:
            epoch = f" epoch {line['epoch']}" if line["epoch"] else ""  # a linear probe has none
            out.print(f"{name}{epoch}: {_figure(line)}")
    out.print(f"weights: {escape(str(weights))}")


def _figure(line: dict[str, Any]) -> str:
    if "validation_accuracy" not in line:
        return f"loss {line['loss']:.3f}"
    accuracy, low, high = (line[f"validation_{name}"] for name in ("accuracy", "low", "high"))
    return f"validation accuracy {accuracy:.1%} (95 % interval {low:.1%} to {high:.1%})"


@app.command()
def encoders(as_json: AsJson = False, quiet: Quiet = False) -> None:
    """List the encoders for --encoder.

    Example: neuromoco encoders
    """
    need("train")
    from neuromoco.encoders import describe_encoders

    rows = describe_encoders()
    show(rows, as_json, lambda: encoder_table(rows))


@app.command()
def demo(
    folder: Annotated[
        Path | None, typer.Option("--out", help="Folder to write to; by default runs/demo-1, -2, ...")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed for all random numbers.")] = 0,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Run every step on the built-in recordings, in a few minutes.

    Pre-train without labels; with 1 label per class, drawn four times, fine-tune, and train the same encoder from
    scratch; measure both on held-out recordings, and classify one recording from a file.

    Example: neuromoco demo
    """
    need("train")
    from neuromoco.app.cli.demo import run_demo

    result = run_demo(folder, seed)
    show(result, as_json, lambda: demo_table(result))
