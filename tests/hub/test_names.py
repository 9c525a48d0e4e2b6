"""Checkpoints by name: what a word names, and what is said of one that names nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from neuromoco import CheckpointError, models
from neuromoco.checkpoint import best_weights, read_header
from neuromoco.hub.names import find_checkpoint, is_on_hub, repository_of


def test_a_name_that_ships_is_its_checkpoint() -> None:
    for name in [*models.available_models(), *models.available_encoders()]:
        assert best_weights(name) == models.model_path(name, ".safetensors")
        assert read_header(Path(name)).encoder.name in name


def test_a_path_is_what_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    name = models.DEFAULT
    for path in (Path("runs") / name, Path(f"{name}.safetensors"), Path(f"{name}.onnx"), Path("..") / name):
        assert find_checkpoint(path) == path
    (tmp_path / name).mkdir()  # a folder of that name comes first
    assert find_checkpoint(name) == Path(name)


def test_an_unknown_name_lists_those_that_are_known() -> None:
    with pytest.raises(
        CheckpointError, match=rf"^nothing: does not exist \(names that ship: .*{models.DEFAULT}.*hf://"
    ):
        read_header("nothing")
    with pytest.raises(CheckpointError, match=r"^runs/nothing: does not exist$"):
        read_header("runs/nothing")


@pytest.mark.parametrize(
    ("word", "found"),
    [
        ("hf://me/pre", ("me/pre", None)),
        (Path("hf://me/pre"), ("me/pre", None)),  # pathlib makes one stroke of two
        ("hf://me/pre@v1.0", ("me/pre", "v1.0")),
        ("hf://me/a-b_c.d@refs/pr/1", ("me/a-b_c.d", "refs/pr/1")),
    ],
)
def test_repositories(word: str | Path, found: tuple[str, str | None]) -> None:
    assert is_on_hub(word)
    assert repository_of(word) == found


@pytest.mark.parametrize("word", ["hf://", "hf://me", "hf://me/a/b", "hf://me/a b", "hf://me/pre@"])
def test_words_that_name_no_repository(word: str) -> None:
    with pytest.raises(CheckpointError, match="names no repository; give hf://owner/name"):
        find_checkpoint(word)
