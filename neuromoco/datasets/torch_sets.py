"""Frames as torch data sets, and the one collate that puts time first.

A data set yields [T, P, H, W]; a batch is [T, N, P, H, W]. What is random about an item follows from
(seed, epoch, index) alone, so it is the same with any number of workers and after any interruption.
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
    """Some recordings of a store of frames.

    Yields (frames, label), or (query view, key view) if the view is `TwoViews`.

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

    def __getitem__(self, item: int) -> tuple[Tensor, ...]:
        index = self.indices[item]
        frames = torch.from_numpy(self.frames[index].astype(np.float32))  # [T, P, H, W]
        if self.view is None:
            viewed: Tensor | tuple[Tensor, Tensor] = frames
        else:
            words = np.random.SeedSequence([self.seed, self.epoch, index]).generate_state(1, np.uint64)
            viewed = self.view(frames, torch.Generator().manual_seed(int(words[0]) >> 1))
        if isinstance(viewed, tuple):
            return viewed
        return viewed, torch.tensor(-1 if self.labels is None else self.labels[index])


def collate(items: Sequence[tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
    """Stacks items: frames [T, P, H, W] -> [T, N, P, H, W], labels -> [N]."""
    return tuple(torch.stack(column, dim=1 if column[0].ndim == 4 else 0) for column in zip(*items, strict=True))
