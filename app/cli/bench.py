"""Measures how long a model takes on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from neuromoco.errors import NeuromocoError
from neuromoco.runtime.batch import Job


def measure(model: Path, files: Sequence[Path], runs: int, threads: int, device: str) -> dict[str, Any]:
    """Classifies files one by one, after one warm-up of each.

    Returns:
        Medians and 95th percentiles in milliseconds per recording, by stage and in total, and recordings per second.

    Raises:
        NeuromocoError: the model or a file cannot be used.
    """
    job = Job(model, device, any_length=True)
    classifier = job.load(threads)
    stages: dict[str, list[float]] = {}
    for run in range(runs + 1):
        for file in files:
            answer = job.result(classifier, file)
            if isinstance(answer, NeuromocoError):
                raise answer
            if run:
                for stage, seconds in (*answer.timings.items(), ("in all", sum(answer.timings.values()))):
                    stages.setdefault(stage, []).append(seconds)
    figures = {
        stage: {"median": 1e3 * float(np.median(s)), "p95": 1e3 * float(np.percentile(s, 95))}
        for stage, s in stages.items()
    }
    per_second = 1e3 / figures["in all"]["median"]
    return {"model": str(model), "files": len(files), "runs": runs, "per_second": per_second, "milliseconds": figures}
