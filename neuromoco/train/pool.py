"""Recordings without labels in training with labels: a teacher answers for them, and its sure answers are labels.

The teacher is an exponential moving average of the network that learns (mean teacher, Tarvainen and Valpola 2017, arXiv
1703.01780). It sees a weak view of a recording and the network a strong one; where the teacher's probability reaches a
limit, its answer is the label (FixMatch, Sohn et al. 2020, arXiv 2001.07685). The mean of its answers is kept at the
shares of the classes among the labels (distribution alignment, Berthelot et al. 2020, arXiv 1911.09785): otherwise the
first classes that it is sure of take the others' recordings.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Self

import numpy as np
import torch
import torch.nn.functional as F
from accelerate.utils import reduce
from torch import Tensor, nn

from neuromoco.classifier import Classifier
from neuromoco.config import ClassifyConfig, PoolConfig, RunConfig
from neuromoco.datasets import Listing, Split, hold_out
from neuromoco.datasets.torch_sets import FrameSet
from neuromoco.support.console import say_once
from neuromoco.train.run_split import labelled_split

RAMP = 0.2  # of the training, over which the weight rises
PRIOR_DECAY = 0.95  # of the teacher's mean answer, per pass


class Taught(nn.Module):
    """The classifier that learns, and its teacher.

    Attributes:
        student: learns by gradient; it is the result.
        teacher: average of the student's weights and statistics.
        answers: mean of the teacher's recent answers, [classes].
        steps: number of updates of the teacher.
    """

    answers: Tensor
    steps: Tensor

    def __init__(self, student: Classifier, classes: int) -> None:
        super().__init__()
        self.student = student
        self.teacher = copy.deepcopy(student).requires_grad_(False)
        self.register_buffer("answers", torch.full((classes,), 1.0 / classes))
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))

    def forward(self, frames: Tensor) -> Tensor:
        logits: Tensor = self.student(frames)
        return logits

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        self.teacher.eval()
        return self

    @torch.no_grad()
    def answer(self, frames: Tensor, shares: Tensor | None) -> tuple[Tensor, Tensor]:
        """The teacher's classes [N] of frames [T, N, P, H, W], and their probabilities [N].

        Args:
            frames: of the pool.
            shares: of the classes, [classes], that answers are pulled to; None leaves them as they are.
        """
        answers = self.teacher(frames).mean(0).float().softmax(1)  # [N, classes]
        if shares is not None:
            self.answers.lerp_(reduce(answers.mean(0), "mean"), 1.0 - PRIOR_DECAY)  # over all processes
            answers = F.normalize(answers * (shares / self.answers), p=1.0, dim=1)
        sure, classes = answers.max(1)
        return classes, sure

    @torch.no_grad()
    def update_teacher(self, decay: float) -> None:
        """Once per optimizer step; the first steps count more, so that the random weights are soon forgotten."""
        self.steps.add_(1)
        weight = 1.0 - min(decay, 1.0 - 1.0 / int(self.steps))
        for average, newest in zip(self.teacher.state_dict().values(), self.student.state_dict().values(), strict=True):
            if average.is_floating_point():
                average.lerp_(newest, weight)
            else:
                average.copy_(newest)


class Pool:
    """Batches of recordings without labels, which follow from the seed and the number of the pass.

    Args:
        data: two views of each: the teacher's and the student's.
        size: recordings of a batch.
        config: settings.
        seed: of the order.
    """

    def __init__(self, data: FrameSet, size: int, config: PoolConfig, seed: int) -> None:
        self.data, self.size, self.config, self.seed = data, size, config, seed

    def batch(self, number: int) -> tuple[Tensor, Tensor]:
        """The views for the teacher and for the student, [T, N, P, H, W], of a pass."""
        self.data.set_epoch(number)
        weak, strong = self.data.__getitems__(self._items(number))
        return weak, strong

    def weight(self, done: float) -> float:
        """Of the pool's loss, at a share of the training."""
        return self.config.weight * min(1.0, done / RAMP)

    def _items(self, number: int) -> Sequence[int]:
        """Every recording once, in random order, then again in another one."""
        count = len(self.data)
        places = range(number * self.size, (number + 1) * self.size)
        epochs = {place // count for place in places}
        orders = {epoch: np.random.default_rng([self.seed, epoch]).permutation(count) for epoch in epochs}
        return [int(orders[place // count][place % count]) for place in places]


def pool_batch_size(settings: ClassifyConfig, pool: PoolConfig, processes: int) -> int:
    """Recordings of the pool in a pass of one process."""
    return max(1, pool.share * settings.batch_size // (settings.accumulate * processes))


def pool_rows(config: RunConfig, settings: ClassifyConfig, listing: Listing, split: Split) -> list[int]:
    """Rows of the recordings of a stage's pool: neither held out nor labelled; none if they are not to be used.

    `split` is that of the training, or of a part of it, whose other labelled recordings are not in the pool either.
    """
    if not settings.pool:
        return []
    held, labelled = config.held_out, labelled_split(listing, config, settings)
    members = hold_out(listing, held.folds, held.fold).train if held else range(len(listing))
    used = {*split.train, *split.validation, *labelled.train, *labelled.validation}
    rows = sorted({*members} - used)
    if not rows:
        say_once("pool: every recording has a label, so none is left for it")
    return rows


def pool_loss(logits: Tensor, classes: Tensor, sure: Tensor, confidence: float, smoothing: float) -> dict[str, Tensor]:
    """Mean cross-entropy with the teacher's sure answers, of all of the batch, and the share of these.

    Args:
        logits: mean over time, of the student, [N, classes].
        classes: the teacher's, [N].
        sure: their probabilities, [N].
        confidence: from which they count.
        smoothing: of the labels.
    """
    counts = (sure >= confidence).to(logits.dtype)
    losses = F.cross_entropy(logits, classes, label_smoothing=smoothing, reduction="none")
    return {"pool_loss": (losses * counts).mean(), "pool_share": counts.mean()}
