"""Calibration error before and after the temperature, and errors among the answers that are given, on held-out folds.

    OMP_NUM_THREADS=1 python -m benchmarks.confidence --data N-MNIST/Train --folds 0 1 2 3 4 --levels 0.05 0.1

Each run is what `neuromoco train --data FOLDER` does on four fifths of each class; the last weights, and those of the
epoch that validation chose, are measured on the other fifth, which nothing else sees. One JSON object a run and kind of
weights, and one for all folds together, on standard output; 0 labels are all.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from neuromoco.confidence import softmax, temperature_of
from neuromoco.config import RunConfig, parse_changes, with_values
from neuromoco.datasets import hold_out, list_data
from neuromoco.datasets.set_survey import survey_set
from neuromoco.errors import ConfigError
from neuromoco.evaluation.accuracy import Evaluation, evaluate
from neuromoco.evaluation.calibration import Abstained, calibration_error, measure_confidence
from neuromoco.recipes.advice import MINUTES, advise
from neuromoco.runtime.checkpoint_file import TrainedClassifier
from neuromoco.train import train
from neuromoco.train.run_folder import RunFolder

FOLDS = 5


class Measured:
    """The answers of the weights of one kind on the folds so far."""

    def __init__(self) -> None:
        self.right: list[np.ndarray] = []
        self.confidence: dict[str, list[np.ndarray]] = {"before": [], "after": []}
        self.levels: dict[float, list[Abstained | None]] = {}

    def add(self, weights: Path, held: Any, levels: list[float]) -> dict[str, Any]:
        """Measures weights on a fold; returns its figures."""
        model = TrainedClassifier(weights, "cpu")
        calibration, result = model.header.calibration, evaluate(model, held)
        logits = _mean(result)
        self.right.append(logits.argmax(1) == result.labels)
        shares = {"before": softmax(logits), "after": softmax(logits, temperature_of(calibration))}
        for when, values in shares.items():
            self.confidence[when].append(values.max(1))
        line: dict[str, Any] = {"accuracy": result.accuracy, "recordings": result.recordings}
        line["calibration"] = calibration and calibration.model_dump(exclude={"right", "wrong"})
        line |= {f"error_{when}": self.error(when, -1) for when in shares}
        for level in levels:
            try:
                found = measure_confidence(result, calibration, level).abstained
            except ConfigError as error:
                found, line[f"abstain {level:g}"] = None, str(error)
            else:
                line[f"abstain {level:g}"] = found and found.to_json()
            self.levels.setdefault(level, []).append(found)
        return line

    def error(self, when: str, fold: int | None = None) -> dict[str, Any]:
        """The calibration error of a fold, or of all folds together."""
        part = slice(None) if fold is None else slice(fold, None)
        confidence, right = (np.concatenate(all_[part]) for all_ in (self.confidence[when], self.right))
        return calibration_error(confidence, right).to_json()

    def summary(self) -> dict[str, Any]:
        """All folds together: errors, and the folds on which each level was kept."""
        right = np.concatenate(self.right)
        line: dict[str, Any] = {"folds": len(self.right), "recordings": len(right), "accuracy": float(right.mean())}
        line |= {f"error_{when}": self.error(when) for when in self.confidence}
        for level, folds in self.levels.items():
            known = [found for found in folds if found is not None]
            errors = [found.error for found in known if found.error is not None]
            answered, wrong = sum(found.answered for found in known), sum(found.wrong for found in known)
            line[f"abstain {level:g}"] = {
                "kept_on": sum(error <= level for error in errors),
                "of_folds": len(errors),
                "without_an_answer": len(known) - len(errors),
                "coverage": answered / max(1, sum(found.recordings for found in known)),
                "error_among_answered": wrong / answered if answered else None,
                "true_class_is_possible": float(np.mean([found.holds for found in known])) if known else None,
                "possible_classes": float(np.mean([found.possible for found in known])) if known else None,
            }
        return line


def _mean(result: Evaluation) -> np.ndarray:
    assert result.logits is not None
    mean: np.ndarray = result.logits.astype(np.float64).mean(1)  # [S, classes]
    return mean


def measure(config: RunConfig, levels: list[float], known: dict[str, Measured]) -> None:
    """Trains, and measures on the fold that is held out; prints a line for each kind of weights."""
    assert config.held_out is not None
    listing, fold = list_data(config.data, "train", labelled=True), config.held_out.fold
    held = listing.only(hold_out(listing, config.held_out.folds, fold).validation)
    with TemporaryDirectory() as folder:
        begun, run = time.monotonic(), RunFolder(Path(folder) / "run")
        train(config, run.path, "cpu")
        seconds = round(time.monotonic() - begun)
        for name, weights in {"last": run.last, "best": run.best}.items():
            if weights.is_file():
                line = known.setdefault(name, Measured()).add(weights, held, levels)
                facts = {"data": str(config.data), "fold": fold, "weights": name, "seconds": seconds}
                print(json.dumps(facts | line), flush=True)


def main() -> None:
    """Measures one set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="a folder of class folders")
    parser.add_argument("--folds", type=int, nargs="+", default=list(range(FOLDS)))
    parser.add_argument("--labels", type=int, default=0, help="of each class; 0 is all")
    parser.add_argument("--levels", type=float, nargs="+", default=[0.05, 0.1], help="of errors among the answers")
    parser.add_argument("--set", action="append", default=[], metavar="A.B=VALUE", help="change a setting, to compare")
    options = parser.parse_args()
    survey = survey_set(options.data, list_data(options.data, "train", labelled=True))
    advice = advise(survey, stage="supervised", labels_per_class=options.labels or None, minutes=MINUTES)
    known: dict[str, Measured] = {}
    for fold in options.folds:
        values = {"held_out": {"folds": FOLDS, "fold": fold}, "seed": fold, "watch.samples": 0}
        measure(with_values(advice.config, values | parse_changes(options.set)), options.levels, known)
    for name, measured in known.items():
        print(json.dumps({"data": options.data, "weights": name, **measured.summary()}), flush=True)


if __name__ == "__main__":
    main()
