"""How well probabilities are calibrated, and what leaving out unsure answers does, on labelled recordings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuromoco.confidence import Abstention, Calibration, abstention, softmax, temperature_of
from neuromoco.evaluation.accuracy import Evaluation, wilson

BINS = 10  # of confidence
DRAWS = 1000  # of the bootstrap, and of answers that are as often right as their confidence says
SEED = 0


@dataclass(frozen=True)
class CalibrationError:
    """An expected calibration error: the mean distance of confidence and share of right answers over 10 equal bins.

    Naeini et al. 2015; Guo et al. 2017, arXiv 1706.04599. It is above 0 even for perfect probabilities, more so on few
    recordings: `of_perfect` says by how much.

    Attributes:
        value: 0 to 1.
        interval: of 95 %, the basic bootstrap over recordings, or over groups of their parts; it corrects for most of
            that excess, so that `value` lies in its upper half. Compare a small one with `of_perfect`.
        of_perfect: mean error of answers that are right as often as these confidences say.
    """

    value: float
    interval: tuple[float, float]
    of_perfect: float

    def to_json(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {"value": self.value, "interval_95": list(self.interval), "of_perfect": self.of_perfect}

    def in_words(self) -> str:
        """The error with its interval."""
        low, high = self.interval
        return (
            f"{self.value:.3f} (95 % interval {low:.3f} to {high:.3f}; of perfect probabilities {self.of_perfect:.3f})"
        )


def calibration_error(
    confidence: NDArray[np.float64], right: NDArray[np.bool_], groups: Sequence[str] = ()
) -> CalibrationError:
    """The expected calibration error of S answers.

    Args:
        confidence: probability of each answer [S].
        right: whether it is right [S].
        groups: names of what belongs together [S], such as recordings of which each answer is for a part; by default
            each answer is its own.

    Examples:
        >>> import numpy as np
        >>> from neuromoco.evaluation.calibration import calibration_error
        >>> calibration_error(np.array([0.75, 0.75, 0.75, 0.75]), np.array([True, True, True, False])).value
        0.0
    """
    size, generator = len(right), np.random.default_rng(SEED)
    inside = np.zeros((size, BINS))  # [S, bins]
    inside[np.arange(size), bins_of(confidence)] = 1.0
    gaps = inside * (confidence - right)[:, None]
    value = float(np.abs(gaps.sum(0)).sum() / size)
    names, members = np.unique(list(groups) or np.arange(size), return_inverse=True)
    by_group, sizes = np.zeros((len(names), BINS)), np.bincount(members)
    np.add.at(by_group, members, gaps)
    drawn = generator.multinomial(len(names), np.full(len(names), 1 / len(names)), DRAWS)  # [draws, groups]
    low, high = np.quantile(np.abs(drawn @ by_group).sum(1) / (drawn @ sizes), (0.025, 0.975)).tolist()
    perfect = [np.abs((confidence - (generator.random(size) < confidence)) @ inside).sum() / size for _ in range(DRAWS)]
    interval = max(0.0, 2 * value - high), max(0.0, 2 * value - low)
    return CalibrationError(value, interval, float(np.mean(perfect)))


def bins_of(confidence: NDArray[np.float64]) -> NDArray[np.int64]:
    """The bin of each confidence, of 10 that are equally wide."""
    return np.minimum((confidence * BINS).astype(np.int64), BINS - 1)


@dataclass(frozen=True)
class Abstained:
    """What leaving out unsure answers does.

    Attributes:
        limits: the thresholds.
        answered: number of answers that are given.
        recordings: of all.
        wrong: number of given answers that are wrong.
        holds: share of recordings whose true class is among the possible ones.
        possible: mean number of possible classes.
        interval: of 95 % of the error, Wilson's, of as many recordings as those of the groups count for; None without
            an answer.
    """

    limits: Abstention
    answered: int
    recordings: int
    wrong: int
    holds: float
    possible: float
    interval: tuple[float, float] | None = None

    @property
    def coverage(self) -> float:
        """Share of recordings with an answer."""
        return self.answered / self.recordings

    @property
    def error(self) -> float | None:
        """Share of wrong answers among those given; None without any."""
        return self.wrong / self.answered if self.answered else None

    def to_json(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "level": self.limits.level,
            "threshold": self.limits.threshold,
            "coverage": self.coverage,
            "answered": self.answered,
            "error_among_answered": self.error,
            "error_interval_95": list(self.interval or (None, None)),
            "possible_classes": self.possible,
            "true_class_is_possible": self.holds,
        }


@dataclass(frozen=True)
class Confidence:
    """Calibration of an evaluation.

    Attributes:
        calibration: of the model's header.
        error: with the temperature of the model.
        before: without it.
        abstained: for a level of errors, or None.
    """

    calibration: Calibration | None
    error: CalibrationError
    before: CalibrationError
    abstained: Abstained | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain data for JSON."""
        facts: dict[str, Any] = {
            "temperature": temperature_of(self.calibration),
            "calibration_error": self.error.to_json(),
            "calibration_error_without_temperature": self.before.to_json(),
        }
        return facts | ({"abstention": self.abstained.to_json()} if self.abstained else {})


