"""Frames as torch data sets that give whole batches, time first.

What is random about a recording follows from (seed, epoch, index) alone, so it is the same in any batch, with any
number of workers or processes, and after any interruption.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from neuromoco.views import TwoViews, View


class FrameSet(Dataset[tuple[Tensor, ...]]):
    """Some recordings of a store of frames. A data loader asks it for batches, not for items: see `collate`.

    A batch is (frames, labels), or (query views, key views) if the view is `TwoViews`; frames and views are
    float32 [T, N, P, H, W], labels [N].

    Args:
        frames: uint8 or uint16 [S, T, P, H, W].
        indices: which of the S recordings.
        labels: S class indices, or None where only views are asked for.
        view: how to change the frames, or None.
        seed: of the views.
    """

    def __init__(
        self,
        frames: NDArray[np.unsignedinteger[Any]],
        indices: Sequence[int],
        labels: Sequence[int] | None = None,
        view: View | TwoViews | None = None,
        seed: int = 0,
    ) -> None:
        self.frames = frames
        self.indices = list(indices)
        self.labels = labels
        self.view = view
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Other views in every epoch, the same ones again for the same epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.indices)

    def __getitems__(self, items: Sequence[int]) -> tuple[Tensor, ...]:
        chosen = [self.indices[item] for item in items]
        counts = self.frames[chosen]  # [N, T, P, H, W]
        # torch moves no uint16
        frames = torch.from_numpy(counts if counts.dtype == np.uint8 else counts.astype(np.int32))
        seen = self.view(frames, [self._generator(index) for index in chosen]) if self.view else frames
        if isinstance(seen, tuple):
            return tuple(map(_time_first, seen))
        labels = [-1 if self.labels is None else self.labels[index] for index in chosen]
        return _time_first(seen), torch.tensor(labels)

    def _generator(self, index: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, self.epoch, index])


def collate(batch: Any) -> Any:
    """For a data loader of a `FrameSet`, which makes whole batches already."""
    return batch


def _time_first(frames: Tensor) -> Tensor:
    """Counts [N, T, P, H, W] -> float32 [T, N, P, H, W]."""
    return frames.transpose(0, 1).to(torch.float32, memory_format=torch.contiguous_format)
