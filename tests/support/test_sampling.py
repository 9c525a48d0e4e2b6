"""Evenly spaced samples."""

from __future__ import annotations

from neuromoco.support.sampling import evenly_spaced


def test_a_sample_is_evenly_spaced_and_at_most_as_large_as_asked() -> None:
    assert evenly_spaced(range(10, 20), 4) == [10, 13, 16, 19]
    assert evenly_spaced([3, 5, 9], 256) == [3, 5, 9]
    assert evenly_spaced([3, 5, 9], 0) == []
