"""Which classifier a run of stage "all" keeps: the fine-tuned one, the same from scratch, or a linear probe.

All three learn from the same labels, and are compared on recordings that trained none of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuromoco.checkpoint import FINE_TUNED, FROM_SCRATCH, PROBE
from neuromoco.config import ClassifyConfig, RunConfig, with_values
from neuromoco.datasets import Split
from neuromoco.datasets.splits import COMPARED_FOLDS
from neuromoco.evaluation.accuracy import wilson
from neuromoco.train.classify import Answers, ClassifyTask
from neuromoco.train.folds import split_in_folds

WORDS = {FINE_TUNED: "fine-tuned", FROM_SCRATCH: "from scratch", PROBE: "linear probe"}
LABELLED_SPEED = 2.0  # recordings trained on with labels while one is pre-trained on: two views, three passes


def compared_settings(config: RunConfig) -> dict[str, RunConfig]:
    """The settings of each candidate, by its folder, of settings whose `init` is the pre-trained encoder.

    Raises:
        ConfigError: `supervised` cannot be used with the labels of `finetune`.
    """
    folds = config.finetune.calibration_folds or COMPARED_FOLDS
    labels = {name: getattr(config.finetune, name) for name in ("labels_per_class", "validation")}
    common = {"calibration_folds": folds, **labels}
    tuned = {"stage": "finetune", **_in("finetune", common)}
    return {
        FINE_TUNED: with_values(config, tuned),
        FROM_SCRATCH: with_values(config, {"stage": "supervised", "init": None, **_in("supervised", common)}),
        PROBE: with_values(config, tuned | {"finetune.freeze_encoder": True}),
    }


def _in(section: str, values: Mapping[str, Any]) -> dict[str, Any]:
    return {f"{section}.{name}": value for name, value in values.items()}


def compared_folds(task: ClassifyTask) -> list[Split]:
    """Folds of the labelled recordings, however few; none where others validate, or where they cannot be divided."""
    return [] if task.split.validation else split_in_folds(task, fewest=0)


def announcement(task: ClassifyTask, scratch: ClassifyConfig, samples_per_s: float) -> str:
    """What is compared, on what, and about how long that takes after a pre-training of that speed."""
    folds = len(compared_folds(task))
    if task.split.validation:
        on = f"{len(task.split.validation)} validation recordings"
    elif folds:
        on = f"{len(task.split.train)} labelled recordings in {folds} folds"
    else:
        return (
            "the fine-tuned network is kept without comparing: no recordings validate, and a class has too few labels, "
            "or groups, to train in folds"
        )
    rows = len(task.split.train) * max(1, folds)  # each fold leaves a part out; then all
    seconds = rows * (task.settings.epochs + scratch.epochs) / (LABELLED_SPEED * samples_per_s)
    return (
        f"comparing fine-tuned, from scratch and a linear probe on {on}: {2 * folds + 2} networks to train, "
        f"about {max(1, round(seconds / 60))} min"
    )


@dataclass(frozen=True)
class Comparison:
    """Candidates on the same held-out recordings.

    Attributes:
        kept: the folder of the best.
        on: "validation" or "folds".
        right: folder of a candidate -> whether it was right on each recording.
    """

    kept: str
    on: str
    right: Mapping[str, NDArray[np.bool_]]

    def to_json(self) -> dict[str, Any]:
        """Plain data for JSON: accuracies with their 95 % intervals, and how often a candidate alone was right."""
        tuned = self.right[FINE_TUNED]
        figures = {
            name: {
                "accuracy": float(right.mean()),
                "interval_95": list(wilson(int(right.sum()), len(right))),
                "right_where_fine_tuned_is_wrong": int((right & ~tuned).sum()),
                "wrong_where_fine_tuned_is_right": int((tuned & ~right).sum()),
            }
            for name, right in self.right.items()
        }
        return {"kept": self.kept, "on": self.on, "recordings": len(tuned), "candidates": figures}


def comparison_line(found: Mapping[str, Any]) -> str:
    """The line that says what was kept, of `Comparison.to_json`."""
    figures = ", ".join(
        f"{WORDS[name]} {one['accuracy']:.1%} ({one['interval_95'][0]:.1%} to {one['interval_95'][1]:.1%})"
        for name, one in found["candidates"].items()
    )
    on = "validation recordings" if found["on"] == "validation" else "labelled recordings, in folds"
    return f"kept: {WORDS[found['kept']]}. On {found['recordings']} {on}: {figures}"


def choose(answers: Mapping[str, Answers], on: str) -> Comparison:
    """Keeps the candidate that was right most often; of equals, the first."""
    right = {name: logits.argmax(1) == labels for name, (logits, labels) in answers.items()}
    return Comparison(max(right, key=lambda name: right[name].sum()), on, right)
