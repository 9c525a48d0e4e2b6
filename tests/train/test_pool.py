"""Recordings without labels in training with labels: what the teacher is, what counts, and which recordings."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from torch import nn

from neuromoco.classifier import Classifier
from neuromoco.config import ClassifyConfig, EncoderConfig, PoolConfig, ViewConfig
from neuromoco.datasets import Split, read_recordings
from neuromoco.datasets.torch_sets import FrameSet
from neuromoco.encoders import build_encoder
from neuromoco.errors import ConfigError
from neuromoco.train import train
from neuromoco.train.classify import ClassifyTask
from neuromoco.train.folds import FoldTask
from neuromoco.train.pool import Pool, Taught, pool_loss
from neuromoco.train.run_folder import RunFolder
from neuromoco.train.run_split import labelled_split
from neuromoco.views import TwoViews, View
from tests.train.test_training import settings

Folders = Callable[[int, int], Path]
VIEW = {"policy": "affine", "flip": 0.0, "shift": 1, "rotate": 10.0, "shear": 0.1, "cutout": 0, "drop": 0.2}


def classifier() -> Classifier:
    return Classifier(build_encoder(EncoderConfig(options={"width": 4})), 3)


def test_the_teacher_is_the_average_of_the_student() -> None:
    taught = Taught(classifier(), 3)
    weight = taught.student.head.weight
    values = []
    for value in (1.0, 2.0, 4.0):
        torch.nn.init.constant_(weight, value)
        taught.update_teacher(0.75)
        values.append(float(taught.teacher.head.weight.mean()))
    # The first update takes all, the second half, and from the fourth on the decay holds: 1 - 1/3 is below 0.75.
    assert values == pytest.approx([1.0, 1.5, 1.5 + (4.0 - 1.5) / 3])
    for _ in range(4):
        before = float(taught.teacher.head.weight.mean())
        taught.update_teacher(0.75)
        assert float(taught.teacher.head.weight.mean()) == pytest.approx(0.75 * before + 0.25 * 4.0)
    taught.train()
    assert taught.student.training
    assert not any(part.training for part in taught.teacher.modules())
    assert not any(parameter.requires_grad for parameter in taught.teacher.parameters())


class Known(nn.Module):
    """A teacher whose logits are what it is shown."""

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        return frames[:, :, 0, 0]


def test_answers_are_pulled_to_the_shares_of_the_classes() -> None:
    taught = Taught(classifier(), 3)
    taught.teacher = Known()
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(300, 3, generator=generator) + torch.tensor([3.0, 0.0, 0.0])
    frames = logits.expand(2, 1, 1, 300, 3).permute(0, 3, 1, 2, 4)  # [T, N, P, H, W]
    alone, sure = taught.answer(frames, None)
    assert (alone == 0).float().mean() > 0.9
    assert torch.equal(sure, logits.softmax(1).max(1).values)
    for _ in range(200):
        answers, sure = taught.answer(frames, torch.full((3,), 1 / 3))
    assert answers.bincount().min() > 60
    assert 1 / 3 <= sure.min() <= sure.max() <= 1
    for _ in range(200):
        rare, _ = taught.answer(frames, torch.tensor([0.1, 0.1, 0.8]))
    assert rare.bincount(minlength=3).argmax() == 2


def test_only_sure_answers_count() -> None:
    logits = torch.tensor([[2.0, 0.0], [0.0, 2.0], [0.0, 0.0]], requires_grad=True)
    classes, sure = torch.tensor([0, 0, 1]), torch.tensor([0.9, 0.8, 0.4])
    found = pool_loss(logits, classes, sure, 0.8, 0.0)
    value = found["pool_loss"].item()
    right, wrong = math.log(1 + math.exp(-2)), math.log(1 + math.exp(2))
    assert value == pytest.approx((right + wrong) / 3)
    assert float(found["pool_share"]) == pytest.approx(2 / 3)
    found["pool_loss"].backward()
    assert logits.grad is not None
    assert not logits.grad[2].any()


def test_batches_of_the_pool_follow_from_the_number_of_the_pass() -> None:
    frames = np.random.default_rng(0).poisson(1.0, (9, 2, 2, 8, 8)).astype(np.uint8)
    view = View(ViewConfig(**VIEW))

    def pool() -> Pool:
        return Pool(FrameSet(frames, range(2, 9), None, TwoViews(view), 3), 4, PoolConfig(), 3)

    used = [item for number in range(7) for item in pool()._items(number)]
    assert all(sorted(used[i : i + 7]) == list(range(7)) for i in range(0, 28, 7))
    assert used[:7] != used[7:14]
    forwards = [pool().batch(number) for number in range(3)]
    backwards = [pool().batch(number) for number in reversed(range(3))][::-1]
    for a, b in zip(forwards, backwards, strict=True):
        assert torch.equal(a[0], b[0])
        assert torch.equal(a[1], b[1])
    assert not torch.equal(forwards[0][0], forwards[0][1])
    assert pool().weight(0.0) == 0.0
    assert pool().weight(0.1) == pytest.approx(0.5)
    assert pool().weight(0.5) == 1.0


def test_the_pool_has_no_labelled_validated_or_held_out_recording(class_folders: Folders) -> None:
    data = class_folders(2, 12)
    config = settings(
        data, "supervised", supervised__pool={}, supervised__views=VIEW, supervised__labels_per_class=3,
        held_out={"folds": 3, "fold": 0},
    )  # fmt: skip
    recordings = read_recordings(config.data, config.frames, "train", labelled=True)
    split = labelled_split(recordings.listing, config, config.supervised)
    task = ClassifyTask(config, build_encoder(config.encoder), recordings, split, Accelerator(cpu=True))
    assert task._pool is not None
    assert len(task._pool.data.indices) == 2 * (8 - 3)
    assert not {*task._pool.data.indices} & {*split.train, *split.validation}
    # A fold of the labelled recordings answers for them, so they are not in its pool either.
    part = Split(split.train[:4], ())
    fold = FoldTask(config, build_encoder(config.encoder), recordings, part, Accelerator(cpu=True))
    assert fold._pool is not None
    assert fold._pool.data.indices == task._pool.data.indices


def test_a_pool_changes_the_weights_and_without_one_none_is_looked_for(class_folders: Folders, tmp_path: Path) -> None:
    data = class_folders(2, 8)
    few = {"supervised__views": VIEW, "supervised__labels_per_class": 2}
    sure = {"supervised__pool": {"confidence": 0.0}}
    for name, values in {"without": few, "with": few | sure, "all": {**sure, "supervised__views": VIEW}}.items():
        train(settings(data, "supervised", **values), tmp_path / name, "cpu")
    lines = {name: RunFolder(tmp_path / name).history()[-1] for name in ("without", "with", "all")}
    assert lines["with"]["pool_share"] == 1.0
    assert lines["with"]["pool_loss"] > 0
    assert "pool_share" not in lines["without"]
    assert "pool_share" not in lines["all"]  # every recording has a label
    assert lines["with"]["loss"] != lines["without"]["loss"]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"pool": {}}, "pool without views"),
        ({"pool": {}, "views": VIEW, "quantize": "loihi"}, "pool with quantize"),
        ({"pool": {"views": {"slices": 2}}, "views": VIEW}, "give the number in views.slices"),
    ],
)
def test_pools_that_cannot_be(values: dict[str, object], words: str) -> None:
    with pytest.raises((ConfigError, ValueError), match=words):
        ClassifyConfig(**values)
