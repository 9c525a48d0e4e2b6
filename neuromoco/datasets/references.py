"""What the recordings of a set are like, read from their files."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from neuromoco.config import FrameConfig
from neuromoco.datasets.folders import Listing
from neuromoco.datasets.prepare import file_jobs, recordings_of
from neuromoco.fit.build import fit_reference
from neuromoco.fit.reference import FitReference
from neuromoco.support.sampling import evenly_spaced

MOST = 256  # recordings that are read; more change little


def reference_of(
    listing: Listing, rows: Sequence[int], durations_us: NDArray[np.int64], frames: FrameConfig
) -> FitReference | None:
    """What the recordings at some rows of a listing are like; at most 256 of them are read.

    Args:
        listing: of S recordings.
        rows: of those to describe.
        durations_us: of all S, microseconds.
        frames: how frames are made of them.

    Raises:
        EventFileError: a recording cannot be read.
    """
    jobs = file_jobs(listing, evenly_spaced(rows, MOST))
    recordings = (recording for job in jobs for recording in recordings_of(job))
    groups = [listing.group_of[row] for job in jobs for row in job.rows]
    return fit_reference(recordings, durations_us[list(rows)].tolist(), frames, groups)
