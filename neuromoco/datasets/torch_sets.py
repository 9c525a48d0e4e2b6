"""Frames as a torch data set that returns whole batches, time first.

The randomness of a recording follows from (seed, epoch, index) alone, so it is the same in any batch, with any number
of workers or processes, and after any interruption.
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
    """Frames of some recordings; a data loader with `collate` asks it for whole batches.

    A batch is (frames, labels), or (query views, key views) if the view is `TwoViews`; frames and views are
    float32 [T, N, P, H, W], labels [N], -1 if unknown. `indices` are those of the recordings among the S in `frames`,
    uint8 or uint16 [S, T, P, H, W], and `labels`; `seed` is that of the views.
    """

    def __init__(
        self,
        frames: NDArray[np.unsignedinteger[Any]],
        indices: Sequence[int],
        labels: Sequence[int] | None = None,
        view: View | TwoViews | None = None,
        seed: int = 0,
    ) -> None:
        self.frames, self.indices, self.labels = frames, list(indices), labels
        self.view, self.seed, self.epoch = view, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Selects the views, which differ between epochs."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.indices)

    def __getitems__(self, items: Sequence[int]) -> tuple[Tensor, ...]:
        chosen = [self.indices[item] for item in items]
        counts = self.frames[chosen]  # [N, T, P, H, W]
        # torch hardly supports uint16
        frames: Tensor | tuple[Tensor, Tensor]
        frames = torch.from_numpy(counts if counts.dtype == np.uint8 else counts.astype(np.int32))
        if self.view:
            frames = self.view(frames, [np.random.default_rng([self.seed, self.epoch, index]) for index in chosen])
        if isinstance(frames, tuple):
            return tuple(map(_time_first, frames))
        labels = [-1 if self.labels is None else self.labels[index] for index in chosen]
        return _time_first(frames), torch.tensor(labels)


def collate(batch: Any) -> Any:
    """The `collate_fn` for a data loader of a `FrameSet`, whose batches are complete already."""
    return batch


def _time_first(frames: Tensor) -> Tensor:
    """Counts [N, T, P, H, W] -> float32 [T, N, P, H, W]."""
    return frames.transpose(0, 1).to(torch.float32, memory_format=torch.contiguous_format)
