"""Commands on a frozen encoder: probe its features, and write its features of files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Group

from neuromoco.app.cli.arguments import crop_in
from neuromoco.app.cli.command_group import AsJson, Device, Quiet, app, complain, show
from neuromoco.app.cli.events import CropWord
from neuromoco.app.cli.recordings import READING, SAMPLES, takes_recordings
from neuromoco.app.cli.tables import evaluation_table, probe_lines
from neuromoco.config import RecordingsConfig, parse_changes
from neuromoco.datasets.samples import read_options
from neuromoco.errors import ConfigError
from neuromoco.support.console import escape
from neuromoco.support.extras import need

Model = Annotated[
    Path,
    typer.Argument(
        help="An encoder or a classifier: a run, a checkpoint, a name of `neuromoco models`, hf://owner/name."
    ),
]
Changes = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="FRAMES.B=VALUE", help="Other frames than it was trained with; repeatable."),
]
Features = Annotated[Literal["mean", "steps"], typer.Option(help="Use the mean over time, or every step.")]


@app.command()
@takes_recordings(READING | SAMPLES)
def probe(
    model: Model,
    data: Annotated[str, typer.Option(help="Training recordings: a folder of class folders, or a data set.")],
    kind: Annotated[Literal["knn", "linear"], typer.Option(help="Nearest neighbours, or logistic regression.")] = "knn",
    test: Annotated[
        str | None, typer.Option(help="Recordings to measure on; by default a test part or a share of --data.")
    ] = None,
    validation: Annotated[
        float | None, typer.Option(help="Measure on this share of each class of --data; 0.2 by default for a folder.")
    ] = None,
    features: Features = "mean",
    labels_per_class: Annotated[int | None, typer.Option(min=1, help="Train on this many per class.")] = None,
    crop: CropWord = None,
    changes: Changes = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed for choosing recordings.")] = 0,
    device: Device = "auto",
    as_json: AsJson = False,
    quiet: Quiet = False,
    *,
    recordings: RecordingsConfig,
) -> None:
    """Measure how well the features of a frozen encoder separate the classes.

    Example: neuromoco probe runs/pre --data labelled/ --kind linear
    """
    if test is not None and validation is not None:
        raise ConfigError("--test with --validation; give the recordings to measure on, or a share of --data")
    need("train")
    from neuromoco.datasets import list_data
    from neuromoco.datasets.named import NAMES
    from neuromoco.evaluation.probe import VALIDATION
    from neuromoco.evaluation.probe import probe as measure

    test = test or (data if data in NAMES and validation is None else None)
    result = measure(
        model,
        list_data(data, "train", recordings=recordings).of_part(crop_in(crop)),
        list_data(test, "test", recordings=recordings).of_part(crop_in(crop)) if test else None,
        kind=kind,
        per_step=features == "steps",
        validation=VALIDATION if validation is None else validation,
        labels_per_class=labels_per_class,
        seed=seed,
        device=device,
        frames=parse_changes(changes or []),
    )
    show(result.to_json(), as_json, lambda: Group(evaluation_table(result.evaluation), probe_lines(result)))


@app.command()
@takes_recordings(READING)
def embed(
    model: Model,
    files: Annotated[list[Path], typer.Argument(help="Event files, or folders of them; folders inside are classes.")],
    to: Annotated[Path, typer.Option("--out", help="File for the features; .png and .html maps go next to it.")],
    features: Annotated[
        Literal["mean", "steps"], typer.Option(help="Write [S, D], or every step, [S, T, D].")
    ] = "mean",
    method: Annotated[
        Literal["tsne", "pca"], typer.Option("--map", help="t-SNE preserves neighbourhoods, PCA large distances.")
    ] = "tsne",
    seed: Annotated[int, typer.Option(min=0, help="Seed for t-SNE.")] = 0,
    crop: CropWord = None,
    changes: Changes = None,
    any_length: Annotated[
        bool, typer.Option("--any-length", help="Accept recordings much shorter than those of the training.")
    ] = False,
    device: Device = "auto",
    as_json: AsJson = False,
    quiet: Quiet = False,
    *,
    recordings: RecordingsConfig,
) -> None:
    """Write an encoder's features of event files, and a map of them. Files that cannot be read are reported.

    Example: neuromoco embed runs/pre recordings/ --out features.npz
    """
    need("train")
    from neuromoco.evaluation.embedding import embed_files, find_files, output_paths, write_embedding

    output_paths(to)  # reports a wrong name before the work
    reading, frames = read_options(recordings), parse_changes(changes or [])
    embedding = embed_files(model, find_files(files), device, reading, any_length, crop_in(crop), frames)
    written = write_embedding(to, embedding, features == "steps", method, seed)
    for problem in embedding.problems:
        complain(problem)
    shape = list(embedding.features.shape if features == "steps" else embedding.features.mean(1).shape)
    facts = {
        "files": [str(path) for path in written],
        "features": shape,
        "class_names": list(embedding.class_names),
        "encoder_sha256": embedding.encoder_sha256,
        "left_out": [str(problem) for problem in embedding.problems],
    }
    names = ", ".join(escape(str(path)) for path in written)
    line = f"{names}: {shape[0]} recordings, {len(embedding.class_names)} classes, features {shape}"
    show(facts, as_json, lambda: line)
    if embedding.problems:
        raise typer.Exit(embedding.problems[-1].exit_code)
