"""Positives from a group: the key view is of another recording of it."""

from __future__ import annotations

import numpy as np
import torch

from neuromoco.config import ViewConfig
from neuromoco.datasets.torch_sets import FrameSet
from neuromoco.views import TwoViews, View

STILL = View(ViewConfig(policy="affine", flip=0.0, shift=0, rotate=0.0, shear=0.0, cutout=0))
# Every recording's frames hold its number.
FRAMES = np.arange(6, dtype=np.uint8)[:, None, None, None, None] * np.ones((1, 2, 2, 9, 9), np.uint8)


def numbers(batch: torch.Tensor) -> list[int]:
    return [int(value) for value in batch[0, :, 0, 4, 4]]


def test_the_key_is_another_recording_of_the_group() -> None:
    groups = ("a", "b", "a", "b", "c", "b")
    data = FrameSet(FRAMES, range(6), view=TwoViews(STILL), groups=groups)
    seen = set()
    for epoch in range(20):
        data.set_epoch(epoch)
        queries, keys = data.__getitems__(range(6))
        assert numbers(queries) == list(range(6))
        assert all(groups[q] == groups[k] for q, k in zip(numbers(queries), numbers(keys), strict=True))
        assert numbers(keys)[0] == 2
        assert numbers(keys)[4] == 4  # it is alone
        seen.add(numbers(keys)[1])
        assert numbers(data.__getitems__([1])[1]) == [numbers(keys)[1]]  # whatever the batch
    assert seen == {3, 5}


def test_only_recordings_that_are_trained_on_are_partners() -> None:
    data = FrameSet(FRAMES, [0, 1, 3], view=TwoViews(STILL), groups=("a", "b", "a", "b", "c", "b"))
    assert numbers(data.__getitems__([0, 1, 2])[1]) == [0, 3, 1]


def test_without_groups_both_views_are_of_one_recording() -> None:
    queries, keys = FrameSet(FRAMES, range(6), view=TwoViews(STILL)).__getitems__(range(6))
    assert torch.equal(queries, keys)
