"""Runs the units of a league: those of a sweep, and classifiers on counts of events."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from benchmarks.league import cnn
from benchmarks.league.plan import Entry
from neuromoco.config import FrameConfig
from neuromoco.evaluation.probe import MOST_ITERATIONS
from neuromoco.support.files import read_json, write_json
from neuromoco.sweep import Unit
from neuromoco.sweep.unit import RESULT, Worker
from neuromoco.train.run_folder import RunFolder
from neuromoco.train.run_split import labelled_split

SLICES, SIDE = 8, 16  # of the counts


class LeagueWorker(Worker):
    """A worker of sweeps that also knows the network without spikes and the classifiers on counts."""

    def __init__(self, out: Path, test: str | None, device: str) -> None:
        cnn.register()
        super().__init__(out, test, device)

    def run(self, unit: Unit) -> dict[str, Any]:
        """Runs a unit, or returns its result if it is complete.

        Returns:
            As of a sweep's, and of trainings "seconds" and, with labels, "highest": the accuracy of the best of the
            epochs at which the test fold was looked at.
        """
        if isinstance(unit, Entry) and unit.settings[0] in ("logistic", "neighbours"):
            return self._on_counts(unit)
        result = super().run(unit)
        if unit.kind in ("knn", "linear"):
            return result
        history = RunFolder(self.out / "units" / unit.name).history()
        looked = [line["held_out_accuracy"] for line in history if "held_out_accuracy" in line]
        facts = {"seconds": round(sum(line["seconds"] for line in history), 1), "epochs": len(history)}
        return result | facts | ({"highest": max(looked)} if looked else {})

    def _on_counts(self, unit: Entry) -> dict[str, Any]:
        file = self.out / "units" / unit.name / RESULT
        if file.is_file():
            return read_json(file)
        begun = time.monotonic()
        slicing = unit.config.frames.slice_by
        frames = FrameConfig(steps=SLICES, slice_by=slicing, height=SIDE, width=SIDE)
        config = unit.config.model_copy(update={"frames": frames})
        listing, store, *_ = self.read(config.data, frames, "train", True, config.recordings)
        rows = list(labelled_split(listing, config, config.supervised).train)
        test = self._evaluation_set(config)
        train_x, test_x = counts(store.frames[rows]), counts(test.store.frames[test.rows])
        labels = np.array(listing.labels)[rows]
        if unit.settings[0] == "logistic":
            model = make_pipeline(StandardScaler(), LogisticRegression(C=unit.value, max_iter=MOST_ITERATIONS))
        else:
            model = KNeighborsClassifier(min(int(unit.value), len(rows)), metric="cosine", algorithm="brute")
        with threadpool_limits(1):
            predicted = model.fit(train_x, labels).predict(test_x)
        accuracy = float((predicted == test.labels).mean())
        seconds = round(time.monotonic() - begun, 1)
        result = {"accuracy": accuracy, "recordings": len(test.rows), "seconds": seconds}
        write_json(file, result)
        return result


def counts(frames: NDArray[np.unsignedinteger[Any]]) -> NDArray[np.float64]:
    """Frames [S, T, P, H, W] as vectors [S, T * P * H * W]."""
    return frames.reshape(len(frames), -1).astype(np.float64)
