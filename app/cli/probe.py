"""Commands that look into a frozen encoder: probes, and its features of files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.markup import escape

from neuromoco.app.cli.command_group import AsJson, Device, Quiet, app, complain, out, print_json
from neuromoco.app.cli.events import ColumnOrder, FileFormat, Sensor, TimeUnit, read_options
from neuromoco.app.cli.tables import evaluation_table, probe_lines
from neuromoco.errors import ConfigError
from neuromoco.support.console import console
from neuromoco.support.extras import need

Model = Annotated[Path, typer.Argument(help="A checkpoint: a pre-trained encoder, or a classifier (its encoder).")]
Features = Annotated[Literal["mean", "steps"], typer.Option(help="Their mean over time, or every step.")]


@app.command()
def probe(
    model: Model,
    data: Annotated[str, typer.Option(help="A folder of class folders, or a data set, to learn from.")],
    kind: Annotated[Literal["knn", "linear"], typer.Option(help="Nearest neighbours, or logistic regression.")] = "knn",
    test: Annotated[
        str | None, typer.Option(help="Recordings to answer; by default a data set's test part, or a share of --data.")
    ] = None,
    validation: Annotated[
        float | None, typer.Option(help="Answer this share of each class of --data instead; 0.2 for a folder.")
    ] = None,
    features: Features = "mean",
    labels_per_class: Annotated[int | None, typer.Option(min=1, help="Learn from so many of each class.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the choice of recordings.")] = 0,
    device: Device = "auto",
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Measure how much of the classes is in the features of a frozen encoder.

    Example: neuromoco probe runs/pre/weights/last.safetensors --data labelled/ --kind linear
    """
    console.quiet = quiet
    if test is not None and validation is not None:
        raise ConfigError("--test with --validation; give the recordings to answer, or the share of --data to answer")
    need("train")
    from neuromoco.datasets import list_data
    from neuromoco.datasets.named import NAMES
    from neuromoco.evaluation.probe import VALIDATION
    from neuromoco.evaluation.probe import probe as measure

    asked = test or (data if data in NAMES and validation is None else None)
    result = measure(
        model,
        list_data(data, "train"),
        list_data(asked, "test") if asked else None,
        kind=kind,
        per_step=features == "steps",
        validation=VALIDATION if validation is None else validation,
        labels_per_class=labels_per_class,
        seed=seed,
        device=device,
    )
    if as_json:
        print_json(result.to_json())
    else:
        out.print(evaluation_table(result.evaluation))
        out.print(probe_lines(result))


@app.command()
def embed(
    model: Model,
    files: Annotated[list[Path], typer.Argument(help="Event files, or folders of them; folders inside are classes.")],
    to: Annotated[Path, typer.Option("--out", help="The features' file; the map lies beside it as .png and .html.")],
    features: Annotated[
        Literal["mean", "steps"], typer.Option(help="Write [S, D], or every step, [S, T, D].")
    ] = "mean",
    method: Annotated[
        Literal["tsne", "pca"], typer.Option("--map", help="t-SNE keeps neighbours, PCA large distances.")
    ] = "tsne",
    seed: Annotated[int, typer.Option(min=0, help="Of t-SNE.")] = 0,
    any_length: Annotated[
        bool, typer.Option("--any-length", help="Also recordings much shorter than those of the training.")
    ] = False,
    format: FileFormat = None,
    sensor: Sensor = None,
    columns: ColumnOrder = None,
    time_unit: TimeUnit = None,
    device: Device = "auto",
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Write an encoder's features of event files, and a map of them. Files that cannot be read are named.

    Example: neuromoco embed runs/pre/weights/last.safetensors recordings/ --out features.npz
    """
    console.quiet = quiet
    need("train")
    from neuromoco.evaluation.embedding import embed_files, find_files, output_paths, write_embedding

    output_paths(to)  # a wrong name is told before the work
    options = read_options(format, sensor, columns, time_unit)
    embedding = embed_files(model, find_files(files), device, options, any_length)
    written = write_embedding(to, embedding, features == "steps", method, seed)
    for problem in embedding.problems:
        complain(problem)
    shape = list(embedding.features.shape if features == "steps" else embedding.features.mean(1).shape)
    if as_json:
        print_json(
            {
                "files": [str(path) for path in written],
                "features": shape,
                "class_names": list(embedding.class_names),
                "encoder_sha256": embedding.encoder_sha256,
                "left_out": [str(problem) for problem in embedding.problems],
            }
        )
    else:
        names = ", ".join(escape(str(path)) for path in written)
        out.print(f"{names}: {shape[0]} recordings, {len(embedding.class_names)} classes, features {shape}")
    if embedding.problems:
        raise typer.Exit(embedding.problems[-1].exit_code)
