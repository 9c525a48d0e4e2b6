"""Warnings of failing training, derived from settings and metrics: each is one line that says what to set."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
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
KNN_BELOW_COUNTS = 0.05
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
    signs = [*_layers(config, history), *_gradient(config, history)]
    if config.stage == "pretrain":
        signs += [*_queue(config, recordings, history)] if config.pretrain.method == "moco" else []
        signs += [*_contrast(config, history), *_features(config, history)]
    earlier = {name for line in history for name in line.get("warnings", ())}
    return {name: f"{name}: {text}" for name, text in signs if name not in earlier}


def _layers(config: RunConfig, history: Sequence[Line]) -> Iterator[tuple[str, str]]:
    """Layers that were silent or saturated in all recent epochs."""
    # Residual branches are initialised silent; learning wakes them.
    last = history[_optimizer(config).warmup_epochs :][-PATIENCE:]
    layers = [name for name in last[-1] if name.startswith(SPIKE_RATE)] if len(last) == PATIENCE else []
    silent = [name for name in layers if all(line[name] < SILENT for line in last)]
    saturated = [name for name in layers if all(line[name] > SATURATED for line in last)]
    for sign, bad, rate, factor in (
        ("silent layers", silent, f"less than {SILENT:.1%}", 0.5),
        ("saturated layers", saturated, f"more than {SATURATED:.0%}", 2.0),
    ):
        if bad:
            names = ", ".join(name.removeprefix(SPIKE_RATE) for name in bad[:MOST_NAMES])
            more = f" and {len(bad) - MOST_NAMES} more" if len(bad) > MOST_NAMES else ""
            again = "pre-train again with " if config.stage == "finetune" else ""
            threshold = config.encoder.neuron.v_threshold * factor
            advice = f"{again}--set encoder.neuron.v_threshold={threshold:.3g}, or a lower optimizer.lr"
            yield sign, f"{names}{more} spike at {rate}: {advice}"


def _gradient(config: RunConfig, history: Sequence[Line]) -> Iterator[tuple[str, str]]:
    norms = [line["grad_norm"] for line in history if "grad_norm" in line]
    if len(norms) > PATIENCE and norms[-1] > EXPLODED * median(norms[:-1]):
        clipped = _optimizer(config).grad_clip is not None
        advice = _lower_rate(config) if clipped else f"--set {config.stage}.optimizer.grad_clip=1.0"
        yield "exploding gradient", f"its norm is {norms[-1]:.3g}, usually {median(norms[:-1]):.3g}: {advice}"


def _queue(config: RunConfig, recordings: int, history: Sequence[Line]) -> Iterator[tuple[str, str]]:
    size = config.pretrain.moco.queue_size
    if size >= recordings:
        yield (
            "queue too large",
            f"{size} keys and {recordings} recordings, so each recording meets its own older key as a negative: "
            f"--set pretrain.moco.queue_size={max(1, recordings // 2)}",
        )
    if history and history[-1]["queue_age_momentum"] > 1.0:
        age, constants = history[-1]["queue_age"], history[-1]["queue_age_momentum"]
        yield (
            "queue too old",
            f"its keys are {age:.0f} steps old on average, {constants:.1f} time constants of the key encoder: --set "
            f"pretrain.moco.momentum={1.0 - 0.5 / age:.4g}, or a smaller pretrain.moco.queue_size",
        )


def _contrast(config: RunConfig, history: Sequence[Line]) -> Iterator[tuple[str, str]]:
    """Collapse, a loss at chance, and a task that is too easy."""
    moco, last = config.pretrain.moco, history[-PATIENCE:]
    is_moco = config.pretrain.method == "moco"
    head = "--set pretrain.moco.head=batch_norm, " if is_moco and moco.head == "plain" else ""
    collapsed = [
        line["feature_std"] < COLLAPSED_STD or line.get("effective_rank", math.inf) < COLLAPSED_RANK for line in last
    ]
    # The embeddings of an untrained encoder may look alike; the first epochs spread them.
    trained = len(history) - min(_optimizer(config).warmup_epochs, PATIENCE)
    if trained >= COLLAPSED_FOR and all(collapsed[-COLLAPSED_FOR:]):
        metrics = [f"{name} {last[-1][name]:.3f}" for name in ("feature_std", "effective_rank") if name in last[-1]]
        other = "a milder pretrain.views" if moco.negatives == "plain" else "pretrain.moco.negatives=plain"
        text = f"all recordings look nearly the same ({', '.join(metrics)}): {head}{_lower_rate(config)}, or {other}"
        yield "collapse", text
    if len(last) < PATIENCE or not is_moco:
        return
    keys = {"mbc": moco.queue_size} if moco.alpha else {}
    if moco.beta:
        keys["mac"] = moco.queue_size * (1 if moco.negatives == "plain" else config.frames.steps)
    chance = {name: math.log(1 + count) for name, count in keys.items()}
    near = [abs(line[name] - value) <= NEAR_CHANCE * value for name, value in chance.items() for line in last]
    if near and all(near) and not collapsed[-1]:
        text = " and ".join(f"{name} stays at log(1 + {keys[name]}) = {chance[name]:.2f}" for name in keys)
        rate = f"--set pretrain.optimizer.lr={config.pretrain.optimizer.lr * 3:.3g}"
        yield "loss at chance", f"{text}, as by guessing: {head}{rate}, or a milder pretrain.views"
    # In the first epoch the queue still holds random numbers, which are easy negatives.
    early = history[1 : 1 + PATIENCE]
    knn = [line["knn_accuracy"] for line in history if "knn_accuracy" in line]
    improves = len(knn) == 1 or (knn and knn[-1] - knn[0] > KNN_PROGRESS)
    if len(early) == PATIENCE and all(line["accuracy"] >= EASY_ACCURACY for line in early) and not improves:
        progress = f" while kNN accuracy goes from {knn[0]:.1%} to {knn[-1]:.1%}" if knn else ""
        yield (
            "task too easy",
            f"own keys are found from the beginning (accuracy {early[0]['accuracy']:.1%}){progress}; the views are too "
            "similar: --set pretrain.views.drop=0.5, stronger pretrain.views, or a larger pretrain.moco.queue_size",
        )


def _features(config: RunConfig, history: Sequence[Line]) -> Iterator[tuple[str, str]]:
    """Features, at the end, that say less of the classes than what went into the encoder."""
    last = history[-1] if history else {}
    if "knn_counts" in last and last["knn_counts"] - last["knn_accuracy"] > KNN_BELOW_COUNTS:
        by_time = config.frames.slice_by == "time"
        yield (
            "features below counts",
            f"nearest neighbours know {last['knn_accuracy']:.1%} of the classes by the features, and "
            f"{last['knn_counts']:.1%} by event counts alone: {'--set frames.slice_by=count, ' if by_time else ''}"
            "more pretrain.epochs, or compare with from scratch (--stage all does)",
        )


def _optimizer(config: RunConfig) -> OptimizerConfig:
    settings: OptimizerConfig = getattr(config, config.stage).optimizer
    return settings


def _lower_rate(config: RunConfig) -> str:
    return f"--set {config.stage}.optimizer.lr={_optimizer(config).lr / 3:.3g}"
