"""How well the fit score tells a set's own recordings from others, whole and in windows, and what it costs.

    python -m benchmarks.fit --data N-MNIST/Train --others DVS_Sign/train CAMERAS --folds 0 1 --out results.jsonl

For each fold, the advised network is trained on four fifths of each class. Its held-out recordings are compared with
those of the other folders, and with copies of themselves: turned, sped up 10 x, thinned to a tenth, noise of the same
length and rate. One JSON object a fold and length; those that --out has already are not measured again. Rivals are the
largest probability, the energy of the logits (Liu et al. 2020) and the distance of features to the nearest class (Lee
et al. 2018). AUROC is the chance that another recording has a larger score than a held-out one.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from neuromoco.checkpoint import best_weights
from neuromoco.config import with_values
from neuromoco.datasets import Listing, hold_out, list_data, read_recordings
from neuromoco.datasets.prepare import file_jobs, recordings_of
from neuromoco.datasets.set_survey import survey_set
from neuromoco.errors import EventFileError
from neuromoco.events import Recording, read_recording
from neuromoco.export.targets import export
from neuromoco.recipes.advice import advise
from neuromoco.runtime.batch import Job
from neuromoco.runtime.checkpoint_file import TrainedClassifier
from neuromoco.runtime.prediction import Prediction, judge
from neuromoco.support.files import files_in
from neuromoco.support.sampling import evenly_spaced
from neuromoco.train import train

FOLDS, MOST, BATCH = 5, 100, 32
PARTS, FEWEST = 12, 20  # most parts of a file, and fewest events in one
Scores = dict[str, NDArray[np.float64]]
LENGTHS = ("whole", "windows")
NAMES = ("fit", "confidence", "energy", "mahalanobis")


def part(recording: Recording, begin: int, length: int) -> Recording:
    """The events of a window that begins so long after the first."""
    first = int(recording.t[0]) + begin
    inside = slice(*np.searchsorted(recording.t, (first, first + length)))
    return replace(recording, **{name: getattr(recording, name)[inside] for name in "txyp"})


def windows(recording: Recording, length: int, most: int = 3) -> list[Recording]:
    """At most so many windows of a length, evenly chosen, without nearly empty ones."""
    begins = range(0, max(1, recording.duration // length * length), length)
    return [one for begin in evenly_spaced(begins, most) if len(one := part(recording, begin, length)) >= FEWEST]


def turned(recording: Recording, quarters: int) -> Recording:
    """The camera turned by so many quarters."""
    x, y, width, height = recording.x, recording.y, recording.width, recording.height
    for _ in range(quarters):
        x, y, width, height = (height - 1 - y).astype(x.dtype), x, height, width
    return replace(recording, x=x, y=y, width=width, height=height)


def thinned(recording: Recording, rng: np.random.Generator) -> Recording:
    """A tenth of the events."""
    keep = rng.random(len(recording)) < 0.1
    keep[[0, -1]] = True
    return replace(recording, **{name: getattr(recording, name)[keep] for name in "txyp"})


def noise(recording: Recording, rng: np.random.Generator) -> Recording:
    """As many events at random places and times."""
    t = np.sort(rng.integers(0, recording.duration + 1, len(recording)))
    x, y, p = (rng.integers(0, side, len(recording)) for side in (recording.width, recording.height, 2))
    return Recording.from_columns(t, x, y, p, width=recording.width, height=recording.height)


def changed(held: Sequence[Recording], rng: np.random.Generator) -> dict[str, list[Recording]]:
    """Copies of the held-out recordings that are none of their kind."""
    return {
        "turned 90": [turned(one, 1) for one in held],
        "turned 180": [turned(one, 2) for one in held],
        "sped up 10 x": [replace(one, t=(one.t - one.t[0]) // 10) for one in held],
        "thinned to 1/10": [thinned(one, rng) for one in held],
        "noise": [noise(one, rng) for one in held],
    }


def others(folder: Path, length: int) -> list[Recording]:
    """Recordings of a folder, and parts of much longer ones; files that need options are left out."""
    found: list[Recording] = []
    for file in evenly_spaced(files_in([folder]), MOST):
        try:
            recording = read_recording(file)
        except EventFileError as error:
            print(f"left out: {error}", flush=True)
            continue
        if len(recording) >= FEWEST:
            found.append(recording)
            many = PARTS if recording.width * recording.height > 1 << 16 else 0
            found += windows(recording, length, many) if recording.duration > 2 * length else []
    return found


def own(listing: Listing, rows: Sequence[int]) -> Iterator[Recording]:
    """Recordings at these rows."""
    return (one for job in file_jobs(listing, list(rows)) for one in recordings_of(job))


class Rivals:
    """All scores of a network; larger is less like the training recordings."""

    def __init__(self, model: TrainedClassifier, listing: Listing, rows: Sequence[int]) -> None:
        self.model = model
        features = self.features(list(own(listing, rows)))[1]
        labels = np.array([listing.labels[row] for row in rows])
        self.means = np.stack([features[labels == label].mean(0) for label in np.unique(labels)])
        rest = features - self.means[np.unique(labels, return_inverse=True)[1]]
        covariance = rest.T @ rest / len(rest)
        covariance += 0.1 * np.trace(covariance) / len(covariance) * np.eye(len(covariance))
        self.precision = np.linalg.inv(covariance)

    def features(self, recordings: Sequence[Recording]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Mean logits [N, classes] and features [N, D]."""
        network, values = self.model.network, []
        with torch.inference_mode():
            for start in range(0, len(recordings), BATCH):
                frames = torch.from_numpy(self.model.frames(recordings[start : start + BATCH]))
                features = network.encoder(frames)
                values.append((network.head(features).mean(0).double().numpy(), features.mean(0).double().numpy()))
        logits, features = zip(*values, strict=True)
        return np.concatenate(logits), np.concatenate(features)

    def __call__(self, recordings: Sequence[Recording], are_windows: bool) -> Scores:
        logits, features = self.features(recordings)
        largest = logits.max(1, keepdims=True)
        energy = -(largest[:, 0] + np.log(np.exp(logits - largest).sum(1)))
        away = features[:, None] - self.means
        distance = np.einsum("nci,ij,ncj->nc", away, self.precision, away).min(1)
        fits = []
        for one in recordings:
            fit = judge(self.model.header, [one], self.model.frames([one]), are_windows)[0]
            assert fit is not None
            fits.append(fit.score)
        confidence = -1.0 / np.exp(logits - largest).sum(1)
        return dict(zip(NAMES, (np.array(fits), confidence, energy, distance), strict=True))


