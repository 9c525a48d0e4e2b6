"""Frames as a torch data set that returns whole batches, time first.

The randomness of a recording follows from (seed, epoch, index) alone, so it is the same in any batch, with any number
of workers or processes, and after any interruption.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from neuromoco.views import TwoViews, View


class FrameSet(Dataset[tuple[Tensor, ...]]):
    """Frames of some recordings; a data loader with `collate` asks it for whole batches.

    A batch is (frames, labels), or (query views, key views) if the view is `TwoViews`; frames and views are
    float32 [T, N, P, H, W], labels [N], -1 if unknown. `indices` are those of the recordings among the S in `frames`,
    uint8 or uint16 [S, T, P, H, W], and `labels`; `seed` is that of the views. With `groups`, S names, the key view is
    of another recording among `indices` of the same group, where there is one.
    """

    def __init__(
        self,
        frames: NDArray[np.unsignedinteger[Any]],
        indices: Sequence[int],
        labels: Sequence[int] | None = None,
        view: View | TwoViews | None = None,
        seed: int = 0,
        groups: Sequence[str] | None = None,
    ) -> None:
        self.frames, self.indices, self.labels = frames, list(indices), labels
        self.view, self.seed, self.epoch = view, seed, 0
        self.groups, self._members = groups, defaultdict[str, list[int]](list)
        if groups:
            for index in self.indices:
                self._members[groups[index]].append(index)

    def set_epoch(self, epoch: int) -> None:
        """Selects the views, which differ between epochs."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.indices)

    def __getitems__(self, items: Sequence[int]) -> tuple[Tensor, ...]:
        chosen = [self.indices[item] for item in items]
        counts = self._counts(chosen)
        frames: Tensor | tuple[Tensor, Tensor] = counts
        if self.view:
            generators = [np.random.default_rng([self.seed, self.epoch, index]) for index in chosen]
            if self.groups and isinstance(self.view, TwoViews):
                others = [self._partner(*pair) for pair in zip(chosen, generators, strict=True)]
                frames = self.view(counts, generators, self._counts(others))
            else:
                frames = self.view(counts, generators)
        if isinstance(frames, tuple):
            return tuple(map(_time_first, frames))
        labels = [-1 if self.labels is None else self.labels[index] for index in chosen]
        return _time_first(frames), torch.tensor(labels)

    def _counts(self, rows: list[int]) -> Tensor:
        counts = self.frames[rows]  # [N, T, P, H, W]
        # torch hardly supports uint16
        return torch.from_numpy(counts if counts.dtype == np.uint8 else counts.astype(np.int32))

    def _partner(self, index: int, draw: np.random.Generator) -> int:
        """Another recording of the same group; the recording itself if it is alone."""
        assert self.groups
        others = [member for member in self._members[self.groups[index]] if member != index]
        return others[int(draw.integers(len(others)))] if others else index


def collate(batch: Any) -> Any:
    """The `collate_fn` for a data loader of a `FrameSet`, whose batches are complete already."""
    return batch


def _time_first(frames: Tensor) -> Tensor:
    """Counts [N, T, P, H, W] -> float32 [T, N, P, H, W]."""
    return frames.transpose(0, 1).to(torch.float32, memory_format=torch.contiguous_format)
