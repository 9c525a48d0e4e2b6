"""Advises settings for a set of recordings, each with its reason, from what a survey found.

The rules were chosen on one fold of four sets (two of real recordings, two simulated) and measured on other folds:
docs/figures.md. They are the same on every machine: times are those of two CPU cores.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import Any, Literal, NamedTuple

import numpy as np

from neuromoco.config import ClassifyConfig, FrameConfig, RunConfig, ViewConfig, dump_config, with_values
from neuromoco.datasets.set_survey import SetSurvey
from neuromoco.datasets.splits import divide_classes, folds_to_compare
from neuromoco.recipes import DEFAULT, load_recipe

Stage = Literal["pretrain", "finetune", "supervised", "all"]
MINUTES = 15.0
SECTION = {"supervised": "supervised", "finetune": "finetune", "all": "finetune"}  # settings with labels, by stage
ENCODER = "sew_resnet_tiny"

STEPS = 8
DETAIL = 10  # pixels that the smaller side of what moves keeps
SHORTEST, LONGEST = 24, 64  # sides of frames; of a small sensor, half
FEW_EVENTS = 40  # of a recording, in a step: with fewer, there are fewer steps
FEW = 10  # labels of a class
LABELLED_STEPS = {True: 480, False: 800}  # optimizer steps, with few labels and with many
PRETRAINING_STEPS = 3600
EPOCHS = (10, 200)  # of training with labels; time allowing
PRETRAINING_EPOCHS = 600
QUEUE = 128
WARMUP = 0.1  # of the epochs
# Learning rate and weight decay, by stage.
RATES = {
    "supervised": (1e-2, 0.5, "recordings are learned by heart with less; gains and biases do not decay"),
    "finetune": (1e-2, 0.05, "less than from scratch: the encoder is trained already"),
}

# What two CPU cores compute in a second: pixels times steps that are trained on, by encoder.
SPEED = {"sew_resnet_tiny": 3.0e6, "chain_tiny": 2.5e6, "spikformer_tiny": 1.0e6}
SLOW = 1.0e5  # other encoders
STEP_SECONDS = 0.025  # of an optimizer step, whatever its batch
PRETRAINING_COST = 3.0  # two views, and the key encoder's pass


@dataclass(frozen=True)
class Advice:
    """Settings, and why.

    Attributes:
        config: the settings of a run.
        reasons: of settings, by their names with dots; all others are as in the recipe `tiny`.
        rests_on: what was looked at, in a line.
        minutes: that the run takes on two CPU cores, roughly.
    """

    config: RunConfig
    reasons: dict[str, str]
    rests_on: str
    minutes: float

    def recipe(self) -> str:
        """The settings as the text of a recipe file, with the reasons as comments."""
        lines = [
            "# Advised by neuromoco survey: a comment is the reason of the setting below it.",
            f"# {self.rests_on}",
        ]
        path: list[str] = []
        for line in dump_config(self.config).splitlines():
            depth = (len(line) - len(line.lstrip())) // 2
            path = [*path[:depth], line.strip().partition(":")[0]]
            if reason := self.reasons.get(".".join(path)):
                lines.append(f"{'  ' * depth}# {reason}")
            lines.append(line)
        return "\n".join(lines) + "\n"

    def value(self, name: str) -> Any:
        """A setting by its name with dots."""
        return reduce(getattr, name.split("."), self.config)

    def rows(self) -> list[tuple[str, str, str]]:
        """Name, value and reason of every setting that has one."""
        return [(name, _written(self.value(name)), reason) for name, reason in self.reasons.items()]


def _written(value: Any) -> str:
    if isinstance(value, ViewConfig):
        value = value.model_dump()
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_written(one)}" for name, one in value.items())
    return f"{value:g}" if isinstance(value, float) else str(value)


def advise(
    survey: SetSurvey,
    *,
    stage: Stage | None = None,
    labels_per_class: int | None = None,
    epochs: int | None = None,
    minutes: float = MINUTES,
    encoder: str = ENCODER,
    compare: bool = True,
    frames: FrameConfig | None = None,
) -> Advice:
    """Advises settings for the recordings of a survey.

    Args:
        survey: of the set, or of a part of it.
        stage: what to train; by default "supervised" with classes, "pretrain" without.
        labels_per_class: labels that are used of each class; None is all.
        epochs: of the stage, if they are settled; those of "all" are not.
        minutes: that training may take on two CPU cores, without reading the recordings.
        encoder: the network.
        compare: whether "all" also trains from scratch, to keep what is better.
        frames: that are settled, such as those of an encoder to start from; None advises them.
    """
    stage = stage or ("supervised" if survey.class_names else "pretrain")
    draft = _Draft({"stage": stage, "data": survey.data, "encoder.name": encoder})
    if frames is None:
        frames = _frames(survey, draft)
    else:
        draft.set("frames", frames.model_dump(), "given: all else is advised for them")
    _encoder(encoder, draft)
    pass_seconds = frames.steps * frames.height * frames.width / SPEED.get(encoder, SLOW)
    used = 0.0
    if stage != "pretrain":
        limit = _Limit(30 * minutes if stage == "all" else 60 * minutes, pass_seconds, epochs)
        sections = ("finetune", "supervised") if stage == "all" and compare else (SECTION[stage],)
        used += _labelled(survey, sections, labels_per_class, frames, limit, draft)
    if stage in ("pretrain", "all"):
        used += _pretraining(survey, frames, _Limit(60 * minutes - used, pass_seconds, epochs), draft)
    config = with_values(load_recipe(DEFAULT), draft.values)
    return Advice(config, draft.reasons, _rests_on(survey), round(used / 60, 1))


class _Limit(NamedTuple):
    """What bounds the epochs of a stage."""

    seconds: float  # that there are
    pass_seconds: float  # of one recording through the network, forward and backward
    epochs: int | None  # that are settled

    def choose(self, wanted: int, epoch_seconds: float) -> tuple[int, str]:
        """The number of epochs, and what to say if it is not what the rules want."""
        if self.epochs is not None:
            return self.epochs, " (given)"
        epochs = max(1, min(wanted, int(self.seconds / epoch_seconds)))
        return epochs, "" if epochs == wanted else ", as many as the time allows"


@dataclass
class _Draft:
    """Values of settings, and reasons."""

    values: dict[str, Any]
    reasons: dict[str, str] = field(default_factory=dict)

    def set(self, name: str, value: Any, reason: str = "") -> None:
        self.values[name] = value
        if reason:
            self.reasons[name] = reason


def _rests_on(survey: SetSurvey) -> str:
    read = len(survey.samples)
    looked = "all" if read == survey.recordings else f"{read:,} of"
    classes = f" of {len(survey.class_names)} classes" if survey.class_names else ""
    (width, height), _ = next(iter(survey.sensors.items()))
    events, duration = np.median(survey.values("events")), np.median(survey.values("duration_us")) / 1e3
    return (
        f"It rests on {looked} {survey.recordings:,} recordings{classes}: {width} x {height} pixels, "
        f"{events:,.0f} events in {duration:,.0f} ms (medians)."
    )


def _frames(survey: SetSurvey, draft: _Draft) -> FrameConfig:
    """Steps, and a size in which what moves is neither lost nor larger than needed."""
    events = float(np.median(survey.values("events")))
    steps = max(1, min(STEPS, int(events / FEW_EVENTS)))
    enough = f"{events / steps:,.0f} events in each" if steps == STEPS else f"more would have under {FEW_EVENTS} events"
    draft.set("frames.steps", steps, f"{enough}; over four steps, eight gained up to 5 points in trials")
    draft.set("frames.slice_by", "count", _slicing(survey))
    (width, height), _ = next(iter(survey.sensors.items()))
    moving = np.median(survey.values("moving"), axis=0) * (width, height)
    together = _together(width, height, float(moving.min()))
    rows, columns = max(1, round(height / together)), max(1, round(width / together))
    what = f"{moving[0]:.0f} x {moving[1]:.0f} of {width} x {height} pixels are active at a time"
    whole = f"{together:g} by {together:g} pixels are counted together" if together > 1 else "every pixel is kept"
    draft.set("frames.height", rows, f"{what}: {whole}")
    draft.set("frames.width", columns)
    return FrameConfig(steps=steps, height=rows, width=columns)


def _slicing(survey: SetSurvey) -> str:
    quiet = float(survey.values("quiet").mean())
    if quiet > 0.1:
        return f"{quiet:.0%} of equally long slices would be almost empty; slices of equally many events are not"
    return "slices of equally many events are never empty, however long a recording lasts"


def _together(width: int, height: int, moving: float) -> float:
    """The side of the square of pixels that are counted together."""
    together = max(1, int(moving / DETAIL))
    together = min(together, max(2, min(width, height) // SHORTEST))
    return max(together, max(width, height) / LONGEST)


def _encoder(encoder: str, draft: _Draft) -> None:
    if encoder == ENCODER:
        draft.set("encoder.name", encoder, "77 k parameters: some hundred recordings can train it, in minutes on a CPU")
        draft.set("encoder.options", {"pool": 3}, "features of 3 x 3 regions: where things happen differs by class")
    else:
        draft.set("encoder.options", {}, "its defaults")


def _views(frames: FrameConfig, strong: bool) -> dict[str, Any]:
    """Affine views whose shifts fit the frames; no mirror, which may change a meaning."""
    shift = max(1, round(0.06 * min(frames.height, frames.width)))
    warp = {"rotate": 25.0, "shear": 0.3, "scale": 0.2} if strong else {"rotate": 20.0, "shear": 0.2, "scale": 0.15}
    drop = 0.5 if strong else 0.3
    return {"policy": "affine", "flip": 0.0, "shift": shift, **warp, "cutout": 0, "drop": drop, "ops": 1}


def _labelled(
    survey: SetSurvey,
    sections: Sequence[str],
    labels_per_class: int | None,
    frames: FrameConfig,
    limit: _Limit,
    draft: _Draft,
) -> float:
    """Settings of training with labels, of one stage or of two that are compared; returns its seconds."""
    sizes = _class_sizes(survey)
    parts = divide_classes(sizes, ClassifyConfig().validation, labels_per_class)
    count = sum(train for train, _ in parts)
    folds, validate = folds_to_compare(parts), any(held for _, held in parts)
    # Each fold leaves a part out, and then all are trained on.
    trainings = 2 * max(1, folds) if len(sections) > 1 and (folds or validate) else 1
    few = count <= FEW * len(sizes)
    batch = 20 if few else 32
    each = -(-count // batch)  # steps of an epoch
    seconds = trainings * (count * limit.pass_seconds + each * STEP_SECONDS)
    epochs, why = limit.choose(min(EPOCHS[1], max(EPOCHS[0], round(LABELLED_STEPS[few] / each))), seconds)
    for section in sections:
        draft.set(f"{section}.epochs", epochs, f"{epochs * each:,} steps on {count:,} recordings{why}")
        draft.set(f"{section}.batch_size", batch, f"{each:,} steps an epoch")
        draft.set(f"{section}.labels_per_class", labels_per_class)
        draft.set(f"{section}.views", _views(frames, strong=False), _why_views("shift, rotation, shear and size vary"))
        _optimizer(section, epochs, draft)
    if trainings > 1:
        draft.set("compare", True, f"fine-tuned, from scratch and a probe: {trainings} trainings instead of one")
    return epochs * seconds


def _optimizer(section: str, epochs: int, draft: _Draft) -> None:
    lr, decay, reason = RATES[section]
    draft.set(f"{section}.optimizer.lr", lr, "with AdamW and a cosine")
    draft.set(f"{section}.optimizer.weight_decay", decay, reason)
    draft.set(f"{section}.optimizer.warmup_epochs", round(WARMUP * epochs), "a tenth of the epochs")
    if section == "finetune":
        draft.set("finetune.encoder_lr_scale", 0.3, "the encoder is trained already: it learns slower than the head")


def _why_views(what: str) -> str:
    return f"{what}, events are left out; no flip, since left and right may differ in meaning (flip: 0.5 if not)"


def _class_sizes(survey: SetSurvey) -> list[int]:
    """Recordings of each class in the whole set, estimated from those that were read."""
    share = survey.recordings / len(survey.samples)
    return [round(share * len(samples)) for samples in survey.by_class().values()]


def _pretraining(survey: SetSurvey, frames: FrameConfig, limit: _Limit, draft: _Draft) -> float:
    """Settings of pre-training; returns its seconds."""
    count = survey.recordings
    half = max(2, 1 << (max(2, count // 2).bit_length() - 1))  # a power of two
    batch, queue = min(64, half), min(QUEUE, half)
    each = max(1, count // batch)
    seconds = PRETRAINING_COST * (count * limit.pass_seconds + each * STEP_SECONDS)
    epochs, why = limit.choose(min(PRETRAINING_EPOCHS, max(1, round(PRETRAINING_STEPS / each))), seconds)
    draft.set("pretrain.epochs", epochs, f"{epochs * each:,} steps on {count:,} recordings{why}")
    draft.set("pretrain.batch_size", batch, f"{each:,} steps an epoch")
    draft.set("pretrain.moco.queue_size", queue, "below the number of recordings: none is its own negative")
    draft.set("pretrain.moco.head", "batch_norm", "without it few recordings look alike for long (docs/league.md)")
    draft.set("pretrain.moco.temperature", 0.5, "better than 0.2 with few recordings (docs/pretraining-study.md)")
    draft.set("pretrain.views", _views(frames, strong=True), _why_views("stronger than with labels"))
    draft.set("pretrain.optimizer.lr", 5e-3, "with AdamW and a cosine")
    draft.set("pretrain.optimizer.warmup_epochs", min(20, round(WARMUP * epochs)), "a tenth of the epochs, 20 at most")
    return epochs * seconds
