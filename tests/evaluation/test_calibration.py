"""The calibration error and what abstention does, in closed form and by simulation."""

from __future__ import annotations

import numpy as np
import pytest

from neuromoco.confidence import Calibration
from neuromoco.datasets import Listing
from neuromoco.evaluation.accuracy import score, wilson
from neuromoco.evaluation.calibration import calibration_error, grouped_wilson, measure_confidence
from neuromoco.train.calibrate import fit_temperature


def test_the_error_is_the_mean_distance_in_the_bins() -> None:
    confidence = np.array([0.55, 0.55, 0.95, 0.95, 0.95, 1.0])
    right = np.array([True, False, True, True, True, False])
    # One bin: |1.10 - 1| = 0.10; the other: |3.85 - 3| = 0.85; of 6.
    assert calibration_error(confidence, right).value == pytest.approx((0.10 + 0.85) / 6)
    assert calibration_error(np.ones(5), np.ones(5, bool)).to_json() == {
        "value": 0.0,
        "interval_95": [0.0, 0.0],
        "of_perfect": 0.0,
    }


def test_of_perfect_is_what_perfect_probabilities_have() -> None:
    generator = np.random.default_rng(0)
    confidence = generator.uniform(0.5, 1.0, 200)
    errors = [calibration_error(confidence, generator.random(200) < confidence) for _ in range(20)]
    values = [error.value for error in errors]
    assert np.mean(values) == pytest.approx(errors[0].of_perfect, abs=0.012)


def test_the_interval_covers_and_parts_of_a_recording_count_as_one() -> None:
    generator = np.random.default_rng(1)
    confidence = np.full(400, 0.95)
    inside = 0
    for _ in range(40):
        low, high = calibration_error(confidence, generator.random(400) < 0.8).interval
        inside += low <= 0.15 <= high
    assert inside >= 34
    right = np.repeat(generator.random(40) < 0.8, 10)
    alone = calibration_error(confidence, right)
    parts = calibration_error(confidence, right, [str(i // 10) for i in range(400)])
    assert parts.value == alone.value
    widths = [end[1] - end[0] for end in (alone.interval, parts.interval)]
    assert widths[1] > 2.5 * widths[0]  # sqrt(10) times as wide


def test_an_evaluation_with_unsure_answers(tmp_path) -> None:  # type: ignore[no-untyped-def]
    names = ("a", "b")
    labels = np.array([0] * 6 + [1] * 4)
    logits = np.zeros((10, 2, 2), np.float32)  # [S, T, classes]
    logits[:6, :, 0] = np.log(9.0)  # 0.9
    logits[6:8, :, 1] = np.log(9.0)
    logits[8, :, 0] = np.log(9.0)  # wrong
    logits[9, :, 0] = np.log(1.5)  # wrong at 0.6
    listing = Listing(tmp_path, tuple(map(str, range(10))), tuple(labels.tolist()), names)
    result = score(labels, logits.mean(1).argmax(1), names)
    result = type(result)(**vars(result) | {"logits": logits, "listing": listing})
    calibration = Calibration(
        temperature=1.0, source="validation", recordings=50, right=(0.7,) * 49, wrong=((0.65, 0.3),)
    )
    found = measure_confidence(result, calibration, 0.05)
    facts = found.to_json()
    assert facts["calibration_error"]["value"] == pytest.approx((abs(9 * 0.9 - 8) + 0.6) / 10)
    assert facts["calibration_error_without_temperature"] == facts["calibration_error"]
    abstention = facts["abstention"]
    assert (abstention["threshold"], abstention["answered"], abstention["coverage"]) == (0.65, 9, 0.9)
    assert abstention["error_among_answered"] == pytest.approx(1 / 9)
    assert abstention["possible_classes"] == 1.0
    assert abstention["true_class_is_possible"] == 0.8
    assert "abstention" not in measure_confidence(result, None).to_json()


def test_the_interval_of_errors_among_answers_covers_where_parts_of_a_recording_belong_together() -> None:
    generator, inside, plain = np.random.default_rng(3), 0, 0
    for _ in range(200):
        wrong = np.repeat(generator.random(40) < 0.2, 10)
        low, high = grouped_wilson(wrong, np.repeat(np.arange(40), 10).astype(str))
        inside += low <= 0.2 <= high
        low, high = grouped_wilson(wrong, np.arange(400).astype(str))
        assert (low, high) == pytest.approx(wilson(int(wrong.sum()), 400))
        plain += low <= 0.2 <= high
    assert inside >= 184
    assert plain < 120
    assert grouped_wilson(np.zeros(400, bool), np.repeat(np.arange(40), 10).astype(str)) == wilson(0, 40)


def test_a_temperature_is_found_again() -> None:
    generator = np.random.default_rng(2)
    logits = generator.normal(0, 3, (20_000, 5))
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    labels = (generator.random(len(logits))[:, None] > shares.cumsum(1)).sum(1)
    for temperature in (0.5, 1.0, 4.0):
        assert fit_temperature(temperature * logits, labels) == pytest.approx(temperature, rel=0.03)


def test_answers_that_are_all_right_are_no_certainty() -> None:
    logits, labels = np.eye(4)[np.arange(40) % 4] * 3.0, np.arange(40) % 4
    temperature = fit_temperature(logits, labels)
    scaled = np.exp(logits / temperature)
    # Where the recordings are all alike, the probability is that of the rule of succession, 41 of 42.
    assert (scaled.max(1) / scaled.sum(1)) == pytest.approx(41 / 42, abs=1e-4)
