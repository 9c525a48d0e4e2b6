"""Whether recordings have changed since the training: the share that does not fit, and when it is too large.

A cumulative sum (CUSUM; Page 1954) of whole numbers: a recording that does not fit adds `step`, one that fits takes 1
away, and the sum stays between 0 and `limit`, where there is an alarm. The next is after the sum has been 0 again.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from neuromoco.errors import ConfigError
from neuromoco.fit.reference import FALSE_ALARMS

CHANGED = 0.2  # share of recordings that do not fit which is to be found soonest
RUN = 1000  # recordings between two false alarms, on average, at least
LONGEST_RUN = 1_000_000


def false_alarm_run(step: int, limit: int, share: float = FALSE_ALARMS) -> float:
    """Mean number of recordings up to an alarm, if each does not fit with this probability, independent of the others.

    Exact, by the equations of the Markov chain of the sum: a[s] = 1 + share * a[s + step] + (1 - share) * a[s - 1].

    Examples:
        >>> from neuromoco.fit.drift import false_alarm_run
        >>> round(false_alarm_run(step=10, limit=1, share=0.02), 6)  # the first one that does not fit
        50.0
    """
    moves = np.eye(limit)
    for total in range(limit):
        moves[total, max(0, total - 1)] -= 1.0 - share
        if total + step < limit:
            moves[total, total + step] -= share
    return float(np.linalg.solve(moves, np.ones(limit))[0])


def best_step(share: float = FALSE_ALARMS, changed: float = CHANGED) -> int:
    """The step that finds a change from one share to the other soonest: the ratio of the log likelihood ratios."""
    return round(math.log(changed / share) / math.log((1.0 - share) / (1.0 - changed)))


def limit_for(run: int, step: int, share: float = FALSE_ALARMS) -> int:
    """The smallest limit with so many recordings between two false alarms, on average.

    Raises:
        ConfigError: fewer than 1 or more than a million.
    """
    if not 1 <= run <= LONGEST_RUN:
        raise ConfigError(f"{run:,} recordings to a false alarm; it is 1 to {LONGEST_RUN:,}")
    limit = 1
    while false_alarm_run(step, limit, share) < run:
        limit += 1
    return limit


@dataclass
class Drift:
    """Follows recordings one after another.

    Attributes:
        run: recordings between two false alarms, on average, at least, if 2 % do not fit, each independent of the
            others. Windows of one recording are not.
        seen: recordings so far.
        unlike: those that did not fit.
        alarms: the number of the recording, from 1, at each alarm.

    Examples:
        >>> from neuromoco.fit.drift import Drift
        >>> drift = Drift()
        >>> [drift.add(fits) for fits in (True, False, False, False)]
        [False, False, True, False]
        >>> drift.share
        0.75
    """

    run: int = RUN
    seen: int = 0
    unlike: int = 0
    alarms: list[int] = field(default_factory=list)
    _sum: int = 0
    _alarmed: bool = False
    _since: int = 0  # recordings when the sum last was 0
    _unlike_since: int = 0

    def __post_init__(self) -> None:
        self._step = best_step()
        self._limit = limit_for(self.run, self._step)

    @property
    def share(self) -> float:
        """Share of the recordings so far that did not fit."""
        return self.unlike / self.seen if self.seen else 0.0

    def add(self, fits: bool) -> bool:
        """Counts a recording; returns whether there is an alarm."""
        if self._sum == 0:
            self._since, self._unlike_since, self._alarmed = self.seen, self.unlike, False
        self.seen += 1
        self.unlike += not fits
        self._sum = max(0, self._sum - 1) if fits else min(self._limit, self._sum + self._step)
        if self._sum < self._limit or self._alarmed:
            return False
        self.alarms.append(self.seen)
        self._alarmed = True
        return True

    def alarm_line(self, what: str = "recordings") -> str:
        """The last alarm in words, of recordings or of "windows", which have no rate of false alarms."""
        unlike, count = self.unlike - self._unlike_since, self.seen - self._since
        independent = f"if {FALSE_ALARMS:.0%} are, each independent of the others"
        rate = f" ({independent}, there is an alarm once in {self.run:,} or less)"
        alarm = f"alarm: {unlike} of the last {count} {what} are unlike the training recordings"
        return alarm + (rate if what == "recordings" else "")
