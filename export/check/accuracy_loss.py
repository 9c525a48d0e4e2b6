"""How much worse a coarser copy of a network may answer, and the recordings that show it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from neuromoco.datasets import Listing, list_data
from neuromoco.datasets.keys import files_digest
from neuromoco.datasets.prepare import FileJob, recordings_of
from neuromoco.datasets.settle import settle_files
from neuromoco.errors import ConfigError
from neuromoco.events import Recording
from neuromoco.export.exporter import ExportJob
from neuromoco.support.files import read_json
from neuromoco.support.sampling import evenly_spaced

SPLIT = "split.json"
LEAST = 4  # recordings, half of which calibrate
MOST = 200  # recordings of either half
LARGEST_LOSS = 0.02  # of accuracy, where classes are known
LEAST_AGREEMENT = 0.95  # share of recordings with the same answer


class Samples(NamedTuple):
    """Recordings, and the index of the class of each, or None where it is unknown."""

    parts: list[FileJob]
    labels: list[int | None]

    @property
    def paths(self) -> list[Path]:
        """The files of the recordings."""
        return [part.path for part in self.parts]

    def read(self) -> Iterator[Recording]:
        """Reads the recordings one by one."""
        return (recording for part in self.parts for recording in recordings_of(part))


def parts_of(folder: Path, job: ExportJob | None) -> tuple[Listing, list[FileJob]]:
    """The recordings of a folder, read as the training recordings were unless said otherwise, each as a job."""
    listing = list_data(str(folder), "test", labelled=False, recordings=job.reading if job else None)
    options = job.header.read_options(listing.options) if job else listing.options
    options, crop = settle_files(listing.paths, options, job.crop if job else None)
    spans = listing.spans or (None,) * len(listing)
    files = zip(listing.paths, spans, strict=True)
    return listing, [FileJob(path, (row,), (span,), options, crop) for row, (path, span) in enumerate(files)]


class Halves(NamedTuple):
    """Recordings that calibrate, others to judge by, and what those others are: a name in `JUDGED_ON`."""

    calibration: Samples
    judged: Samples
    source: str


# What figures come from, as reports and the command line say it.
JUDGED_ON = {
    "validation": "the validation part of its run, which neither trained nor calibrated it",
    "others": "recordings of another folder than it was trained on, which did not calibrate it",
    "training": "recordings that trained it, as its run held none out: give others with --data",
    "copy": "copies of the recordings that trained it, under other names: give the folder that it was trained on",
    "unknown": "recordings that may have trained it, as no split.json of its run is beside it: give others with --data",
    "calibration": "the recordings that calibrated it: figures of others may be worse",
}


def split_samples(folder: Path, class_names: Sequence[str], job: ExportJob | None = None) -> Halves:
    """Recordings to calibrate on and others to judge by, of a flat folder or one of class folders.

    Of the folder that a run was trained on, its training recordings calibrate and those of its validation part judge.
    """
    listing, parts = parts_of(folder, job)
    if len(listing) < LEAST:
        raise ConfigError(
            f"{folder}: {len(listing)} recordings; 8 bits need at least {LEAST}, half of them to calibrate"
        )
    labels: list[int | None] = [None] * len(listing)
    if listing.labels and set(listing.class_names) <= set(class_names):
        labels = [class_names.index(listing.class_names[i]) for i in listing.labels]
    by_half = [list(range(first, len(listing), 2)) for first in (0, 1)]
    split, source = split_of(job.source) if job else None, "unknown"
    if split:
        names = hashlib.sha256("\n".join(listing.names).encode("utf-8", "surrogateescape")).hexdigest()
        root = Path(str(split.get("data"))).resolve()  # as it was typed, of the folder that training was started in
        trained_here = names == split.get("recordings_sha256") or listing.root.resolve() == root
        copied = not trained_here and files_digest(listing) == split.get("files_sha256")
        source = "training" if trained_here else "copy" if copied else "others"
        held_out, trained = (set(split.get(part) or ()) for part in ("validation", "train"))
        by_split = [[i for i, name in enumerate(listing.names) if name in part] for part in (trained, held_out)]
        if trained_here and all(by_split):
            by_half, source = by_split, "validation"
    one, other = (
        Samples([parts[i] for i in rows], [labels[i] for i in rows])
        for rows in (evenly_spaced(half, MOST) for half in by_half)
    )
    return Halves(one, other, source)


def split_of(source: Path) -> dict[str, Any] | None:
    """The `split.json` of the run that a checkpoint lies in, or beside it, if there is one."""
    for folder in (source.parent, source.parent.parent):
        if (folder / SPLIT).is_file():
            return read_json(folder / SPLIT)
    return None


def copy_figures(
    answers: Mapping[str, Sequence[int]], labels: Sequence[int | None] | None, advice: str, source: str | None = None
) -> dict[str, Any]:
    """How often a copy of a network answers as the network does, and whether that is often enough.

    `answers` are class indices of "float32" and of the copy, under its name; there are no accuracies where a label is
    unknown. `advice` says what to do about a copy that is not good enough, `source` what the recordings are, see
    `JUDGED_ON`.
    """
    _, copy = answers
    agreement = float(np.mean(np.equal(answers["float32"], answers[copy])))
    accuracy, problem = None, None
    if labels and None not in labels:
        accuracy = {name: float(np.mean(np.equal(found, np.array(labels)))) for name, found in answers.items()}
    if accuracy and accuracy["float32"] - accuracy[copy] > LARGEST_LOSS:
        change = f"from {accuracy['float32']:.1%} to {accuracy[copy]:.1%}"
        problem = f"accuracy falls {change}; {LARGEST_LOSS:.0%} are allowed"
    elif agreement < LEAST_AGREEMENT:
        problem = f"answers agree with float32 on {agreement:.1%}; at least {LEAST_AGREEMENT:.0%} must"
    judged = f" (judged on {JUDGED_ON[source]})" if source else ""
    return {
        "agreement": agreement,
        "accuracy": accuracy,
        "allowed": {"loss": LARGEST_LOSS, "agreement": LEAST_AGREEMENT},
        "problem": problem and f"{copy}: {problem}{judged}; {advice}",
    }