def auroc(inside: NDArray[np.float64], outside: NDArray[np.float64]) -> float:
    """The chance that one outside has a larger score than one inside; ties count half."""
    larger = (outside[:, None] > inside).mean() + 0.5 * (outside[:, None] == inside).mean()
    return float(larger)


def cost(checkpoint: Path, files: Sequence[Path]) -> dict[str, float]:
    """Milliseconds of an answer of the ONNX export on one thread, by stage: medians over files and 5 runs."""
    exported = checkpoint.with_suffix(".onnx")
    export(checkpoint, exported, recordings=[])
    job, stages = Job(exported), defaultdict[str, list[float]](list)
    classifier = job.load(threads=1)
    for _ in range(5):
        for file in files:
            answer = job.whole(classifier, file).result
            assert isinstance(answer, Prediction)
            for stage, seconds in answer.timings.items():
                stages[stage].append(1e3 * seconds)
    return {stage: round(float(np.median(values)), 3) for stage, values in stages.items()}


def measure(options: argparse.Namespace, fold: int, folder: Path) -> Iterator[dict[str, Any]]:
    """Trains on one fold's training part, and yields a line for whole recordings and one for windows."""
    survey = survey_set(options.data, list_data(options.data, "train", labelled=True))
    advised = advise(survey, stage="supervised", labels_per_class=options.labels or None, minutes=options.minutes)
    values = {"held_out": {"folds": FOLDS, "fold": fold}, "seed": fold, "watch.samples": 0}
    train(with_values(advised.config, values), folder, "cpu")
    checkpoint = best_weights(folder)
    model = TrainedClassifier(checkpoint, "cpu")
    recordings = read_recordings(options.data, model.header.frames, "train", labelled=True)
    listing = recordings.listing
    split = json.loads((folder / "split.json").read_text())
    rows = {name: row for row, name in enumerate(listing.names)}
    rivals = Rivals(model, listing, [rows[name] for name in split["train"]])
    held_rows = hold_out(listing, FOLDS, fold).validation
    held = list(own(listing, held_rows))
    length = int(np.median([one.duration for one in held]))
    kinds = changed(held, np.random.default_rng(fold))
    kinds |= {
        place.name if place.name != "train" else place.parent.name: others(place, length) for place in options.others
    }
    files = [listing.root / listing.files[row] for row in held_rows[:20]]
    base = {"data": options.data, "fold": fold, "labels": options.labels, "trained_on": model.header.seen.count}
    for what in LENGTHS:
        cut = (lambda one: [one]) if what == "whole" else (lambda one: windows(one, options.window * 1000))
        inside = rivals([part for one in held for part in cut(one)], what != "whole")
        rows_of = {}
        for kind, members in kinds.items():
            parts = [part for one in members for part in cut(one)]
            scores = rivals(parts, what != "whole")
            rows_of[kind] = {"recordings": len(parts), "found": float((scores["fit"] > 1).mean())}
            rows_of[kind] |= {name: auroc(inside[name], scores[name]) for name in NAMES}
        alarms = inside["fit"] > 1
        line = base | {
            "length": what,
            "held_out": int(alarms.size),
            "false_alarms": float(alarms.mean()),
            "kinds": rows_of,
        }
        yield line | ({"milliseconds": cost(checkpoint, files)} if what == "whole" else {})