def measure_confidence(result: Evaluation, calibration: Calibration | None, level: float | None = None) -> Confidence:
    """Measures the confidence of the answers of an evaluation with logits.

    Args:
        result: of `evaluate`.
        calibration: of the model's header.
        level: share of errors to keep by leaving out unsure answers.

    Raises:
        ConfigError: a level that the model has too few validation recordings for.
    """
    assert result.logits is not None
    assert result.listing is not None
    logits = result.logits.astype(np.float64).mean(1)  # [S, classes]
    groups = result.listing.group_of

    def error(shares: NDArray[np.float64]) -> CalibrationError:
        return calibration_error(shares.max(1), shares.argmax(1) == result.labels, groups)

    before, shares = softmax(logits), softmax(logits, temperature_of(calibration))
    abstained = None if level is None else _abstained(shares, result.labels, abstention(calibration, level), groups)
    return Confidence(calibration, error(shares), error(before), abstained)


def _abstained(
    shares: NDArray[np.float64], labels: NDArray[np.int64], limits: Abstention, groups: Sequence[str]
) -> Abstained:
    given = shares.max(1) > limits.threshold
    wrong = (shares.argmax(1) != labels)[given]
    possible = limits.possible(shares)
    holds = float(possible[np.arange(len(labels)), labels].mean())
    interval = grouped_wilson(wrong, np.asarray(groups)[given]) if wrong.size else None
    return Abstained(limits, wrong.size, len(labels), int(wrong.sum()), holds, float(possible.sum(1).mean()), interval)


def grouped_wilson(happened: NDArray[np.bool_], groups: NDArray[np.str_]) -> tuple[float, float]:
    """Wilson's 95 % interval of the share of S answers, of groups [S], that something happened to.

    Its size is that of as many independent answers as have the share's variance between groups (the design effect,
    Kish 1965), from the number of groups to S; where it is 0 or 1, that of groups.

    Examples:
        >>> import numpy as np
        >>> from neuromoco.evaluation.calibration import grouped_wilson
        >>> wrong = np.array([True, False, False, False] * 20)
        >>> [round(end, 2) for end in grouped_wilson(wrong, np.arange(80).astype(str))]
        [0.17, 0.35]
    """
    size, share = happened.size, float(happened.mean())
    names, members = np.unique(groups, return_inverse=True)
    variance, count = 0.0, len(names)
    if 1 < count < size:
        sums = np.bincount(members, happened - share)
        variance = float((sums**2).sum()) * count / (count - 1) / size**2
    effective = share * (1.0 - share) / variance if variance else count
    effective = min(max(effective, count), size)
    return wilson(share * effective, effective)
