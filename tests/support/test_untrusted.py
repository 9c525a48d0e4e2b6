"""What a stranger may have made: no memory before there is need, no waiting, one line."""

from __future__ import annotations

import os
import tracemalloc
from pathlib import Path

import pytest

from neuromoco import ConfigError
from neuromoco.config import RunConfig
from neuromoco.support.files import read_json
from neuromoco.support.untrusted import is_regular, one_line, parse_json, read_bytes
from neuromoco.train.run_folder import RunFolder


def test_only_regular_files_of_a_moderate_size_are_read(tmp_path: Path) -> None:
    file, pipe = tmp_path / "file", tmp_path / "pipe"
    file.write_bytes(b"content")
    os.mkfifo(pipe)
    tracemalloc.start()
    assert read_bytes(file, 1 << 31) == b"content"
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 1 << 20
    (tmp_path / "empty").touch()
    for path, words in (
        (pipe, "is no regular file"),
        ("/dev/zero", "is no regular file"),
        (tmp_path, "is a folder"),
        (tmp_path / "none", "does not exist"),
        (tmp_path / "empty", "is empty"),
        (tmp_path / ("x" * 300), "cannot be read"),
    ):
        with pytest.raises(ValueError, match=words):
            read_bytes(path, 100)
        assert not is_regular(path) or words == "is empty"
    with pytest.raises(ValueError, match="has 7 bytes; at most 6 are read"):
        read_bytes(file, 6)


def test_one_line_is_printable_and_short() -> None:
    assert one_line(ValueError("a\nb\x1b[31m \u202e")) == "a b?[31m ?"
    assert one_line(ValueError()) == "ValueError"
    assert len(one_line("x" * 1000)) == 200


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a": ' * 100_000, '{"a": ' + "9" * 5000 + "}", "{"])
def test_json_that_exhausts_the_parser_is_damaged(text: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        parse_json(text)
    run = RunFolder(tmp_path)
    run.metrics.write_text(text + "\n")
    with pytest.raises(ConfigError, match=r"metrics\.jsonl: is damaged"):
        run.history()
    (tmp_path / "split.json").write_text(text)
    for read in (run.split, lambda: read_json(tmp_path / "split.json")):
        with pytest.raises(ConfigError, match=r"split\.json: is damaged"):
            read()


@pytest.mark.parametrize("content", ['{"resumed": "x"}', '{"resumed": [1]}', "[]", "[" * 100_000])
def test_an_environment_of_another_form_is_damaged(content: str, tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    (tmp_path / "config.yaml").touch()
    (tmp_path / "environment.json").write_text(content)
    with pytest.raises(ConfigError, match=r"environment\.json: is damaged"):
        run.begin(RunConfig(), "cpu")


def test_versions_that_are_no_versions_are_not_compared(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    (tmp_path / "config.yaml").touch()
    (tmp_path / "environment.json").write_text('{"versions": 1.5}')
    run.begin(RunConfig(), "cpu")
