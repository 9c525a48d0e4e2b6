"""Timelines of recordings that show one thing after another, made from recordings that training did not see.

    python -m benchmarks.timelines --data N-MNIST/Train --folds 1 2 3 4

Of each fold, trains on four fifths of each class with the settings that `neuromoco train` advises, and puts the others
one after another, 20 in a file, each once; between them are pauses with events of noise. Then it does what
`neuromoco predict --timeline` does, and prints the scores of all files as JSON.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from neuromoco import Recording
from neuromoco.checkpoint import best_weights
from neuromoco.config import with_values
from neuromoco.config.recordings import duration_us
from neuromoco.datasets import hold_out, list_data
from neuromoco.datasets.prepare import cut, file_jobs, recordings_of
from neuromoco.datasets.set_survey import survey_set
from neuromoco.evaluation.segments import Part, RecordingCounts, score_recording, summarise
from neuromoco.events import write_npz
from neuromoco.recipes.advice import advise
from neuromoco.runtime.load import load_classifier
from neuromoco.runtime.timeline import TimelineRule, make_timeline
from neuromoco.train import train

FOLDS = 5
IN_A_FILE = 20
PAUSES = (0.5, 1.5)  # of the usual duration of a recording
MINUTES = 3.0
PARTS, QUIETEST = 30, 5


def sequence(
    recordings: Sequence[Recording],
    labels: Sequence[str],
    pauses: Sequence[float],
    noise: float | None,
    seed: Sequence[int],
) -> tuple[Recording, list[Part]]:
    """Recordings one after another, and where each lies.

    Args:
        recordings: of one sensor.
        labels: their classes.
        pauses: least and most time between two, in usual durations.
        noise: events per second and pixel in the pauses, of random places and polarities; None as in `quiet_rate`.
        seed: of the pauses and the noise.
    """
    rng = np.random.default_rng(seed)
    usual = float(np.median([recording.duration for recording in recordings]))
    width, height = recordings[0].width, recordings[0].height
    noise = quiet_rate(recordings) if noise is None else noise
    pieces: list[dict[str, Any]] = []
    truth = []
    now = 0
    for recording, label in zip(recordings, labels, strict=True):
        pause = round(usual * rng.uniform(*pauses))
        count = rng.poisson(noise * pause / 1e6 * width * height)
        pieces.append({
            "t": now + np.sort(rng.integers(0, max(pause, 1), count)), "x": rng.integers(0, width, count),
            "y": rng.integers(0, height, count), "p": rng.integers(0, 2, count),
        })  # fmt: skip
        now += pause
        pieces.append({"t": now + recording.t - recording.t[0], "x": recording.x, "y": recording.y, "p": recording.p})
        truth.append(Part(now, now + recording.duration + 1, label))
        now += recording.duration + 1
    columns = {name: np.concatenate([piece[name] for piece in pieces]) for name in "txyp"}
    return Recording.from_columns(**columns, width=width, height=height), truth


def quiet_rate(recordings: Sequence[Recording]) -> float:
    """Events per second and pixel when the least happens in recordings: in the quietest twentieth of thirty parts."""
    rates = []
    for recording in recordings:
        counts = np.histogram(recording.t, PARTS)[0]
        area = recording.width * recording.height
        rates.append(np.percentile(counts, QUIETEST) / (recording.duration / 1e6 / PARTS) / area)
    return float(np.median(rates))


def trained(data: str, fold: int, out: Path) -> Path:
    """A checkpoint that was trained without a fold."""
    survey = survey_set(data, list_data(data, "train", labelled=True))
    config = advise(survey, stage="supervised", labels_per_class=None, minutes=MINUTES).config
    config = with_values(config, {"held_out": {"folds": FOLDS, "fold": fold}, "seed": fold, "watch.samples": 0})
    train(config, out, "cpu")
    return best_weights(out)


def long_recordings(
    data: str, fold: int, pauses: Sequence[float], noise: float | None
) -> Iterator[tuple[Recording, list[Part]]]:
    """The recordings of a fold in sequences of `IN_A_FILE`; those that are left over are not used."""
    listing = list_data(data, "train", labelled=True)
    rows = np.random.default_rng(fold).permutation(hold_out(listing, FOLDS, fold).validation)
    for number in range(len(rows) // IN_A_FILE):
        mine = rows[number * IN_A_FILE : (number + 1) * IN_A_FILE].tolist()
        recordings = [next(recordings_of(job)) for row in mine for job in file_jobs(listing, [row])]
        labels = [listing.class_names[listing.labels[row]] for row in mine]
        yield sequence(recordings, labels, pauses, noise, [fold, number])


def measure(
    model: Path, sequences: Iterable[tuple[Recording, list[Part]]], given: dict[str, Any]
) -> tuple[list[RecordingCounts], dict[str, Any]]:
    """Counts of each sequence, and other facts: how many parts are classified rightly if they are cut out, the time."""
    classifier = load_classifier(model, "cpu", threads=1)
    rule = TimelineRule.for_recordings(classifier.header.seen, given)
    counts, seconds, duration, right = [], 0.0, 0.0, 0
    with TemporaryDirectory() as folder:
        for number, (recording, truth) in enumerate(sequences):
            file = Path(folder) / f"{number}.npz"
            write_npz(file, recording)
            alone = classifier.predict([cut(recording, (part.begin, part.end)) for part in truth])
            right += sum(answer.label == part.label for answer, part in zip(alone, truth, strict=True))
            begun = time.perf_counter()
            timeline = make_timeline(classifier, file, rule)
            seconds += time.perf_counter() - begun
            duration += timeline.duration_us / 1e6
            first = timeline.first_us
            answer = [Part(s.begin_us + first, s.end_us + first, s.label) for s in timeline.segments if s.label]
            counts.append(score_recording(answer, truth, (first, first + timeline.duration_us)))
    facts = {"right_alone": right, "seconds_recorded": round(duration), "seconds_taken": round(seconds, 1)}
    return counts, {**facts, "rule": asdict(rule)}


def main() -> None:
    """Measures one set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="a folder of class folders")
    parser.add_argument("--folds", type=int, nargs="+", default=[1, 2, 3, 4], help="the first, 0, chose the rule")
    parser.add_argument("--runs", type=Path, help="where runs are, or are written to; by default nowhere")
    parser.add_argument("--pauses", type=float, nargs=2, default=PAUSES, help="least and most, in usual durations")
    parser.add_argument("--noise", type=float, help="events per second and pixel in pauses; by default as quiet_rate")
    for name in ("window", "stride", "pause", "shortest"):
        parser.add_argument(f"--{name}", type=duration_us, help="of the rule, such as 200ms")
    parser.add_argument("--least", type=float, help="of the rule: probability of a class")
    options = parser.parse_args()
    given = {f"{name}_us": getattr(options, name) for name in ("window", "stride", "pause", "shortest")}
    given = {name: value for name, value in {**given, "least": options.least}.items() if value is not None}
    counts: list[RecordingCounts] = []
    facts: list[dict[str, Any]] = []
    with TemporaryDirectory() as folder:
        for fold in options.folds:
            run = (options.runs or Path(folder)) / f"{fold}"
            model = best_weights(run) if run.exists() else trained(options.data, fold, run)
            sequences = long_recordings(options.data, fold, options.pauses, options.noise)
            more, of_fold = measure(model, sequences, given)
            counts += more
            facts.append({"fold": fold, **of_fold})
    print(json.dumps({"data": options.data, **summarise(counts).to_json(), "folds": facts}))


if __name__ == "__main__":
    main()
