"""References of sets: which recordings belong together."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neuromoco.config import FrameConfig
from neuromoco.datasets import list_recordings, references
from neuromoco.models import example_paths


def test_recordings_come_with_their_groups_in_the_order_of_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    files = list_recordings(Path(example_paths()[0]).parent, labelled=False).files[:3]
    spans = ((0, 90_000), (0, 95_000), (100_000, 200_000), (0, 99_000))
    listing = replace(
        list_recordings(Path(example_paths()[0]).parent, labelled=False),
        files=(files[0], files[1], files[0], files[2]),
        spans=spans,
        groups=("anna", "ben", "anna", "carl"),
    )
    found: list[Any] = []
    monkeypatch.setattr(references, "fit_reference", lambda recordings, *rest: found.extend([list(recordings), *rest]))
    references.reference_of(listing, range(4), np.array([b - a for a, b in spans]), FrameConfig(steps=4))
    recordings, _, _, groups = found
    assert groups == ["anna", "anna", "ben", "carl"]  # a file is read once
    assert [one.t[0] >= 100_000 for one in recordings] == [False, True, False, False]
