"""The answer for one recording, whichever backend computed the logits. Needs numpy only."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from neuromoco.checkpoint import CheckpointHeader, SeenRecordings
from neuromoco.confidence import Calibration, abstention, softmax, temperature_of
from neuromoco.errors import EventFileError
from neuromoco.events import Recording, read_recording
from neuromoco.fit.reference import DURATION_SHARE
from neuromoco.fit.verdict import Fit

Floats = NDArray[np.float32]
Result = TypeVar("Result")


@dataclass(frozen=True)
class Prediction:
    """A classification with its evidence.

    Attributes:
        label: the most probable class.
        probabilities: of every class, softmax of the mean of the logits over time, divided by the temperature; largest
            first.
        logits_per_step: float [T, classes], classes in the order of the checkpoint.
        decision_step: the step (from 1) after which the label no longer changes, by the mean of the logits up to each
            step.
        timings: seconds by stage ("read", "frames", "network", "fit"), where measured.
        fit: whether the recording is of the kind that the network was trained on; None where its file does not say what
            that is. If it is not, the label means nothing.
        temperature: of the model; None where it was not calibrated.
        possible_classes: for a level of errors, the classes that may be true; None without a level.
        unsure: whether the answer is not sure enough for that level.

    Examples:
        >>> import numpy as np
        >>> from neuromoco import Prediction
        >>> logits = np.array([[0.0, 1.0], [3.0, 1.0], [3.0, 1.0]])  # [T, classes]
        >>> answer = Prediction.from_logits(logits, ("cat", "dog"))
        >>> answer.label, answer.decision_step, round(answer.probabilities["cat"], 3)
        ('cat', 2, 0.731)
    """

    label: str
    probabilities: dict[str, float]
    logits_per_step: NDArray[np.floating[Any]]
    decision_step: int
    timings: Mapping[str, float] = field(default_factory=dict, compare=False)
    fit: Fit | None = None
    temperature: float | None = None
    possible_classes: tuple[str, ...] | None = None
    unsure: bool = False

    @classmethod
    def from_logits(
        cls,
        logits: NDArray[np.floating[Any]],
        class_names: Sequence[str],
        timings: Mapping[str, float] | None = None,
        fit: Fit | None = None,
        calibration: Calibration | None = None,
        abstain: float | None = None,
    ) -> Prediction:
        """The answer for logits [T, classes].

        Args:
            logits: of one recording.
            class_names: in the order of the logits.
            timings: seconds by stage.
            fit: the verdict on the recording.
            calibration: of the model's header.
            abstain: share of errors among the answers that are given, see `neuromoco.confidence.abstention`.

        Raises:
            ConfigError: a level that the model has too few validation recordings for.
        """
        evidence, temperature = _running_mean(logits), temperature_of(calibration)
        final = softmax(evidence[-1], temperature)
        winners = evidence.argmax(axis=1)
        changes = np.flatnonzero(winners != winners[-1])
        order = np.argsort(-final, kind="stable")
        answer = cls(
            label=class_names[winners[-1]],
            probabilities={class_names[i]: float(final[i]) for i in order},
            logits_per_step=logits,
            decision_step=int(changes[-1]) + 2 if changes.size else 1,
            timings=timings or {},
            fit=fit,
            temperature=temperature,
        )
        if abstain is None:
            return answer
        limits = abstention(calibration, abstain)
        possible = limits.possible(final)
        names = tuple(class_names[i] for i in order if possible[i])
        return replace(answer, possible_classes=names, unsure=limits.is_unsure(answer.confidence))

    @property
    def confidence(self) -> float:
        """Probability of the label."""
        return self.probabilities[self.label]

    def probabilities_per_step(self) -> NDArray[np.float64]:
        """Probabilities [T, classes] by the mean of the logits up to each step, classes as in `probabilities`."""
        values = softmax(_running_mean(self.logits_per_step), self.temperature)
        return values[:, np.argsort(-values[-1], kind="stable")]

    def to_json(self) -> dict[str, Any]:
        """Returns everything as plain data for JSON; times in milliseconds."""
        return {
            "label": self.label,
            "confidence": self.confidence,
            "temperature": self.temperature,
            "unsure": self.unsure,
            "possible_classes": None if self.possible_classes is None else list(self.possible_classes),
            "probabilities": self.probabilities,
            "fit": None if self.fit is None else self.fit.to_json(),
            "decision_step": self.decision_step,
            "logits_per_step": np.round(self.logits_per_step.astype(float), 6).tolist(),
            "milliseconds": {stage: round(seconds * 1e3, 3) for stage, seconds in self.timings.items()},
        }


def _running_mean(logits: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    mean: NDArray[np.float64] = np.cumsum(logits.astype(np.float64), axis=0) / np.arange(1, len(logits) + 1)[:, None]
    return mean


class FrameNetwork(Protocol):
    """A network of any backend: frames in, logits out."""

    @property
    def header(self) -> CheckpointHeader:
        """What its file says about itself."""

    def frames(self, recordings: Sequence[Recording], /) -> Floats:
        """Frames [T, N, P, H, W] of N recordings."""

    def frame_logits(self, frames: Floats, /) -> Floats:
        """Logits [T, N, classes] of frames [T, N, P, H, W]."""


def opened(recordings: Sequence[Recording | Path | str], header: CheckpointHeader) -> list[Recording]:
    """Recordings, those given by their files read as the training recordings were.

    Raises:
        EventFileError: a file cannot be read.
    """
    options = header.read_options()
    return [one if isinstance(one, Recording) else read_recording(one, options=options) for one in recordings]


def predict_batch(
    network: FrameNetwork, recordings: Sequence[Recording], windows: bool = False, abstain: float | None = None
) -> list[Prediction]:
    """Classifies recordings, or windows of recordings, all in one batch; `abstain` as in `Prediction.from_logits`."""
    frames, framing = timed(network.frames, recordings)
    logits, running = timed(network.frame_logits, frames)
    fits, judging = timed(judge, network.header, recordings, frames, windows)
    stages = {"frames": framing, "network": running, **({"fit": judging} if network.header.fit else {})}
    timings = {stage: seconds / len(recordings) for stage, seconds in stages.items()}
    return [answer(logits[:, n], network.header, timings, fits[n], abstain) for n in range(len(recordings))]


def answer(
    logits: NDArray[np.floating[Any]],
    header: CheckpointHeader,
    timings: Mapping[str, float] | None = None,
    fit: Fit | None = None,
    abstain: float | None = None,
) -> Prediction:
    """The answer of a model for logits [T, classes] of one recording, as its header says."""
    return Prediction.from_logits(logits, header.class_names, timings, fit, header.calibration, abstain)


def judge(
    header: CheckpointHeader, recordings: Sequence[Recording], frames: Floats, windows: bool = False
) -> list[Fit | None]:
    """Whether N recordings, or windows of recordings, fit; from their frames [T, N, P, H, W]."""
    if header.fit is None:
        return [None] * len(recordings)
    return [
        header.fit.judge(frames[:, n], one.duration, (one.height, one.width), window=windows)
        for n, one in enumerate(recordings)
    ]


def check_complete(path: Path | str, recording: Recording, seen: SeenRecordings) -> None:
    """Refuses a recording that is much shorter than all training recordings, less than 3/4 of the shortest."""
    if recording.duration < DURATION_SHARE * seen.shortest_us:
        raise EventFileError(
            f"{path}: lasts {recording.duration / 1e3:.0f} ms where training recordings last "
            f"{seen.shortest_us / 1e3:.0f} to {seen.longest_us / 1e3:.0f} ms: cut short? "
            "Give --any-length to classify it anyway"
        )


def timed(work: Callable[..., Result], *arguments: Any) -> tuple[Result, float]:
    """The result of a call, and the seconds that it took."""
    begin = time.perf_counter()
    result = work(*arguments)
    return result, time.perf_counter() - begin
