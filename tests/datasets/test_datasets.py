"""Folders, splits, the digits, and torch data sets whose randomness follows from numbers."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from neuromoco import ConfigError, read_recording
from neuromoco.config import ViewConfig
from neuromoco.datasets import describe_split, list_data, list_recordings, split_by_class
from neuromoco.datasets.digits import digit_images
from neuromoco.datasets.splits import FEWEST_TO_CHOOSE, budget_split, divide_classes
from neuromoco.datasets.torch_sets import FrameSet, collate
from neuromoco.support.cache import cache_folder
from neuromoco.views import TwoViews, View

Folders = Callable[[int, int], Path]


def touch(*files: Path) -> None:
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()


def test_listing_is_sorted_and_passes_hidden_files_over(tmp_path: Path) -> None:
    touch(*(tmp_path / name for name in ("10/b", "10/a", "9/c", "9/.DS_Store", ".git/x", ".notes")))
    listing = list_recordings(tmp_path, labelled=True)
    assert listing.names == ("9/c", "10/a", "10/b")  # folders that are numbers are sorted as numbers
    assert listing.class_names == ("9", "10")
    assert listing.labels == (0, 1, 1)


def test_a_flat_folder_has_no_labels(tmp_path: Path) -> None:
    touch(tmp_path / "b.bin", tmp_path / "a.bin")
    listing = list_recordings(tmp_path, labelled=False)
    assert (listing.names, listing.labels, listing.class_names) == (("a.bin", "b.bin"), (), ())
    with pytest.raises(ConfigError, match="one folder per class, for example"):
        list_recordings(tmp_path, labelled=True)


def test_a_class_whose_name_is_no_text_is_refused_in_one_line(tmp_path: Path) -> None:
    for name in (b"caf\xe9", b"tea"):
        folder = tmp_path / os.fsdecode(name)
        folder.mkdir()
        (folder / "0.bin").write_bytes(bytes(5))
    with pytest.raises(ConfigError, match="not UTF-8, which checkpoints need; rename the folder"):
        list_recordings(tmp_path, labelled=True)


def test_mistakes_about_folders(tmp_path: Path) -> None:
    for made, words in (
        ([], "is empty"),
        (["Train/0/a", "Test/0/a"], "holds Test, Train instead of classes; give"),
        (["0/a", "b.bin"], "holds both files"),
        (["0/deep/a"], "a folder inside a class folder"),
    ):
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        folder.mkdir()
        touch(*(folder / name for name in made))
        with pytest.raises(ConfigError, match=words):
            list_recordings(folder, labelled=True)
    (tmp_path / "e" / "0").mkdir(parents=True)
    touch(tmp_path / "e" / "1" / "a")
    with pytest.raises(ConfigError, match="empty class folder"):
        list_recordings(tmp_path / "e", labelled=False)
    with pytest.raises(ConfigError, match="does not exist"):
        list_recordings(tmp_path / "nothing", labelled=False)
    with pytest.raises(ConfigError, match="is a file"):
        list_recordings(tmp_path / "e" / "1" / "a", labelled=False)


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.integers(4, 30), min_size=1, max_size=5),
    st.sampled_from([0.0, 0.1, 0.25, 0.5]),
    st.sampled_from([None, 1, 2]),
    st.integers(0, 9),
)
def test_splits_are_disjoint_fair_and_follow_the_seed(
    sizes: list[int], validation: float, per_class: int | None, seed: int
) -> None:
    labels = [label for label, size in enumerate(sizes) for _ in range(size)]
    names = [str(label) for label in range(len(sizes))]
    split = split_by_class(labels, validation, per_class, seed, names)
    assert not set(split.train) & set(split.validation)
    for label, size in enumerate(sizes):
        held = sum(labels[i] == label for i in split.validation)
        assert held == (max(1, round(validation * size)) if validation else 0)
        assert sum(labels[i] == label for i in split.train) == (per_class or size - held)
    assert split == split_by_class(labels, validation, per_class, seed, names)


def test_fewer_labels_keep_the_validation_recordings() -> None:
    labels = [0] * 40 + [1] * 40
    few, all_ = (split_by_class(labels, 0.2, n, 3, ["a", "b"]) for n in (5, None))
    assert few.validation == all_.validation
    assert set(few.train) < set(all_.train)
    assert split_by_class(labels, 0.2, 5, 4, ["a", "b"]) != few


def test_a_budget_of_labels_includes_those_to_validate_on() -> None:
    labels = [0] * 200 + [1] * 200
    few, more, every = (budget_split(labels, 0.2, count, 3, ["a", "b"]) for count in (5, 100, None))
    sizes = [len(part) for split in (few, more, every) for part in (split.train, split.validation)]
    assert sizes == [10, 0, 160, 40, 320, 80]  # one of each class could not choose an epoch
    assert {*few.train} < {*more.train, *more.validation} < {*every.train, *every.validation}
    assert every == split_by_class(labels, 0.2, None, 3, ["a", "b"])
    assert not {*more.train} & {*more.validation}


@given(st.lists(st.integers(1, 60), min_size=1, max_size=4), st.sampled_from([0.0, 0.2, 0.5]), st.integers(1, 60))
def test_epochs_are_chosen_on_enough_recordings_or_not_at_all(sizes: list[int], validation: float, most: int) -> None:
    labels = [label for label, size in enumerate(sizes) for _ in range(size)]
    names = [str(label) for label in range(len(sizes))]
    count = min(most, *sizes)
    if any(held and not train for train, held in divide_classes([count] * len(sizes), validation, None)):
        with pytest.raises(ConfigError, match="for validation, and training needs 1"):
            budget_split(labels, validation, count, 0, names)
        return
    split = budget_split(labels, validation, count, 0, names)
    assert len(split.train) + len(split.validation) == count * len(sizes)
    assert not split.validation or len(split.validation) >= FEWEST_TO_CHOOSE
    found = divide_classes(sizes, validation, count)
    assert [sum(part) for part in zip(*found, strict=True)] == [len(split.train), len(split.validation)]


def test_too_few_of_a_class() -> None:
    with pytest.raises(ConfigError, match="class b has 2 recordings, 1 of them for validation, and training needs 3"):
        split_by_class([0] * 9 + [1] * 2, 0.1, 3, 0, ["a", "b"])


def test_a_split_is_described_by_names_and_a_hash(class_folders: Folders) -> None:
    listing = list_recordings(class_folders(2, 4), labelled=True)
    split = split_by_class(listing.labels, 0.25, None, 0, listing.class_names)
    keys = np.zeros((8, 2), np.uint64)
    told = describe_split(listing, split, 0, keys)
    assert sorted([*told["train"], *told["validation"]]) == sorted(listing.names)
    other = split_by_class(listing.labels, 0.25, None, 1, listing.class_names)
    assert (describe_split(listing, other, 0, keys)["sha256"] == told["sha256"]) == (other == split)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_batches_put_time_first_and_views_follow_seed_epoch_and_index(dtype: type[np.unsignedinteger[Any]]) -> None:
    frames = np.random.default_rng(0).poisson(0.6, (6, 3, 2, 34, 34)).astype(dtype)
    labels = [0, 1, 2, 0, 1, 2]
    ((batch, found),) = DataLoader(FrameSet(frames, [4, 2], labels), 2, collate_fn=collate)
    assert (batch.shape, batch.dtype) == ((3, 2, 2, 34, 34), torch.float32)
    assert batch.is_contiguous()
    assert found.tolist() == [1, 2]
    assert torch.equal(batch[:, 1], torch.from_numpy(frames[2].astype(np.float32)))
    view = TwoViews(View(ViewConfig(policy="nda", drop=0.3)))

    def pairs(seed: int, epoch: int, order: list[int], size: int) -> dict[int, torch.Tensor]:
        data = FrameSet(frames, order, view=view, seed=seed)
        data.set_epoch(epoch)
        both = [torch.stack(batch, dim=2) for batch in DataLoader(data, size, collate_fn=collate)]
        return dict(zip(order, torch.cat(both, dim=1).unbind(1), strict=True))

    first = pairs(0, 1, [0, 1, 2, 3], 4)
    again = pairs(0, 1, [3, 0, 2, 1], 3)
    assert all(torch.equal(first[index], again[index]) for index in range(4))
    assert any(not torch.equal(first[index], pairs(0, 2, [0, 1, 2, 3], 4)[index]) for index in range(4))
    assert any(not torch.equal(first[index], pairs(1, 1, [0, 1, 2, 3], 4)[index]) for index in range(4))


def test_the_digits_are_recorded_once_and_split_by_position(monkeypatch: pytest.MonkeyPatch) -> None:
    images, labels = digit_images()
    some = np.concatenate([np.flatnonzero(labels == label)[:5] for label in range(10)])
    monkeypatch.setattr("neuromoco.datasets.digits.digit_images", lambda: (images[some], labels[some]))
    train, test = list_data("digits", "train"), list_data("digits", "test")
    assert train.root.parent == test.root.parent
    assert train.root.is_relative_to(cache_folder())
    assert [len(train), len(test)] == [40, 10]
    whole = train.paths[3].read_bytes()
    train.paths[3].write_bytes(whole[:-5])  # a recording without its last event: nothing but the digest shows it
    (train.root.parent.with_name(f".{train.root.parent.name}.1.part")).mkdir()  # of a process that was killed
    assert list_data("digits", "train").paths[3].read_bytes() == whole
    assert [place.name for place in cache_folder().glob(".*") if place.is_dir()] == []
    assert train.class_names == test.class_names == tuple("0123456789")
    recording = read_recording(train.paths[0])
    assert (recording.width, recording.height) == (34, 34)
    before = recording.t.tolist()
    monkeypatch.setattr("neuromoco.datasets.digits.digit_images", None)
    assert list_data("digits", "train") == train
    assert read_recording(train.paths[0]).t.tolist() == before
