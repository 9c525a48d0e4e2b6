"""Published sets, from copies of their layout that the tests write: what is found, how it is split, what is said."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from neuromoco import ConfigError, NeuromocoError
from neuromoco.config import FrameConfig
from neuromoco.datasets import Listing, cached_frames, fixed_splits, list_data, split_by_class
from neuromoco.datasets.class_sets import N_MNIST
from neuromoco.datasets.fixed_splits import Counts, fixed_split
from neuromoco.datasets.folders import Part
from neuromoco.datasets.named import SETS
from neuromoco.events import write_atis
from tests.conftest import make_recording
from tests.helpers.dvs128_files import counted, some_events, write_aedat2

PARTS: tuple[Part, Part] = ("train", "test")
CONFIG = FrameConfig(steps=2, height=16, width=16)
# Of the names in each part where the files are named as their authors named them.
SPLITS = {
    "cifar10-dvs": (9000, 1000, "792253a6c7c9ca4f1763cb90f781896f19ea4075528e1e1f6d42f6e3de123896"),
    "n-caltech101": (7795, 914, "8f96ee1283d7e39fb5fe5eaea8a9858b9e8574884a013aaf904a4e920dec9d4f"),
    "n-caltech101-ceil": (7886, 823, "32c815755c566770db22d7177b46fe3919d3dbe060819543457b72bea64fe880"),
}


@pytest.fixture(scope="module")
def copies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with copies of CIFAR10-DVS and N-Caltech101 in full number, of empty files."""
    root = tmp_path_factory.mktemp("sets")
    for name, counts in fixed_split("n-caltech101").items():
        folder = root / "n-caltech101" / "Caltech101" / name
        folder.mkdir(parents=True)
        for number in range(1, sum(counts) + 1):
            (folder / f"image_{number:04d}.bin").touch()
    for name in fixed_split("cifar10-dvs"):
        folder = root / "cifar10-dvs" / name
        folder.mkdir(parents=True)
        for number in range(1000):
            (folder / f"cifar10_{name}_{number}.aedat").touch()
    return root


def names(listing: Listing) -> list[str]:
    return list(listing.names)


