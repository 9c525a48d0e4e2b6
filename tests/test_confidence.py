"""Temperatures, unsure answers and possible classes: closed forms, and what is promised, by simulation."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError

from neuromoco import Prediction
from neuromoco.checkpoint import CheckpointHeader
from neuromoco.confidence import MOST_KEPT, RISK, Calibration, abstention, binomial_tail, fewest, softmax
from neuromoco.errors import ConfigError
from neuromoco.runtime.header import ExportHeader
from tests.helpers.networks import export_header


def validated(right: NDArray[np.float64], wrong: NDArray[np.float64], true: NDArray[np.float64]) -> Calibration:
    pairs = tuple(zip(wrong.tolist(), true.tolist(), strict=True))
    size = len(right) + len(wrong)
    return Calibration(temperature=1.0, source="validation", recordings=size, right=tuple(right.tolist()), wrong=pairs)


def test_a_temperature_divides_the_logits_and_changes_no_label() -> None:
    assert softmax(np.array([0.0, 2.0 * math.log(3.0)]), 2.0).tolist() == pytest.approx([0.25, 0.75])
    logits = np.random.default_rng(0).normal(0, 5, (6, 4))
    for temperature in (0.1, 1.0, 30.0):
        answer = Prediction.from_logits(
            logits, tuple("abcd"), None, None, Calibration(temperature=temperature, source="validation", recordings=40)
        )
        plain = Prediction.from_logits(logits, tuple("abcd"))
        assert (answer.label, answer.decision_step) == (plain.label, plain.decision_step)
        assert list(answer.probabilities) == list(plain.probabilities)
        assert answer.probabilities_per_step()[-1] == pytest.approx(list(answer.probabilities.values()))
        assert answer.confidence == pytest.approx(softmax(logits.mean(0) / temperature).max())


def test_the_binomial_tail_is_the_exact_sum() -> None:
    for most, trials, share in ((0, 45, 0.05), (3, 132, 0.05), (20, 1000, 0.01), (7, 7, 0.3)):
        exact = sum(math.comb(trials, k) * share**k * (1 - share) ** (trials - k) for k in range(most + 1))
        assert binomial_tail(most, trials, share) == pytest.approx(exact, rel=1e-9)
    assert fewest(0.05) == 45
    assert binomial_tail(0, 45, 0.05) <= RISK < binomial_tail(0, 44, 0.05)


def test_thresholds_of_recordings_that_can_be_counted() -> None:
    right, low = np.full(45, 0.9), np.full(20, 0.5)
    limits = abstention(validated(right, np.array([0.6]), np.array([0.4])), 0.05)
    assert limits.threshold == 0.6  # 45 right answers above it; with the wrong one, they no longer show enough
    assert limits.is_unsure(0.6)
    assert not limits.is_unsure(0.61)
    assert abstention(validated(right, np.array([0.95]), np.array([0.05])), 0.05).threshold == 1.0  # none is sure
    assert abstention(validated(np.append(right, low), np.empty(0), np.empty(0)), 0.05).threshold == 0.0  # all are
    assert limits.least == 0.9  # the second smallest of 46 true probabilities
    assert limits.possible(np.array([[0.95, 0.05, 0.0], [0.5, 0.3, 0.2]])).tolist() == [[True, False, False]] * 2


def simulated(size: int, generator: np.random.Generator) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Probabilities [S, 3] that are too confident, and classes."""
    logits = generator.normal(0, 2.5, (size, 3))
    labels = (generator.random(size)[:, None] > softmax(logits).cumsum(1)).sum(1)
    return softmax(logits, 0.6), labels


def test_levels_are_kept_as_promised() -> None:
    generator = np.random.default_rng(0)
    shares, labels = simulated(10_000, generator)
    right = shares.argmax(1) == labels
    broken, answered, holds = 0, [], []
    for _ in range(300):
        some, of = simulated(150, generator)
        good = some.argmax(1) == of
        limits = abstention(validated(some.max(1)[good], some.max(1)[~good], some[~good, of[~good]]), 0.1)
        given = shares.max(1) > limits.threshold
        broken += bool(given.any() and (~right[given]).mean() > 0.1)
        answered.append(given.mean())
        holds.append(limits.possible(shares)[np.arange(len(labels)), labels].mean())
    assert broken / 300 <= RISK + 3 * math.sqrt(RISK * (1 - RISK) / 300)
    assert np.mean(answered) > 0.2  # it is no promise that nothing answers
    assert np.mean(holds) == pytest.approx(1 - 15 / 151, abs=0.006)  # of 150, the 15th smallest is the limit


@pytest.mark.parametrize("level", [0.0, 1.0, -0.5, 2.0, math.nan])
def test_a_level_is_a_share(level: float) -> None:
    with pytest.raises(ConfigError, match="a share of errors, above 0 and below 1"):
        abstention(None, level)


def test_too_few_recordings_are_one_line() -> None:
    with pytest.raises(ConfigError, match=r"errors below 0\.05 need 45 recordings or more .* none is known"):
        abstention(None, 0.05)
    with pytest.raises(ConfigError, match="44 validated this model"):
        abstention(validated(np.full(44, 0.9), np.empty(0), np.empty(0)), 0.05)
    with pytest.raises(ConfigError, match="none is known"):
        abstention(Calibration(temperature=1.5, source="folds", recordings=60), 0.05)


def test_answers_say_what_is_unsure_and_what_is_possible() -> None:
    calibration = validated(np.full(45, 0.9), np.array([0.6]), np.array([0.4]))
    names = ("a", "b", "c")
    sure = Prediction.from_logits(np.log([[0.95, 0.03, 0.02]]), names, None, None, calibration, 0.05)
    unsure = Prediction.from_logits(np.log([[0.05, 0.5, 0.45]]), names, None, None, calibration, 0.05)
    assert (sure.unsure, sure.possible_classes) == (False, ("a",))
    assert (unsure.unsure, unsure.label, unsure.possible_classes) == (True, "b", ("b",))
    facts = json.loads(json.dumps(unsure.to_json()))
    assert facts["confidence"] == pytest.approx(0.5)
    assert (facts["temperature"], facts["unsure"], facts["possible_classes"]) == (1.0, True, ["b"])
    without = Prediction.from_logits(np.zeros((1, 3)), names).to_json()
    assert (without["temperature"], without["unsure"], without["possible_classes"]) == (None, False, None)


def test_headers_keep_it_and_those_of_earlier_versions_have_none() -> None:
    plain = export_header(2, 12)
    assert "calibration" not in json.loads(plain.model_dump_json())
    assert ExportHeader.model_validate_json(plain.model_dump_json()).calibration is None
    calibration = validated(np.array([0.5, 0.75]), np.array([0.6]), np.array([0.1]))
    written = export_header(2, 12, calibration=calibration).model_dump_json()
    assert ExportHeader.model_validate_json(written).calibration == calibration
    assert CheckpointHeader.model_fields.keys() >= {"calibration"}


@pytest.mark.parametrize(
    "facts",
    [
        {"temperature": 0.0, "source": "validation"},
        {"temperature": math.inf, "source": "validation"},
        {"temperature": 1.0, "source": "none"},
        {"temperature": None, "source": "folds"},
        {"temperature": 1.0, "source": "validation", "right": [1.5]},
        {"temperature": 1.0, "source": "validation", "right": [0.5] * (MOST_KEPT + 1)},
    ],
)
def test_headers_that_make_no_sense_are_refused(facts: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Calibration.model_validate(facts)
