"""How sure an answer is: calibrated probabilities, possible classes, and answers that are rather not given.

All three rest on recordings with labels that the network was not trained on, which a `Calibration` sums up. What is
promised holds for new recordings of the same kind, whole ones, and for nothing else. Needs numpy only.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from neuromoco.config.base import Settings
from neuromoco.errors import ConfigError

RISK = 0.1  # probability, over the draw of the validation recordings, that a threshold does not keep its level
MOST_KEPT = 1000  # recordings in a file
DIGITS = 6  # of their probabilities
LEAST_TEMPERATURE, LARGEST_TEMPERATURE = 1e-2, 1e2

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Floats = NDArray[np.floating[Any]]


class Calibration(Settings):
    """What recordings that a network was not trained on say of its probabilities.

    Attributes:
        temperature: that logits are divided by before the softmax (Guo et al. 2017, arXiv 1706.04599); None if there
            are too few recordings.
        source: of these recordings: the validation part, or the training part in folds, of which each was classified
            by a head that did not see it; "none" if there are too few.
        recordings: their number.
        right: confidence of right answers, at most 1,000 together with `wrong`, drawn at random; none of folds. Of a
            group, such as the parts of one recording, one alone is among them.
        wrong: confidence of wrong answers, and probability of the true class.
    """

    temperature: float | None = Field(None, ge=LEAST_TEMPERATURE, le=LARGEST_TEMPERATURE)
    source: Literal["validation", "folds", "none"] = "none"
    recordings: int = Field(0, ge=0, lt=1 << 31)
    right: tuple[Share, ...] = Field((), max_length=MOST_KEPT)
    wrong: tuple[tuple[Share, Share], ...] = Field((), max_length=MOST_KEPT)

    @model_validator(mode="after")
    def _check(self) -> Calibration:
        if (self.temperature is None) != (self.source == "none"):
            raise ValueError(f"temperature {self.temperature} from {self.source}")
        return self

    def in_words(self) -> str:
        """The temperature and what it rests on, in a few words."""
        if self.temperature is None:
            return f"not calibrated: {self.recordings} recordings that did not train are too few"
        return f"temperature {self.temperature:.3g}, from {self.recordings:,} recordings ({self.source})"


def temperature_of(calibration: Calibration | None) -> float | None:
    """The temperature of a file; None if it has none: of an earlier version, or of too few recordings."""
    return None if calibration is None else calibration.temperature


def softmax(logits: Floats, temperature: float | None = None) -> NDArray[np.float64]:
    """Probabilities [..., classes] of logits [..., classes], divided by a temperature, if there is one."""
    scaled = logits.astype(np.float64) / (temperature or 1.0)
    shares: NDArray[np.float64] = np.exp(scaled - scaled.max(-1, keepdims=True))
    shares /= shares.sum(-1, keepdims=True)
    return shares


@dataclass(frozen=True)
class Abstention:
    """When an answer is "unsure", for a level of errors.

    Attributes:
        level: share of errors among the answers that are given, 0 to 1.
        threshold: answers of this confidence or less are unsure; 1 if no confidence keeps the level.
        least: classes of this probability or more are possible.
    """

    level: float
    threshold: float
    least: float

    @property
    def answers(self) -> bool:
        """Whether some confidence is enough for an answer."""
        return self.threshold < 1.0

    def is_unsure(self, confidence: float) -> bool:
        """Whether an answer of this confidence is rather not given."""
        return confidence <= self.threshold

    def possible(self, probabilities: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Which classes are possible [..., classes], the likeliest among them, given probabilities [..., classes]."""
        possible: NDArray[np.bool_] = probabilities >= np.minimum(self.least, probabilities.max(-1, keepdims=True))
        return possible


@lru_cache(maxsize=16)
def abstention(calibration: Calibration | None, level: float) -> Abstention:
    """The thresholds that keep a level of errors, from the recordings that validated a network.

    Two promises, for new recordings of the kind of those:

    - Of the answers above `threshold`, at most `level` are wrong in the long run. This holds with a probability of 90 %
      over the draw of the validation recordings, if answers of more confidence are no more often wrong: thresholds are
      tested in fixed sequence by the binomial tail bound (Angelopoulos et al. 2021, arXiv 2110.01052).
    - The true class is among those above `least` with a probability of at least 1 - `level`, over the draw of both:
      split conformal prediction (Sadinle et al. 2019, arXiv 1609.00451).

    Both hold exactly for weights that these recordings did not choose, and temperatures that they did not fit; the
    best of several epochs and one fitted number come close.

    Args:
        calibration: of a model's header.
        level: share of errors, above 0 and below 1.

    Raises:
        ConfigError: another level, or too few recordings for it.

    Examples:
        >>> from neuromoco.confidence import Calibration, abstention
        >>> sure = Calibration(temperature=1.0, source="validation", recordings=90, right=(0.6,) * 40 + (0.9,) * 50)
        >>> abstention(sure, 0.05)
        Abstention(level=0.05, threshold=0.0, least=0.6)
    """
    if not 0.0 < level < 1.0:
        raise ConfigError(f"abstain={level:g}; it is a share of errors, above 0 and below 1, for example 0.05")
    right, wrong = ((), ()) if calibration is None else (calibration.right, calibration.wrong)
    known, needed = len(right) + len(wrong), fewest(level)
    if known < needed:
        has = "validated this model" if known else "is known that validated this model"
        raise ConfigError(
            f"errors below {level:g} need {needed} recordings or more that the model was not trained on, one of each "
            f"group, and {known or 'none'} {has}: give a larger level, or train with more in validation"
        )
    errors = [confidence for confidence, _ in wrong]
    true = sorted([*right, *(probability for _, probability in wrong)])
    rank = math.floor(level * (known + 1))  # 1 or more, since there are enough
    return Abstention(level, _threshold(sorted([*right, *errors]), sorted(errors), level), true[min(rank, known) - 1])


def fewest(level: float) -> int:
    """The smallest number of recordings, all answered right, that shows that errors are below a level."""
    return math.ceil(math.log(RISK) / math.log1p(-level))


def _threshold(confidences: Sequence[float], errors: Sequence[float], level: float) -> float:
    """The lowest threshold that is reached from above without a failed test; both sequences ascend."""
    found = 1.0
    for threshold in [*sorted(set(confidences), reverse=True), 0.0]:
        answered = len(confidences) - bisect_right(confidences, threshold)
        if answered < fewest(level):
            continue
        if binomial_tail(len(errors) - bisect_right(errors, threshold), answered, level) > RISK:
            break
        found = threshold
    return found


def binomial_tail(most: int, trials: int, share: float) -> float:
    """Probability of at most `most` successes in `trials`, each of probability `share`."""
    logs = (
        math.lgamma(trials + 1) - math.lgamma(k + 1) - math.lgamma(trials - k + 1)
        + k * math.log(share) + (trials - k) * math.log1p(-share)
        for k in range(most + 1)
    )  # fmt: skip
    return min(1.0, math.fsum(map(math.exp, logs)))
