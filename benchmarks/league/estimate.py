"""How long a unit takes on one core, for the plan; what was measured is in the results."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.league.plan import Entry
from benchmarks.league.settings import COST

# Measured with `sew_resnet_tiny` on one of two shared cores: seconds of a pass forward, by pixel and time step.
PASS = 2.0e-7
STEP = 0.012  # of an optimizer step, beside
LABELLED = 3  # passes of a step with labels: forward 1, backward 2
WITHOUT_SPIKES = 0.25  # of the time: no steps in time
PROBE, COUNTS = 2.0, 5.0


def unit_seconds(entry: Entry, sizes: Sequence[int], folds: int) -> float:
    """Estimated seconds of a unit on a set with classes of these sizes."""
    config = entry.config
    if entry.kind in ("knn", "linear"):
        return PROBE
    if entry.settings[0] in ("logistic", "neighbours"):
        return COUNTS
    available = [round(size * (1 - 1 / folds)) for size in sizes]
    pixels = config.frames.steps * config.frames.height * config.frames.width
    if entry.kind == "pretrain":
        settings, passes, count = config.pretrain, COST[config.pretrain.method], sum(available)
        steps = count // settings.batch_size
        count = steps * settings.batch_size
    else:
        labelled = config.finetune if entry.kind == "finetune" else config.supervised
        settings, passes = labelled, LABELLED
        count = sum(min(size, labelled.labels_per_class or size) for size in available)
        steps = -(-count // labelled.batch_size)
        looks = settings.epochs // max(1, config.watch.held_out_every)
        count += looks * (sum(sizes) - sum(available)) / settings.epochs / LABELLED
    share = WITHOUT_SPIKES if config.encoder.name == "counts_cnn" else 1.0
    return settings.epochs * passes * (share * count * pixels * PASS + steps * STEP / 2)
