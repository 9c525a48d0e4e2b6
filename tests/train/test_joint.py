"""Pre-training on several sets at once."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from neuromoco import ConfigError, Recording
from neuromoco.checkpoint import read_header
from neuromoco.config import FrameConfig, load_config, with_values
from neuromoco.datasets import read_recordings
from neuromoco.datasets.recordings import JoinedFrames
from neuromoco.events import write_atis
from neuromoco.recipes import load_recipe
from tests.conftest import make_recording
from tests.helpers.cli import SMALL, error_line, run

Folders = Callable[[int, int], Path]


@pytest.fixture
def two_sets(class_folders: Folders, tmp_path: Path) -> tuple[Path, Path]:
    """A folder of two classes of 34 x 34 pixels, and a flat one of 60 x 40."""
    flat = tmp_path / "flat"
    flat.mkdir()
    for number in range(5):
        small = make_recording(number)
        wide = Recording.from_columns(small.t, small.x + 20, small.y, small.p, width=60, height=40)
        write_atis(flat / f"{number}.bin", wide)
    return class_folders(2, 4), flat


def test_several_folders_are_one_set(two_sets: tuple[Path, Path], tmp_path: Path) -> None:
    data, flat = two_sets
    words = ["--data", data, "--data", flat, "--set=pretrain.batch_size=4", "--set=pretrain.moco.queue_size=4"]
    common = ["train", "--stage", "pretrain", *words, *SMALL]
    found = json.loads(run(*common, "--dry-run", "--json").stdout)
    assert (found["recordings"], found["classes"]) == (13, 0)
    assert found["stages"]["pretrain"]["steps_an_epoch"] == 3
    result = run(*common, "--epochs", 2, "--out", tmp_path / "run")
    assert result.exit_code == 0, result.stderr
    split = json.loads((tmp_path / "run/split.json").read_text())
    inside = [f"data/class{label}/{number:03d}.bin" for label in range(2) for number in range(4)]
    assert split["train"] == [*inside, *(f"flat/{number}.bin" for number in range(5))]
    assert split["data"] == str(tmp_path)
    assert load_config(tmp_path / "run/config.yaml").data == (str(data), str(flat))
    assert read_header(tmp_path / "run/weights/last.safetensors").seen.count == 13


def test_joint_frames_are_those_of_each_set(two_sets: tuple[Path, Path]) -> None:
    data, flat = map(str, two_sets)
    frames = FrameConfig(steps=2, height=16, width=16)
    whole = read_recordings((data, flat), frames, "train", labelled=False)
    first, second = (read_recordings(one, frames, "train", labelled=False) for one in (data, flat))
    assert len(whole.store.frames) == len(whole.listing) == 13
    assert (whole.store.frames[[12, 0, 8, 7]] == np.stack(
        [second.store.frames[4], first.store.frames[0], second.store.frames[0], first.store.frames[7]]
    )).all()  # fmt: skip
    assert whole.store.sensors[[0, -1]].tolist() == [first.store.sensors[0].tolist(), second.store.sensors[0].tolist()]


def test_joint_frames_hold_the_larger_counts() -> None:
    few, many = np.full((2, 1, 2, 3, 3), 5, np.uint8), np.full((1, 1, 2, 3, 3), 300, np.uint16)
    joined = JoinedFrames([few, many])
    assert joined[[2, 0]].dtype == np.uint16
    assert joined[[2, 0]].max(axis=(1, 2, 3, 4)).tolist() == [300, 5]
    assert joined[[]].shape == (0, 1, 2, 3, 3)
    with pytest.raises(IndexError):
        joined[[3]]


def test_labels_of_several_sets_are_refused(two_sets: tuple[Path, Path], tmp_path: Path) -> None:
    words = [word for folder in two_sets for word in ("--data", folder)]
    for stage in ("supervised", "all", "finetune"):
        line = error_line(run("train", "--stage", stage, *words, "--out", tmp_path / "run"))
        assert f"several sets with stage {stage}" in line
        assert "--stage pretrain" in line
    assert not (tmp_path / "run").exists()
    twice = ["train", "--stage", "pretrain", "--data", two_sets[0], "--data", two_sets[0]]
    assert "each once" in error_line(run(*twice))
    joint = {"stage": "pretrain", "data": ["a", "b"], "held_out": {"folds": 2, "fold": 0}}
    with pytest.raises(ConfigError, match="no common classes"):
        with_values(load_recipe("tiny"), joint)
