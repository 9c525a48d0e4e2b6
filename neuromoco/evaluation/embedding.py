"""Features of many event files, and a map of them in two dimensions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
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
from neuromoco.config.frames import Crop
from neuromoco.datasets.settle import settle_files
from neuromoco.errors import ConfigError, EventFileError
from neuromoco.evaluation.accuracy import BATCH
from neuromoco.evaluation.embedding_map import draw_map, map_page
from neuromoco.evaluation.features import features_by_step, load_encoder, state_sha256
from neuromoco.events import ReadOptions, read_recording
from neuromoco.frames import filled_part_of, recording_frames
from neuromoco.runtime.prediction import check_complete
from neuromoco.support.console import track
from neuromoco.support.device import pick_device
from neuromoco.support.files import files_in, writing

Method = Literal["tsne", "pca"]
FEWEST_TSNE = 10  # recordings; fewer have no neighbourhoods
LARGEST_PERPLEXITY = 30.0
DIMENSIONS_BEFORE_TSNE = 50


@dataclass(frozen=True)
class EventFile:
    """An event file, perhaps of a known class."""

    path: Path
    class_name: str | None


@dataclass(frozen=True)
class Embedding:
    """Features of S recordings."""

    header: CheckpointHeader
    encoder_sha256: str  # of the encoder's parameters and buffers
    files: tuple[EventFile, ...]  # S
    features: NDArray[np.float32]  # [S, T, D]
    problems: tuple[EventFileError, ...]  # of the files that cannot be read

    @property
    def class_names(self) -> tuple[str, ...]:
        """Known classes, sorted; numerically if all are numbers."""
        names = {file.class_name for file in self.files if file.class_name is not None}
        numbers = all(name.isdecimal() for name in names)
        return tuple(sorted(names, key=lambda name: (int(name) if numbers else 0, name)))

    @property
    def labels(self) -> NDArray[np.int64]:
        """Indices [S] into `class_names`, -1 if the class is unknown."""
        names = self.class_names
        return np.array([-1 if f.class_name is None else names.index(f.class_name) for f in self.files], np.int64)


def find_files(places: Iterable[Path]) -> list[EventFile]:
    """Files, and files in folders at any depth; subfolders of a folder in `places` are classes."""
    relative = [(path, path.relative_to(place).parts) for place in places for path in files_in([place])]
    return [EventFile(path, parts[0] if len(parts) > 1 else None) for path, parts in relative]


def embed_files(
    model: Path,
    files: Sequence[EventFile],
    device: str = "auto",
    options: ReadOptions | None = None,
    any_length: bool = False,
    crop: Crop = None,
    frames: Mapping[str, Any] | None = None,
) -> Embedding:
    """Computes the features of event files; files that cannot be read become `problems` of the result.

    With `any_length`, recordings may be much shorter than the training recordings. `crop` is the part of the sensor
    that is used instead of the network's; "activity" is settled for all files. `frames` are changes of the frames that
    the encoder was trained with, by name, such as {"frames.steps": 8}.

    Raises:
        CheckpointError: no usable checkpoint.
        EventFileError: no file can be read.
    """
    torch_device = pick_device(device)
    encoder, header = load_encoder(model, torch_device, frames)
    problems: list[EventFileError] = []
    reading, part = settle_files([file.path for file in files], header.read_options(options), crop)

    def readable() -> Iterator[tuple[EventFile, NDArray[Any]]]:
        for file in track(files, "reading recordings"):
            try:
                recording = read_recording(file.path, options=reading)
                if not any_length:
                    check_complete(file.path, recording, header.seen)
                recording = filled_part_of(recording, part, file.path)
                yield file, recording_frames(recording, header.frames)  # [T, P, H, W]
            except EventFileError as error:
                problems.append(error)

    used: list[EventFile] = []
    values: list[NDArray[np.float32]] = []
    stream = readable()
    while batch := list(islice(stream, BATCH)):
        used += [file for file, _ in batch]
        counts = np.stack([counts for _, counts in batch], axis=1, dtype=np.float32)  # [T, N, P, H, W]
        values.append(features_by_step(encoder, counts, torch_device))
    if not used:
        raise EventFileError("; ".join(map(str, problems[:3])))
    return Embedding(header, state_sha256(encoder), tuple(used), np.concatenate(values), tuple(problems))


def project(features: NDArray[np.floating[Any]], method: Method, seed: int) -> tuple[NDArray[np.float64], str]:
    """Projects the directions of features [S, D] onto a plane: points [S, 2] and the name of the method used.

    "tsne" preserves neighbourhoods (PCA is used for fewer than 10 recordings), "pca" large distances.
    """
    directions = normalize(features.astype(np.float64))
    count = len(directions)
    if method == "tsne" and count >= FEWEST_TSNE:
        fewer = PCA(min(DIMENSIONS_BEFORE_TSNE, *directions.shape), random_state=seed).fit_transform(directions)
        tsne = TSNE(perplexity=min(LARGEST_PERPLEXITY, (count - 1) / 3), init="pca", random_state=seed)
        with threadpool_limits(1):  # the order of sums changes the map
            return tsne.fit_transform(fewer), "t-SNE"
    centred = directions - directions.mean(0)
    left, singular, _ = np.linalg.svd(centred, full_matrices=False)
    points = np.zeros((count, 2))
    axes = min(2, len(singular))
    points[:, :axes] = left[:, :axes] * singular[:axes]
    return points, "PCA"


def write_embedding(out: Path, embedding: Embedding, per_step: bool, method: Method, seed: int) -> list[Path]:
    """Writes features to an .npz file, and a map of them with the same name as .png and .html: all three, or none.

    Per step, the features are [S, T, D], otherwise their mean over time, [S, D]; the map is of the mean.

    Returns:
        The paths of the files; raises as `output_paths`.
    """
    mean = embedding.features.mean(1)  # [S, D]
    points, method_name = project(mean, method, seed)
    names, labels = embedding.class_names, embedding.labels
    files = [str(file.path) for file in embedding.files]
    title = f"{len(files)} recordings by {embedding.header.encoder.name}, {method_name}"
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
                map=points,
                encoder_sha256=np.array(embedding.encoder_sha256),
            )
        draw_map(picture, points, labels, names, title)
        page.write_text(map_page(points, labels, names, files, title), encoding="utf-8")
    return paths


def output_paths(out: Path) -> list[Path]:
    """Paths of features, picture and page.

    Raises:
        ConfigError: `out` does not end in .npz, or a folder has the name of a file.
    """
    if out.suffix != ".npz":
        raise ConfigError(f"--out {out}: features are written as .npz, for example {out.with_suffix('.npz')}")
    paths = [out, out.with_suffix(".png"), out.with_suffix(".html")]
    if folder := next(filter(Path.is_dir, paths), None):
        raise ConfigError(f"--out {out}: {folder} is a folder; give another name")
    return paths
