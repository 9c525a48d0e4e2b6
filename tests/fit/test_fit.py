"""Figures of recordings in closed form; references of recordings, what they call unlike, and what damages them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from neuromoco.config import FrameConfig
from neuromoco.events import Recording
from neuromoco.fit.build import clusters, distance_limit, fit_reference
from neuromoco.fit.figures import FLOORS, NAMES, figures
from neuromoco.fit.reference import FALSE_ALARMS, FitReference, Normals
from neuromoco.fit.verdict import UNLIKE, Fit, plain, seconds
from neuromoco.frames import recording_frames

FRAMES = FrameConfig(steps=4, slice_by="count", height=12, width=12)


def edge(number: int, events: int = 600, duration_us: int = 100_000, speed: float = 6.0) -> Recording:
    """An edge of noisy height that moves to the right: ON events ahead of OFF events."""
    rng = np.random.default_rng(number)
    t = np.sort(rng.integers(0, duration_us, events))
    t[[0, -1]] = 0, round(duration_us * rng.uniform(0.95, 1.0))
    p = rng.integers(0, 2, events)
    x = np.clip(3 + speed * t / duration_us + 2 * p + rng.normal(0, 0.5, events), 0, 19)
    y = np.clip(rng.normal(10, 3, events), 0, 19)
    return Recording.from_columns(t, x.astype(np.int64), y.astype(np.int64), p, width=20, height=20)


def window(recording: Recording, begin: int, end: int) -> Recording:
    part = slice(*np.searchsorted(recording.t, (begin, end)))
    return replace(recording, **{name: getattr(recording, name)[part] for name in "txyp"})


def judged(reference: FitReference, recording: Recording, window: bool = False) -> Fit:
    frames = recording_frames(recording, FRAMES)
    return reference.judge(frames, recording.duration, (recording.height, recording.width), window=window)


@pytest.fixture(scope="module")
def reference() -> FitReference:
    recordings = [edge(number) for number in range(60)]
    found = fit_reference(recordings, [one.duration for one in recordings], FRAMES)
    assert found is not None
    return found


def test_figures_in_closed_form() -> None:
    frames = np.zeros((4, 2, 4, 8))
    frames[:, 1, 1, 6] = 3  # ON at row 1, column 6
    frames[:, 0, 3, 2] = 1  # OFF at row 3, column 2
    found = dict(zip(NAMES, figures(frames, 2_000_000, (40, 80)), strict=True))
    assert found["rate"] == pytest.approx(np.log(8))
    assert found["on"] == pytest.approx(0.75)
    assert found["row"] == pytest.approx((0.75 * 1.5 + 0.25 * 3.5) / 4)
    assert found["width"] == pytest.approx(np.log(np.sqrt(0.75 * 0.25) * 4 / 8), abs=1e-3)
    assert found["area"] == pytest.approx(np.log(1 / (0.75**2 + 0.25**2) / 32))
    assert found["filled"] == pytest.approx(np.log(8 / frames.size))
    assert (found["together"], found["mixed"], found["change"]) == pytest.approx((0, 0, 0))
    assert found["sensor"] == pytest.approx(np.log(3200))
    assert [found[f"motion_row_{part}"] for part in range(4)] == pytest.approx([-0.5] * 4)
    assert [found[f"motion_column_{part}"] for part in range(4)] == pytest.approx([0.5] * 4)
    assert found["duration"] == pytest.approx(np.log(2e6))


def test_figures_of_neighbours_mixture_and_change() -> None:
    frames = np.zeros((2, 2, 4, 8))
    frames[0, :, 2, 3:5] = 1  # two neighbours, both polarities
    frames[1, :, 2, 7], frames[1, :, 3, 0] = 1, 1  # adjacent in memory, not on the sensor
    found = dict(zip(NAMES, figures(frames, 1, (1, 1)), strict=True))
    assert found["together"] == pytest.approx(0.5 * (1 / 64 + 1 / 16 * 0 + 3 / 64) / (4 / 16) * 1 / 1, abs=1)
    assert found["mixed"] == pytest.approx(0.5)
    assert found["change"] == pytest.approx(1.0)


@pytest.mark.parametrize("shape", [(1, 2, 5, 7), (3, 2, 9, 4), (4, 2, 8, 8)])
def test_frames_without_events_have_finite_figures(shape: tuple[int, ...]) -> None:
    assert np.isfinite(figures(np.zeros(shape), 0, (0, 0))).all()


def test_distances_are_those_of_mahalanobis() -> None:
    rng = np.random.default_rng(0)
    mean, values, half = rng.normal(size=5), rng.normal(size=(7, 5)), rng.normal(size=(5, 5))
    covariance = half @ half.T + np.eye(5)
    away = values - mean
    expected = np.sqrt(np.einsum("ni,ij,nj->n", away, np.linalg.inv(covariance), away) / 5)
    assert Normals.of(mean[None], covariance[None]).distances(values)[:, 0] == pytest.approx(expected)


def test_new_recordings_of_the_kind_fit_and_changed_ones_do_not(reference: FitReference) -> None:
    held = [edge(number) for number in range(1000, 1100)]
    assert sum(not judged(reference, one).fits for one in held) <= 5
    changed = {
        "turned": [replace(one, x=one.width - 1 - one.x) for one in held],
        "sped up": [replace(one, t=one.t // 10) for one in held],
        "half": [window(one, 0, 50_000) for one in held],
        "busy": [edge(number, events=6000) for number in range(2000, 2020)],
    }
    for what, recordings in changed.items():
        assert not any(judged(reference, one).fits for one in recordings), what


def test_windows_are_judged_by_windows_of_their_length(reference: FitReference) -> None:
    for length in (50_000, 25_000, 35_000):
        parts = [window(edge(number), 20_000, 20_000 + length) for number in range(1000, 1040)]
        assert sum(not judged(reference, one, window=True).fits for one in parts) <= 4, length
        assert not any(judged(reference, one).fits for one in parts), length
        turned = [replace(one, x=one.width - 1 - one.x) for one in parts]
        assert sum(judged(reference, one, window=True).fits for one in turned) <= 4, length


def test_reasons_name_what_differs(reference: FitReference) -> None:
    half = judged(reference, window(edge(1), 0, 50_000))
    assert half.verdict == UNLIKE
    assert half.reasons[0].startswith("lasts 4")
    assert "; trained on 9" in half.reasons[0]
    assert half.reasons[0].endswith("cut short?")
    long = judged(reference, edge(1, duration_us=20_000_000))
    assert any(reason.startswith("lasts 20 s") and "trained on" in reason for reason in long.reasons)
    busy = judged(reference, edge(1, events=6000))
    assert any("10 x as many events a second" in reason for reason in busy.reasons)
    turned = edge(1)
    turned = judged(reference, replace(turned, x=turned.width - 1 - turned.x))
    assert "edges move otherwise" in turned.reasons
    larger = edge(1)
    larger = judged(reference, replace(larger, x=larger.x * 4, y=larger.y * 4, width=80, height=80))
    assert larger.reasons == ("sensor of 80 x 80 pixels; trained on 20 x 20",)
    assert judged(reference, edge(1)).reasons == ()


def test_a_limit_of_durations_holds_however_they_vary() -> None:
    recordings = [edge(number, duration_us=20_000 * (1 + number % 50)) for number in range(100)]
    found = fit_reference(recordings, [one.duration for one in recordings], FRAMES)
    assert found is not None
    assert not judged(found, edge(5, events=90, duration_us=12_000)).fits
    assert not judged(found, edge(5, duration_us=1_500_000)).fits


def test_few_recordings_have_no_reference_and_ten_a_wide_one() -> None:
    few = [edge(number) for number in range(9)]
    assert fit_reference(few, [one.duration for one in few], FRAMES) is None
    ten = [*few, edge(9)]
    found = fit_reference(ten, [one.duration for one in ten], FRAMES)
    assert found is not None
    assert sum(not judged(found, edge(number)).fits for number in range(1000, 1050)) <= 2
    assert not judged(found, edge(1, events=60_000)).fits


def test_a_reference_is_the_same_again_and_after_json(reference: FitReference) -> None:
    recordings = [edge(number) for number in range(60)]
    again = fit_reference(iter(recordings), [one.duration for one in recordings], FRAMES)
    assert again == reference
    read = FitReference.model_validate_json(reference.model_dump_json())
    assert judged(read, edge(70)) == judged(reference, edge(70))


def test_alike_recordings_have_the_least_spread() -> None:
    found = fit_reference([edge(1)] * 20, [edge(1).duration] * 20, FRAMES)
    assert found is not None
    assert (found.whole.normals.deviations >= FLOORS * 0.99).all()
    assert judged(found, edge(1)).fits


DIAGONAL = np.cumsum(np.arange(1, len(NAMES) + 1)) - 1  # of a lower triangle, row by row


def test_groups_are_held_out_together_and_counted() -> None:
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(8), 10)
    values = 3.0 * rng.normal(size=(8, 3))[groups] + rng.normal(size=(80, 3))
    floors = np.full(3, 0.01)
    apart = distance_limit(values, list(range(80)), floors)
    assert distance_limit(values, groups.tolist(), floors) > 1.5 * apart
    others = 3.0 * rng.normal(size=(200, 3)) + rng.normal(size=(200, 3))  # of as many other groups
    away = Normals.of(*clusters(values, floors)).distances(others).min(1)
    assert np.mean(away > distance_limit(values, groups.tolist(), floors)) <= FALSE_ALARMS < np.mean(away > apart)


def test_a_reference_takes_groups_where_there_are_enough() -> None:
    recordings = [edge(number, speed=[2, 4, 6, 8, 10, 12][number // 10]) for number in range(60)]
    durations = [one.duration for one in recordings]
    limits = []
    for group in (60, 10, 30):  # recordings in each
        found = fit_reference(recordings, durations, FRAMES, [f"subject {i // group}" for i in range(60)])
        assert found is not None
        limits.append(found.whole.limit)
    alone = fit_reference(recordings, durations, FRAMES)
    assert alone is not None
    assert limits[0] == limits[2] == alone.whole.limit < limits[1]


def test_windows_of_every_fifth_recording_alone() -> None:
    recordings = [edge(number, events=4000 if number % 5 == 0 else 25) for number in range(60)]
    found = fit_reference(recordings, [one.duration for one in recordings], FRAMES)
    assert found is not None
    assert len(found.windows) > 1


def test_scores_of_usual_durations_differ(reference: FitReference) -> None:
    scores = [judged(reference, edge(number)).score for number in range(20)]
    assert len(set(scores)) == len(scores)
    assert np.median(scores) < 0.7


def test_damaged_references_that_are_valid_have_finite_scores(reference: FitReference) -> None:
    tree = json.loads(reference.model_dump_json())
    tree["whole"]["limit"] = 1e-6
    for cluster in tree["whole"]["clusters"]:
        cluster["mean"] = [1e9] * len(NAMES)
    assert judged(FitReference.model_validate(tree), edge(1)).score == 1e6


def test_numbers_in_words_have_no_exponents() -> None:
    numbers = (0.0, 0.0012, 0.53, 24.0, 99.6, 172.0, 5400.0, 1e26)
    words = ("less than 0.001", "0.0012", "0.53", "24", "100", "170", "5,400", "more than 1,000,000")
    assert tuple(plain(number, 2) for number in numbers) == words
    durations = (20, 139_000, 999_400, 999_900, 1_500_000, 5_400_000_000)
    assert [seconds(one) for one in durations] == ["20 us", "139 ms", "999 ms", "1 s", "1.5 s", "5,400 s"]
    assert str(Fit(False, 1234.5)) == f"{UNLIKE} (score 1,230, 1 is the limit)"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"figures": 2}, "Input should be 1"),
        ({"windows": []}, "at least 1"),
        ({"whole.limit": 0.0}, "greater than or equal"),
        ({"whole.limit": 5e-324}, "greater than or equal"),
        ({"whole.clusters.0.covariance": [1e-300 * (i in DIAGONAL) for i in range(231)]}, "a covariance that is none"),
        ({"whole.limit": float("nan")}, "finite"),
        ({"whole.clusters.0.mean": [0.0]}, "figures"),
        ({"whole.clusters.0.covariance": [0.0] * 231}, "a covariance that is none"),
        ({"whole.clusters.0.covariance": [1e308] * 231}, "less than or equal"),
        ({"whole.clusters.0.covariance": []}, "another size"),
        ({"windows.0.duration_us": 1}, "do not become shorter"),
        ({"count": -1}, "greater than or equal"),
    ],
)
def test_damaged_references_are_refused(reference: FitReference, change: dict[str, object], words: str) -> None:
    tree = json.loads(reference.model_dump_json())
    for path, value in change.items():
        *steps, last = path.split(".")
        place = tree
        for step in steps:
            place = place[int(step) if step.isdecimal() else step]
        place[last] = value
    with pytest.raises(ValidationError, match=words):
        FitReference.model_validate(tree)


def test_whole_and_windows_have_figures_of_their_own(reference: FitReference) -> None:
    with pytest.raises(ValidationError, match="windows with a duration"):
        FitReference.model_validate(reference.model_dump() | {"windows": (reference.whole.model_dump(),)})


def test_notes(tmp_path: Path) -> None:
    assert str(Fit(False, 2.5, ("a", "b"))) == "unlike the training recordings (score 2.5, 1 is the limit); a; b"
    assert Fit(True, 0.5).to_json() == {"fits": True, "verdict": "fits", "score": 0.5, "reasons": []}