def show(line: dict[str, Any]) -> None:
    """A line as a table."""
    print(f"\n{line['data']}, fold {line['fold']}, {line['length']}: trained on {line['trained_on']}, "
          f"{line['false_alarms']:.1%} false alarms of {line['held_out']}", line.get("milliseconds", ""))  # fmt: skip
    print(f"{'AUROC against':24}" + "".join(f"{name:>12}" for name in (*NAMES, "found", "number")))
    for kind, row in line["kinds"].items():
        figures = "".join(f"{row[name]:12.3f}" for name in (*NAMES, "found"))
        print(f"{kind:24}{figures}{row['recordings']:12,}")


def main() -> None:
    """Measures what --out does not hold yet, and prints all of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="a folder of class folders")
    parser.add_argument("--others", type=Path, nargs="*", default=[], help="folders of other recordings")
    parser.add_argument("--folds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--labels", type=int, default=0, help="of each class; 0 is all")
    parser.add_argument("--minutes", type=float, default=1.0, help="of training, as advised")
    parser.add_argument("--window", type=int, default=100, help="milliseconds")
    parser.add_argument("--out", type=Path, default=Path("fit.jsonl"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    known = [json.loads(line) for line in options.out.read_text().splitlines()] if options.out.exists() else []
    done = {(line["data"], line["fold"], line["labels"]) for line in known if line["length"] == LENGTHS[-1]}
    for fold in options.folds:
        if (options.data, fold, options.labels) not in done:
            with TemporaryDirectory() as folder:
                lines = list(measure(options, fold, Path(folder) / "run"))
            known += lines
            with options.out.open("a") as file:
                file.writelines(json.dumps(line) + "\n" for line in lines)
    for line in known:
        show(line)


if __name__ == "__main__":
    main()
