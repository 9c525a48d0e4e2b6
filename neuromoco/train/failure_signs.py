"""Warnings of failing training, derived from settings and metrics: each is one line that says what to set."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any

from neuromoco.config import OptimizerConfig, RunConfig

Line = Mapping[str, Any]  # of metrics.jsonl
SPIKE_RATE = "spike_rate/"  # and the layer's name

PATIENCE = 5  # epochs that a sign must last where a short one is harmless
COLLAPSED_FOR = 2
COLLAPSED_STD = 0.02  # of 1 for embeddings spread evenly over the sphere
COLLAPSED_RANK = 1.05  # of 1 for features that are multiples of one
NEAR_CHANCE = 0.01  # of log(K + 1)
EASY_ACCURACY = 0.99
KNN_PROGRESS = 0.02
SILENT, SATURATED = 1e-3, 0.95
EXPLODED = 10.0  # times the median epoch
MOST_NAMES = 3


def new_warnings(config: RunConfig, recordings: int, history: Sequence[Line]) -> dict[str, str]:
    """Warnings that hold at the newest epoch and that no earlier line of the history has.

    Args:
        config: the run's settings.
        recordings: number of training recordings.
        history: lines of `metrics.jsonl`; none before the first epoch.

    Returns:
        Sign -> sentence.
    """
    checks: dict[str, Callable[[], str | None]] = {
        "silent layers": lambda: _rates(config, history, lambda rate: rate < SILENT, f"less than {SILENT:.1%}", 0.5),
        "saturated layers": lambda: _rates(
            config, history, lambda rate: rate > SATURATED, f"more than {SATURATED:.0%}", 2.0
        ),
        "exploding gradient": lambda: _exploding(config, history),
    }
    if config.stage == "pretrain":
        checks |= {
            "queue too large": lambda: _large_queue(config, recordings),
            "queue too old": lambda: _old_queue(config, history),
            "collapse": lambda: _collapse(config, history),
            "loss at chance": lambda: _at_chance(config, history),
            "task too easy": lambda: _too_easy(history),
        }
    earlier = {name for line in history for name in line.get("warnings", ())}
    return {name: f"{name}: {text}" for name, check in checks.items() if name not in earlier and (text := check())}


def _large_queue(config: RunConfig, recordings: int) -> str | None:
    size = config.pretrain.moco.queue_size
    if size < recordings:
        return None
    return (
        f"{size} keys and {recordings} recordings, so each recording meets its own older key as a negative: "
        f"--set pretrain.moco.queue_size={max(1, recordings // 2)}"
    )


def _old_queue(config: RunConfig, history: Sequence[Line]) -> str | None:
    if not history or history[-1]["queue_age_momentum"] <= 1.0:
        return None
    age = history[-1]["queue_age"]
    return (
        f"its keys are {age:.0f} steps old on average, {history[-1]['queue_age_momentum']:.1f} time constants of the "
        f"momentum encoder: --set pretrain.moco.momentum={1.0 - 0.5 / age:.4g}, or a smaller pretrain.moco.queue_size"
    )


def _collapse(config: RunConfig, history: Sequence[Line]) -> str | None:
    last = history[-COLLAPSED_FOR:]
    if len(last) < COLLAPSED_FOR or not all(_is_collapsed(line) for line in last):
        return None
    plain = config.pretrain.moco.negatives == "plain"
    names = [name for name in ("feature_std", "effective_rank") if name in last[-1]]
    figures = ", ".join(f"{name} {last[-1][name]:.3f}" for name in names)
    other = "a milder pretrain.views" if plain else "pretrain.moco.negatives=plain"
    return f"all recordings look nearly the same ({figures}): {_lower_rate(config)}, or {other}"


def _is_collapsed(line: Line) -> bool:
    return bool(line["feature_std"] < COLLAPSED_STD or line.get("effective_rank", math.inf) < COLLAPSED_RANK)


def _at_chance(config: RunConfig, history: Sequence[Line]) -> str | None:
    moco = config.pretrain.moco
    keys = {"mbc": moco.queue_size, "mac": moco.queue_size * (1 if moco.negatives == "plain" else config.frames.steps)}
    used = [name for name, weight in (("mbc", moco.alpha), ("mac", moco.beta)) if weight]
    last = history[-PATIENCE:]
    if len(last) < PATIENCE or not used or _is_collapsed(last[-1]):
        return None
    chance = {name: math.log(1 + keys[name]) for name in used}
    if any(abs(line[name] - chance[name]) > NEAR_CHANCE * chance[name] for line in last for name in used):
        return None
    words = " and ".join(f"{name} stays at log(1 + {keys[name]}) = {chance[name]:.2f}" for name in used)
    lr = config.pretrain.optimizer.lr
    return f"{words}, as by guessing: --set pretrain.optimizer.lr={lr * 3:.3g}, or a milder pretrain.views"


def _too_easy(history: Sequence[Line]) -> str | None:
    # In the first epoch the queue still holds random numbers, which are easy negatives.
    early = history[1 : 1 + PATIENCE]
    if len(early) < PATIENCE or any(line["accuracy"] < EASY_ACCURACY for line in early):
        return None
    known = [line["knn_accuracy"] for line in history if "knn_accuracy" in line]
    if len(known) == 1 or (known and known[-1] - known[0] > KNN_PROGRESS):
        return None
    knn = f" while kNN accuracy goes from {known[0]:.1%} to {known[-1]:.1%}" if known else ""
    return (
        f"own keys are found from the beginning (accuracy {early[0]['accuracy']:.1%}){knn}; the views "
        "are too similar: --set pretrain.views.drop=0.5, stronger pretrain.views, or a larger pretrain.moco.queue_size"
    )


def _rates(
    config: RunConfig, history: Sequence[Line], is_bad: Callable[[float], bool], rate: str, factor: float
) -> str | None:
    """Warns of layers whose spike rate was bad in all recent epochs; the threshold times `factor` would help."""
    # Residual branches are initialised silent; learning wakes them.
    last = history[_optimizer(config).warmup_epochs :][-PATIENCE:]
    if len(last) < PATIENCE:
        return None
    layers = [name for name in last[-1] if name.startswith(SPIKE_RATE)]
    bad = [name.removeprefix(SPIKE_RATE) for name in layers if all(is_bad(line[name]) for line in last)]
    if not bad:
        return None
    more = f" and {len(bad) - MOST_NAMES} more" if len(bad) > MOST_NAMES else ""
    again = "pre-train again with " if config.stage == "finetune" else ""
    return (
        f"{', '.join(bad[:MOST_NAMES])}{more} spike at {rate}: {again}--set encoder.neuron.v_threshold="
        f"{config.encoder.neuron.v_threshold * factor:.3g}, or a lower optimizer.lr"
    )


def _exploding(config: RunConfig, history: Sequence[Line]) -> str | None:
    norms = [line["grad_norm"] for line in history if "grad_norm" in line]
    if len(norms) <= PATIENCE or norms[-1] <= EXPLODED * median(norms[:-1]):
        return None
    clipped = _optimizer(config).grad_clip is not None
    advice = _lower_rate(config) if clipped else f"--set {config.stage}.optimizer.grad_clip=1.0"
    return f"its norm is {norms[-1]:.3g}, usually {median(norms[:-1]):.3g}: {advice}"


def _optimizer(config: RunConfig) -> OptimizerConfig:
    settings: OptimizerConfig = getattr(config, config.stage).optimizer
    return settings


def _lower_rate(config: RunConfig) -> str:
    return f"--set {config.stage}.optimizer.lr={_optimizer(config).lr / 3:.3g}"
