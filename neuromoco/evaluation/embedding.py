"""Features of many event files, and a map of them in two dimensions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from sklearn.preprocessing import normalize
from threadpoolctl import threadpool_limits

from neuromoco.checkpoint import CheckpointHeader
from neuromoco.errors import ConfigError, EventFileError
from neuromoco.evaluation.embedding_map import draw_map, map_page
from neuromoco.evaluation.features import BATCH, features_by_step, load_encoder, state_sha256
from neuromoco.events import ReadOptions, read_recording
from neuromoco.frames import recording_frames
from neuromoco.runtime.prediction import check_complete
from neuromoco.support.console import track
from neuromoco.support.device import pick_device
from neuromoco.support.files import files_in, writing

Method = Literal["tsne", "pca"]
FEWEST_TSNE = 10  # recordings; fewer have no neighbourhoods to keep
LARGEST_PERPLEXITY = 30.0
DIMENSIONS_BEFORE_TSNE = 50


@dataclass(frozen=True)
class Found:
    """An event file below a place that was given.

    Attributes:
        path: the file.
        class_name: the folder below the given one that it lies in; None where it lies in no such folder.
    """

    path: Path
    class_name: str | None


@dataclass(frozen=True)
class Embedding:
    """Features of S recordings.

    Attributes:
        header: of the checkpoint.
        encoder_sha256: of its encoder's parameters and buffers.
        files: S files.
        features: float32 [S, T, D].
        problems: why other files are not among them.
    """

    header: CheckpointHeader
    encoder_sha256: str
    files: tuple[Found, ...]
    features: NDArray[np.float32]
    problems: tuple[EventFileError, ...]

    @property
    def class_names(self) -> tuple[str, ...]:
        """Known classes, sorted, as numbers if all are numbers."""
        names = {file.class_name for file in self.files if file.class_name is not None}
        numbers = all(name.isdecimal() for name in names)
        return tuple(sorted(names, key=lambda name: (int(name) if numbers else 0, name)))

    @property
    def labels(self) -> NDArray[np.int64]:
        """Indices [S] into `class_names`, -1 where the class is not known."""
        names = self.class_names
        return np.array([-1 if f.class_name is None else names.index(f.class_name) for f in self.files], np.int64)


def find_files(places: Iterable[Path]) -> list[Found]:
    """Files, and those in folders at any depth; a folder's subfolders are classes."""
    found = []
    for place in places:
        for path in files_in([place]):
            inside = path.relative_to(place).parts
            found.append(Found(path, inside[0] if len(inside) > 1 else None))
    return found


def embed_files(
    model: Path,
    files: Sequence[Found],
    device: str = "auto",
    options: ReadOptions | None = None,
    any_length: bool = False,
) -> Embedding:
    """Features of files; those that cannot be read are left out and named.

    Args:
        model: a checkpoint with an encoder.
        files: which.
        device: "auto", "cpu" or "cuda".
        options: what the files do not say of themselves.
        any_length: also recordings much shorter than those of the training.

    Raises:
        CheckpointError: no usable checkpoint.
        EventFileError: no file at all can be read.
    """
    place = pick_device(device)
    encoder, header = load_encoder(model, place)
    problems: list[EventFileError] = []

    def readable() -> Iterator[tuple[Found, NDArray[Any]]]:
        for file in track(files, "reading recordings"):
            try:
                recording = read_recording(file.path, options=options)
                if not any_length:
                    check_complete(file.path, recording, header.seen)
                yield file, recording_frames(recording, header.frames)  # [T, P, H, W]
            except EventFileError as error:
                problems.append(error)

    used: list[Found] = []
    found: list[NDArray[np.float32]] = []
    stream = readable()
    while batch := list(islice(stream, BATCH)):
        used += [file for file, _ in batch]
        found.append(features_by_step(encoder, np.stack([frames for _, frames in batch]), place))
    if not used:
        raise EventFileError("; ".join(str(problem) for problem in problems[:3]))
    return Embedding(header, state_sha256(encoder), tuple(used), np.concatenate(found), tuple(problems))


def plane(features: NDArray[np.floating[Any]], method: Method, seed: int) -> tuple[NDArray[np.float64], str]:
    """Places [S, 2] of features [S, D] by their directions, and what placed them.

    Args:
        features: [S, D].
        method: "tsne" keeps neighbours together (fewer than 10 recordings take PCA), "pca" keeps large distances.
        seed: of t-SNE.
    """
    directions = normalize(features.astype(np.float64))
    count = len(directions)
    if method == "tsne" and count >= FEWEST_TSNE:
        fewer = PCA(min(DIMENSIONS_BEFORE_TSNE, *directions.shape), random_state=seed).fit_transform(directions)
        tsne = TSNE(perplexity=min(LARGEST_PERPLEXITY, (count - 1) / 3), init="pca", random_state=seed)
        with threadpool_limits(1):  # sums in another order would give another map
            return tsne.fit_transform(fewer), "t-SNE"
    centred = directions - directions.mean(0)
    left, singular, _ = np.linalg.svd(centred, full_matrices=False)
    places = np.zeros((count, 2))
    kept = min(2, len(singular))
    places[:, :kept] = left[:, :kept] * singular[:kept]
    return places, "PCA"


def write_embedding(out: Path, embedding: Embedding, per_step: bool, method: Method, seed: int) -> list[Path]:
    """Writes features, map and page beside each other: all three, or none.

    Args:
        out: the .npz file; the map takes its name with .png and .html.
        embedding: what to write.
        per_step: keep the time steps in the file; the map is of their mean.
        method: see `plane`.
        seed: see `plane`.

    Returns:
        The files.

    Raises:
        ConfigError: `out` does not end in .npz, or a folder is where a file is to go.
    """
    mean = embedding.features.mean(1)  # [S, D]
    places, by = plane(mean, method, seed)
    names, labels = embedding.class_names, embedding.labels
    files = [str(file.path) for file in embedding.files]
    title = f"{len(files)} recordings by {embedding.header.encoder.name}, {by}"
    paths = output_paths(out)
    with ExitStack() as stack:
        features, picture, page = (stack.enter_context(writing(path)) for path in paths)
        with features.open("wb") as file:
            np.savez_compressed(
                file,
                features=embedding.features if per_step else mean,
                paths=np.array(files),
                labels=labels,
                class_names=np.array(names, dtype=np.str_),
                map=places,
                encoder_sha256=np.array(embedding.encoder_sha256),
            )
        draw_map(picture, places, labels, names, title)
        page.write_text(map_page(places, labels, names, files, title), encoding="utf-8")
    return paths


def output_paths(out: Path) -> list[Path]:
    """Where features, map and page go.

    Raises:
        ConfigError: `out` does not end in .npz, or a folder is where a file is to go.
    """
    if out.suffix != ".npz":
        raise ConfigError(f"--out {out}: features are written as .npz, for example {out.with_suffix('.npz')}")
    paths = [out, out.with_suffix(".png"), out.with_suffix(".html")]
    for path in paths:
        if path.is_dir():
            raise ConfigError(f"--out {out}: {path} is a folder; give another name")
    return paths