@pytest.mark.parametrize("name", SPLITS)
def test_the_fixed_splits_are_what_they_were(copies: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("NEUROMOCO_DATA", str(copies))
    train, test = (list_data(name, part) for part in PARTS)
    digest = hashlib.sha256("\n".join([*train.names, "--", *test.names]).encode()).hexdigest()
    assert (len(train), len(test), digest) == SPLITS[name]
    assert not set(train.names) & set(test.names)
    assert train.class_names == test.class_names == tuple(sorted(train.class_names))
    for label, class_name in enumerate(test.class_names):
        of_class = [path for path, own in zip(test.files, test.labels, strict=True) if own == label]
        assert len(of_class) == fixed_split(name)[class_name].test
        assert all(path.startswith(f"{class_name}/") for path in of_class)


@pytest.mark.parametrize("name", ["cifar10-dvs", "n-caltech101-ceil"])
def test_the_fixed_splits_are_those_of_spikingjelly(copies: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Its `split_to_train_test_set(0.9, set, classes)` takes the first ceil(0.9 n) of each class in order of name."""
    monkeypatch.setenv("NEUROMOCO_DATA", str(copies))
    train, test = (list_data(name, part) for part in PARTS)
    for class_name in train.class_names:
        members = sorted(file for file in (*train.files, *test.files) if file.startswith(f"{class_name}/"))
        first = members[: math.ceil(len(members) * 0.9)]
        assert [file for file in train.files if file.startswith(f"{class_name}/")] == first


def test_validation_comes_from_the_training_part_alone(copies: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEUROMOCO_DATA", str(copies))
    train, test = (list_data("n-caltech101", part) for part in PARTS)
    split = split_by_class(train.labels, 0.1, None, 0, train.class_names)
    assert len(split.train) + len(split.validation) == len(train)
    assert not {train.names[i] for i in split.validation} & set(test.names)


def test_a_split_that_was_changed_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fixed_splits, "SHA256", "0" * 64)
    fixed_splits._rows.cache_clear()
    with pytest.raises(NeuromocoError, match=r"fixed_splits.csv: has the SHA-256 .* install neuromoco again"):
        fixed_split("cifar10-dvs")
    fixed_splits._rows.cache_clear()


def test_no_order_of_a_file_system_matters(copies: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEUROMOCO_DATA", str(copies))
    before = [list_data(name, "train") for name in SPLITS]
    plain = Path.glob

    def backwards(self: Path, pattern: str) -> Iterator[Path]:
        return iter(sorted(plain(self, pattern), reverse=True))

    monkeypatch.setattr(Path, "glob", backwards)
    assert [list_data(name, "train") for name in SPLITS] == before


@pytest.mark.parametrize("name", SETS)
def test_a_set_that_is_not_there_is_told_so(data_root: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    given = SETS[name]
    with pytest.raises(ConfigError) as told:
        list_data(name, "train")
    line = str(told.value)
    fetch = f"neuromoco download {name} fetches it"
    assert line.startswith(
        f"{name}: no folder {data_root / given.folder}; {fetch}, or get {given.archives} from https:"
    )
    assert f"so that {data_root / given.folder / given.example} exists" in line
    assert "\n" not in line
    (data_root / given.folder).mkdir()  # there, but not unpacked
    with pytest.raises(ConfigError, match=rf"^{name}: no folder .*; get .* and unpack into .* exists$"):
        list_data(name, "train")
    monkeypatch.delenv("NEUROMOCO_DATA")
    monkeypatch.chdir(data_root)
    with pytest.raises(ConfigError, match=rf"^{name}: no folder data/{given.folder}; {fetch}"):
        list_data(name, "train")


def test_a_set_that_is_not_whole_is_refused(copies: Path, data_root: Path) -> None:
    (data_root / "cifar10-dvs").mkdir()
    for folder in (copies / "cifar10-dvs").iterdir():
        (data_root / "cifar10-dvs" / folder.name).symlink_to(folder)
    (data_root / "cifar10-dvs" / "cat").unlink()
    with pytest.raises(ConfigError, match=r"cifar10-dvs: no folder .*/cat; get airplane.zip and"):
        list_data("cifar10-dvs", "test")
    (data_root / "cifar10-dvs" / "cat").mkdir()
    with pytest.raises(ConfigError, match=r"cat holds 0 recordings \(cifar10_\*.aedat\) instead of 1,000"):
        list_data("cifar10-dvs", "test")


def test_a_name_that_is_neither_folder_nor_set_lists_the_sets(data_root: Path) -> None:
    with pytest.raises(ConfigError, match=r"nmnist: does not exist; .* one of digits, n-mnist, n-caltech101, "):
        list_data("nmnist", "train")


def test_a_folder_is_taken_as_it_is_for_both_parts(data_root: Path) -> None:
    write_atis(data_root / "mine" / "a" / "0.bin", make_recording(0))
    assert list_data(str(data_root / "mine"), "train") == list_data(str(data_root / "mine"), "test")


def test_n_mnist(data_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert N_MNIST == (60_000, 10_000)
    for part, label, number in product(("Train", "Test"), range(10), range(2)):
        write_atis(data_root / "n-mnist" / part / str(label) / f"{number:05d}.bin", make_recording(label * 10 + number))
    with pytest.raises(ConfigError, match=r"n-mnist: .*/Train holds 20 recordings instead of 60,000; get Train.zip"):
        list_data("n-mnist", "train")
    monkeypatch.setattr("neuromoco.datasets.class_sets.N_MNIST", Counts(20, 20))
    train, test = (list_data("n-mnist", part) for part in PARTS)
    assert (train.root.name, test.root.name) == ("Train", "Test")
    assert train.class_names == tuple("0123456789")
    assert names(train)[:3] == ["0/00000.bin", "0/00001.bin", "1/00000.bin"]
    assert cached_frames(train, CONFIG).events.tolist() == [600] * 20


def test_frames_of_cifar10_dvs(data_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "neuromoco.datasets.class_sets.fixed_split", lambda name: {"cat": Counts(2, 1), "dog": Counts(2, 1)}
    )
    for seed, (name, number) in enumerate(product(("cat", "dog"), (0, 1, 10))):
        (data_root / "cifar10-dvs" / name).mkdir(parents=True, exist_ok=True)
        events = some_events(seed, 0, 1_300_000)
        write_aedat2(data_root / "cifar10-dvs" / name / f"cifar10_{name}_{number}.aedat", events)
    train, test = (list_data("cifar10-dvs", part) for part in PARTS)
    assert names(test) == ["cat/cifar10_cat_10.aedat", "dog/cifar10_dog_10.aedat"]
    assert train.labels == (0, 0, 1, 1)
    store = cached_frames(train, CONFIG)
    assert store.sensors.tolist() == [[128, 128]] * 4
    for row, seed in enumerate((0, 1, 3, 4)):
        assert np.array_equal(store.frames[row], counted(some_events(seed, 0, 1_300_000), CONFIG))
