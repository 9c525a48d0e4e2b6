"""The simulated camera: closed forms of the pixel model, the paths, and the likeness to N-MNIST."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray

from neuromoco import Recording
from neuromoco.datasets.digits import DIGIT_MOTION, DIGIT_SENSOR, digit_images
from neuromoco.errors import ConfigError
from neuromoco.simulate import ClosedLoop, Saccades, SensorConfig, record
from neuromoco.simulate.camera import (
    PixelEvents,
    background_noise,
    displace,
    drop_refractory,
    threshold_crossings,
)

# Smallest and largest over 497 recordings of N-MNIST (Orchard et al. 2015), read as 40-bit ATIS events.
REAL_EVENTS = (1351, 7152)
REAL_DURATION_MS = (290.9, 313.1)
REAL_ON_SHARE = (0.488, 0.540)
# The 5 % and 95 % quantiles of the same recordings; a median belongs well inside.
REAL_EVENTS_MIDDLE = (2279, 6060)

QUIET = SensorConfig(mismatch=0.0, noise_hz=0.0, refractory_us=0)


@pytest.fixture
def image() -> NDArray[np.float64]:
    return np.random.default_rng(5).random((12, 10))


def same(a: Recording, b: Recording) -> bool:
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in "txyp")


def shortest_interval(t: NDArray[Any], pixel: NDArray[Any]) -> float:
    order = np.lexsort((t, pixel))
    intervals = np.diff(t[order])[np.diff(pixel[order]) == 0]
    return float(intervals.min()) if intervals.size else np.inf


def ramp(*levels: float) -> NDArray[np.float64]:
    return np.array(levels).reshape(-1, 1, 1)


# ------------------------------------------------------------------------------------- pixel model


@pytest.mark.parametrize("count", [1, 2, 3, 7, 50])
@pytest.mark.parametrize("direction", [1, -1])
def test_a_ramp_of_n_thresholds_gives_n_evenly_spaced_events(count: int, direction: int) -> None:
    got = threshold_crossings(ramp(0.3, 0.3 + direction * 0.1 * count), np.array([0, 1_000_000]), 0.1, 0.1)
    assert got.t.tolist() == pytest.approx(np.arange(1, count + 1) * 1e6 / count, abs=1)
    assert set(got.p.tolist()) == {int(direction > 0)}
    assert got.t.dtype == np.int64


def test_how_often_a_ramp_is_sampled_does_not_change_its_events() -> None:
    coarse = threshold_crossings(
        np.linspace(0, 1.95, 2)[:, None, None], np.linspace(0, 600_000, 2).astype(int), 0.2, 0.2
    )
    fine = threshold_crossings(
        np.linspace(0, 1.95, 31)[:, None, None], np.linspace(0, 600_000, 31).astype(int), 0.2, 0.2
    )
    assert fine.t.tolist() == pytest.approx(coarse.t.tolist(), abs=1)
    assert len(fine.t) == 9


def test_no_event_before_a_whole_threshold_from_the_last_event() -> None:
    # Up by 1.5 thresholds, then back: the reference has moved up by one, so OFF needs one below it.
    got = threshold_crossings(ramp(0.0, 0.15, 0.0, -0.05, 0.15), np.array([0, 30, 60, 70, 110]) * 1000, 0.1, 0.1)
    assert list(zip(got.t.tolist(), got.p.tolist(), strict=True)) == [
        (20_000, 1),
        (60_000, 0),
        (100_000, 1),
    ]


def test_thresholds_differ_by_direction_and_by_pixel() -> None:
    levels = np.stack([np.zeros((1, 2)), np.ones((1, 2)), np.zeros((1, 2))])
    got = threshold_crossings(levels, np.array([0, 100, 200]), np.array([[0.25, 0.5]]), np.array([[0.5, 0.2]]))
    on, off = np.bincount(got.pixel[got.p == 1]), np.bincount(got.pixel[got.p == 0])
    assert (on.tolist(), off.tolist()) == ([4, 2], [2, 5])
    assert np.all(np.diff(got.t) >= 0)


@pytest.mark.parametrize(("on", "off", "end"), [(0.1, 0.9, 0.3), (0.9, 0.1, -0.3)])
def test_a_change_too_small_for_one_direction_still_counts_in_the_other(on: float, off: float, end: float) -> None:
    assert len(threshold_crossings(ramp(0.0, end), np.array([0, 100]), on, off).t) == 3


def test_refractory_time_keeps_the_first_and_measures_from_the_last_kept() -> None:
    t = np.array([0, 40, 90, 100, 120, 190, 205, 250])
    pixel = np.array([0, 0, 0, 0, 1, 0, 0, 1])
    got = drop_refractory(PixelEvents(t, pixel, np.ones(8, dtype=np.uint8)), 100)
    assert got.t[got.pixel == 0].tolist() == [0, 100, 205]
    assert got.t[got.pixel == 1].tolist() == [120, 250]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 2)), max_size=40), st.integers(0, 20))
def test_refractory_time_agrees_with_going_through_the_events(events: list[tuple[int, int]], least: int) -> None:
    events.sort(key=lambda event: event[0])
    expected: list[tuple[int, int]] = []
    last: dict[int, int] = {}
    for time, place in events:
        if time - last.get(place, -1000) >= least:
            expected.append((time, place))
            last[place] = time
    t, pixel = np.array([e[0] for e in events], dtype=int), np.array([e[1] for e in events], dtype=int)
    got = drop_refractory(PixelEvents(t, pixel, np.zeros(len(events), dtype=np.uint8)), least)
    assert list(zip(got.t.tolist(), got.pixel.tolist(), strict=True)) == expected


def test_background_is_poisson_over_time_pixels_and_polarity() -> None:
    sensor = SensorConfig(noise_hz=5.0, noise_on_share=0.8)
    got = background_noise(sensor, 2_000_000, 1000, np.random.default_rng(3))
    expected = 5.0 * 2 * 1000
    assert abs(len(got.t) - expected) < 5 * np.sqrt(expected)
    assert abs(got.p.sum() - 0.8 * expected) < 5 * np.sqrt(0.8 * expected)
    assert abs((got.t < 500_000).sum() - expected / 4) < 5 * np.sqrt(expected / 4)
    per_pixel = np.bincount(got.pixel, minlength=1000)
    # The variance of a Poisson count is its mean, 10 here.
    assert per_pixel.var() == pytest.approx(10, rel=0.25)


# ------------------------------------------------------------------------------------------ motion


def test_saccades_visit_the_corners_of_the_triangle_at_rest() -> None:
    motion = Saccades(base=4.0, height=6.0, saccade_us=100_000)
    assert motion.duration_us == 300_000
    corners = motion.path(np.arange(4) * 100_000)
    assert corners == pytest.approx(np.array([[-2, -3], [0, 3], [2, -3], [-2, -3]]))
    # Halfway through the time is halfway along the side.
    assert motion.path([50_000, 150_000, 250_000]) == pytest.approx(np.array([[-1, 0], [1, 0], [0, -3]]))
    near = motion.path(np.array([0, 1000, 99_000, 100_000, 101_000]))
    assert np.abs(np.diff(near, axis=0)[[0, 2, 3]]).max() < 1e-3
    # All three sides are passed in one direction.
    third = motion.path(np.linspace(200_000, 300_000, 50))
    assert np.all(np.diff(third[:, 0]) < 0)


def test_the_sides_of_the_triangle_are_equal() -> None:
    corners = Saccades(base=3.0, height=7.0).path(np.arange(4) * Saccades().saccade_us)
    first, second, third = np.linalg.norm(np.diff(corners, axis=0), axis=1)
    assert first == pytest.approx(second)
    assert third == pytest.approx(3.0)


def test_closed_loop_goes_round_and_round() -> None:
    motion = ClosedLoop(amplitude=2.0, loops=3, loop_us=80_000)
    assert motion.duration_us == 240_000
    quarters = motion.path(np.arange(5) * 20_000)
    assert quarters == pytest.approx(np.array([[-2, 0], [0, -2], [2, 0], [0, 2], [-2, 0]]))
    times = np.arange(0, 80_000, 1000)
    assert motion.path(times + 160_000) == pytest.approx(motion.path(times))
    assert motion.path(motion.duration_us).tolist() == motion.path(0).tolist()
    speed = np.linalg.norm(np.diff(motion.path(times), axis=0), axis=1)
    assert speed == pytest.approx(speed[0])


@pytest.mark.parametrize("motion", [Saccades(base=5, height=3), ClosedLoop(amplitude=2.5, loops=2)])
def test_a_path_is_closed_and_within_its_amplitude(motion: Saccades | ClosedLoop) -> None:
    path = motion.path(np.linspace(0, motion.duration_us, 999))
    assert path[0] == pytest.approx(path[-1])
    assert np.abs(path).max() <= 2.5 + 1e-9
    # Before the start and after the end the image stands still.
    assert motion.path([-5, motion.duration_us + 5]) == pytest.approx(path[[0, -1]])


def test_whole_pixel_moves_shift_and_half_pixel_moves_average() -> None:
    image = np.arange(20.0).reshape(4, 5)
    seen = displace(image, np.array([[0.0, 0.0], [1.0, 0.0], [0.0, -1.0], [-0.5, 0.0]]), width=5, height=4)
    assert seen[0] == pytest.approx(image)
    assert seen[1] == pytest.approx(image[:, [0, 0, 1, 2, 3]])
    assert seen[2] == pytest.approx(image[[1, 2, 3, 3]])
    assert seen[3][:, :-1] == pytest.approx((image[:, :-1] + image[:, 1:]) / 2)


def test_an_image_is_centred_and_continues_at_its_border() -> None:
    image = np.arange(1.0, 5.0).reshape(2, 2)
    seen = displace(image, np.zeros((1, 2)), width=6, height=4)[0]
    assert seen[1:3, 2:4] == pytest.approx(image)
    assert seen[0] == pytest.approx(np.array([1, 1, 1, 2, 2, 2]))
    far = displace(image, np.array([[100.0, 0.0]]), width=6, height=4)[0]
    assert far[1] == pytest.approx(np.full(6, 1.0))
    # An odd rest goes to the right and the bottom.
    odd = displace(image, np.zeros((1, 2)), width=5, height=3)[0]
    assert odd[:2, 1:3] == pytest.approx(image)
    large = np.arange(36.0).reshape(6, 6)
    assert displace(large, np.zeros((1, 2)), width=2, height=2)[0] == pytest.approx(large[2:4, 2:4])


# --------------------------------------------------------------------------------------- recording


def test_nothing_to_see_gives_nothing(image: NDArray[np.float64]) -> None:
    assert len(record(image, sensor=QUIET, motion=Saccades(base=0, height=0))) == 0
    assert len(record(np.full((9, 9), 0.7), sensor=QUIET)) == 0


def test_noise_alone_has_the_rate_that_was_asked_for() -> None:
    sensor = SensorConfig(noise_hz=20, refractory_us=0)
    got = record(np.zeros((8, 8)), sensor=sensor, width=40, height=30)
    expected = 20 * 40 * 30 * Saccades().duration_us * 1e-6
    assert abs(len(got) - expected) < 5 * np.sqrt(expected)


def test_the_leading_edge_of_a_bright_bar_is_on() -> None:
    image = np.full((34, 34), 0.1)
    image[:, 10:24] = 1.0
    got = record(image, sensor=QUIET)
    third = got.t >= 2 * Saccades().saccade_us
    # The third saccade moves the image to the left.
    assert got.x[third & (got.p == 1)].max() < 17 <= got.x[third & (got.p == 0)].min()
    dark = record(1.1 - image, sensor=QUIET)
    third = dark.t >= 2 * Saccades().saccade_us
    assert dark.x[third & (dark.p == 0)].max() < 17 <= dark.x[third & (dark.p == 1)].min()


def test_an_edge_gives_as_many_events_as_its_contrast_has_thresholds() -> None:
    image = np.full((34, 34), 0.1)
    image[:, 17:] = 1.0
    sensor = SensorConfig(mismatch=0, noise_hz=0, refractory_us=0, eps=1e-6, step_us=500)
    got = record(image, sensor=sensor, motion=Saccades(base=6.0, height=0.0))
    third = got.t >= 2 * Saccades().saccade_us
    counts = np.bincount(got.x[third], minlength=34) / 34
    # ln(10) is 11.5 thresholds of 0.2; the edge passes columns 14 to 19 wholly.
    assert set(counts[14:20].tolist()) <= {11.0, 12.0}
    assert counts[:13].sum() == counts[21:].sum() == 0


def test_brightness_makes_no_difference_where_eps_is_negligible(image: NDArray[np.float64]) -> None:
    sensor = SensorConfig(mismatch=0, noise_hz=0, eps=1e-6)
    bright, dim = (record((0.2 + 0.8 * image) * scale, sensor=sensor) for scale in (1.0, 0.25))
    assert len(bright) > 500
    assert abs(len(bright) - len(dim)) <= 0.002 * len(bright)


def test_seed_and_serial_decide_everything(image: NDArray[np.float64]) -> None:
    first, again, other = (record(image, seed=seed) for seed in (4, 4, 5))
    assert same(first, again)
    assert not same(first, other)
    # Without noise nothing is random, and a camera keeps its thresholds from one recording to the next.
    own, elsewhere = (replace(QUIET, mismatch=0.2, serial=serial) for serial in (0, 1))
    assert same(record(image, sensor=own, seed=1), record(image, sensor=own, seed=2))
    assert not same(record(image, sensor=own), record(image, sensor=elsewhere))


@pytest.mark.parametrize("polarity", [0, 1])
def test_mismatch_alone_changes_both_polarities_from_pixel_to_pixel(polarity: int) -> None:
    # Column 17 only gets darker, or only brighter, in the first two saccades to the right.
    image = np.full((34, 34), 1.0 if polarity else 0.1)
    image[:, 17:] = 0.1 if polarity else 1.0
    motion = Saccades(base=6.0, height=0.0)
    spread = []
    for mismatch in (0.0, 0.3):
        got = record(image, sensor=SensorConfig(mismatch=mismatch, noise_hz=0), motion=motion)
        chosen = (got.x == 17) & (got.t < 2 * motion.saccade_us)
        assert set(got.p[chosen].tolist()) == {polarity}
        spread.append(np.ptp(np.bincount(got.y[chosen], minlength=34)))
    assert spread[0] == 0 < spread[1]


def test_integers_booleans_and_floats_mean_the_same() -> None:
    mask = np.random.default_rng(0).random((10, 10)) > 0.5
    as_bool = record(mask, seed=3)
    assert same(as_bool, record(mask * np.uint8(255), seed=3))
    assert same(as_bool, record(mask.astype(np.float32), seed=3))
    assert same(as_bool, record((mask * 255).tolist(), seed=3))


@settings(max_examples=25, deadline=None)
@given(
    arrays(np.uint8, array_shapes(min_dims=2, max_dims=2, max_side=12)),
    st.sampled_from([Saccades(saccade_us=20_000), ClosedLoop(loops=2, loop_us=30_001)]),
    st.integers(0, 4000),
    st.integers(0, 2**32),
)
def test_every_recording_is_in_order_inside_and_rested(
    image: NDArray[np.uint8], motion: Saccades | ClosedLoop, refractory: int, seed: int
) -> None:
    sensor = SensorConfig(noise_hz=20, refractory_us=refractory, mismatch=0.1)
    got = record(image, sensor=sensor, motion=motion, width=9, height=7, seed=seed)
    assert (got.width, got.height, got.source) == (9, 7, "simulated camera")
    assert got.t.dtype == np.int64
    assert np.all(np.diff(got.t) >= 0)
    if len(got):
        assert 0 <= got.t[0] <= got.t[-1] <= motion.duration_us
        assert got.x.max() < 9
        assert got.y.max() < 7
        assert got.p.max() <= 1
    assert shortest_interval(got.t, got.y.astype(int) * 9 + got.x) >= refractory


# ------------------------------------------------------------------------------------------ errors


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (np.zeros((3, 4, 4)), "shape (3, 4, 4)"),
        (np.zeros(9), "shape (9,)"),
        (np.zeros((0, 4)), "shape (0, 4)"),
        (np.full((4, 4), np.nan), "NaN"),
        (np.array([[0.0, np.inf]]), "infinite"),
        (np.array([[0.0, 1.5]]), "between 0 and 1"),
        (np.array([[-0.1, 1.0]]), "between 0 and 1"),
        (np.array([[0, 256]]), "between 0 and 255"),
        (np.array([[-1, 3]]), "between 0 and 255"),
        (np.zeros((4, 4), dtype=complex), "complex128"),
        (np.array([["a", "b"]]), "floats, integers or booleans"),
    ],
)
def test_images_that_are_refused(bad: NDArray[Any], says: str) -> None:
    with pytest.raises(ConfigError) as refused:
        record(bad)
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        *itertools.product([SensorConfig], ["threshold_on", "threshold_off"], [0.0, -0.2, np.nan, 11, "0.2"]),
        *itertools.product([SensorConfig], ["mismatch", "noise_on_share"], [-0.01, 1.1, np.inf, None]),
        *itertools.product([SensorConfig], ["noise_hz", "eps"], [-1.0, np.nan, 1e9]),
        *itertools.product([SensorConfig], ["refractory_us"], [-1, 1.5, True]),
        *itertools.product([SensorConfig], ["step_us"], [0, 1000.0]),
        *itertools.product([Saccades], ["base", "height"], [-1.0, np.nan, 1001]),
        *itertools.product([Saccades], ["saccade_us"], [0, 1e5]),
        (ClosedLoop, "amplitude", -1.0),
        *itertools.product([ClosedLoop], ["loops", "loop_us"], [0, 2.5]),
    ],
)
def test_settings_that_are_refused(kind: type[Any], name: str, value: object) -> None:
    with pytest.raises(ConfigError, match=name) as refused:
        kind(**{name: value})
    assert "between" in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "value"), [("width", 0), ("height", 5000), ("width", 3.0), ("seed", -1), ("seed", None)]
)
def test_sizes_and_seeds_that_are_refused(name: str, value: object) -> None:
    with pytest.raises(ConfigError, match=name):
        record(np.zeros((4, 4)), **{name: value})  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------------ digits


def test_digit_images_are_dark_digits_on_white() -> None:
    images, labels = digit_images()
    assert (images.shape, images.dtype) == ((1797, 28, 28), np.float32)
    assert (labels.shape, labels.dtype) == ((1797,), np.int64)
    assert np.bincount(labels).min() >= 174
    assert images.max() == 1.0
    assert 0.1 < images.min() < 0.2
    assert np.all(images[:, [0, -1]] == 1.0)
    assert np.all(images[:, :, [0, -1]] == 1.0)


def test_simulated_digits_lie_within_the_real_recordings_of_n_mnist() -> None:
    images, _ = digit_images()
    chosen = np.random.default_rng(0).choice(len(images), 60, replace=False)
    recordings = [record(images[i], sensor=DIGIT_SENSOR, motion=DIGIT_MOTION, seed=int(i)) for i in chosen]
    for values, (least, most) in (
        ([len(r) for r in recordings], REAL_EVENTS),
        ([r.duration / 1e3 for r in recordings], REAL_DURATION_MS),
        ([r.on_share for r in recordings], REAL_ON_SHARE),
    ):
        inside = [least <= value <= most for value in values]
        assert np.mean(inside) >= 0.98
    assert REAL_EVENTS_MIDDLE[0] < np.median([len(r) for r in recordings]) < REAL_EVENTS_MIDDLE[1]
    # Three bursts: the camera is nearly at rest where one saccade ends and the next begins.
    t = np.concatenate([r.t for r in recordings])
    bins = np.bincount(t * 12 // (DIGIT_MOTION.duration_us + 1), minlength=12).reshape(3, 4)
    assert np.all(bins[:, 1:3].sum(axis=1) > 3 * bins[:, [0, 3]].sum(axis=1))
