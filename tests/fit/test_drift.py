"""The alarm of changed recordings: its false-alarm rate in closed form and by simulation, and when it comes."""

from __future__ import annotations

import numpy as np
import pytest

from neuromoco.errors import ConfigError
from neuromoco.fit.drift import Drift, best_step, false_alarm_run, limit_for


@pytest.mark.parametrize("share", [0.02, 0.3])
def test_mean_run_in_closed_form(share: float) -> None:
    assert false_alarm_run(1, 1, share) == pytest.approx(1 / share)
    # Two successes, where each failure takes the sum back to 0: the mean wait for a run of two.
    assert false_alarm_run(1, 2, share) == pytest.approx((1 + share) / share**2)


def test_mean_run_by_simulation() -> None:
    rng, runs = np.random.default_rng(0), []
    drift = Drift(run=100)
    expected = false_alarm_run(best_step(), limit_for(100, best_step()))
    for _ in range(1500):
        drift, count = Drift(run=100), 1
        while not drift.add(bool(rng.random() >= 0.02)):
            count += 1
        runs.append(count)
    assert expected >= 100
    assert np.mean(runs) == pytest.approx(
        expected, rel=4 / np.sqrt(len(runs))
    )  # such waits deviate by about their mean


def test_the_limit_is_the_smallest_one() -> None:
    step = best_step()
    limit = limit_for(1000, step)
    assert false_alarm_run(step, limit) >= 1000 > false_alarm_run(step, limit - 1)


def test_one_alarm_for_a_change_and_another_after_it_has_gone() -> None:
    drift = Drift()
    raised = [drift.add(fits) for fits in [True] * 50 + [False] * 30 + [True] * 100 + [False] * 30]
    assert sum(raised) == len(drift.alarms) == 2
    assert 50 < drift.alarms[0] <= 55
    assert 180 < drift.alarms[1] <= 185
    assert (drift.seen, drift.unlike) == (210, 60)
    assert drift.share == pytest.approx(60 / 210)


def test_an_alarm_says_its_rate_of_recordings_alone() -> None:
    drift = Drift()
    for _ in range(2):
        drift.add(False)
    assert "2 of the last 2 recordings" in drift.alarm_line()
    assert "if 2% are, each independent of the others, there is an alarm once in 1,000 or less" in drift.alarm_line()
    assert drift.alarm_line("windows") == "alarm: 2 of the last 2 windows are unlike the training recordings"


@pytest.mark.parametrize("run", [0, -3, 10**9])
def test_runs_that_make_no_sense_are_refused(run: int) -> None:
    with pytest.raises(ConfigError, match="recordings to a false alarm"):
        Drift(run)
