"""Checkpoints to and from a Hub on loopback, as a user meets them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants

from neuromoco import models
from neuromoco.checkpoint import read_header
from neuromoco.hub import names
from tests.helpers.cli import error_line, run
from tests.helpers.hub_server import TOKEN, HubServer, hub_server

NAME = models.DEFAULT


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[HubServer]:
    """A Hub that this process's client takes for the real one, and a cache of its own."""
    with hub_server() as server:
        _use(server.url, monkeypatch, tmp_path)
        yield server
    names._download.cache_clear()


def _use(url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    names._download.cache_clear()


def test_what_is_pushed_is_found_by_its_place(hub: HubServer, tmp_path: Path) -> None:
    result = run("push", NAME, "hf://me/digits", "--json", "--quiet")
    assert result.exit_code == 0, result.stderr
    facts = json.loads(result.stdout)
    assert facts["repository"] == "me/digits"
    assert facts["card"].endswith(f"{NAME}.md")
    files = hub.repositories["me/digits"]
    assert files["model.safetensors"] == models.model_path(NAME, ".safetensors").read_bytes()
    readme = files["README.md"].decode()
    assert readme.startswith("---\nlibrary_name: neuromoco\n")
    assert models.model_path(NAME, ".md").read_text() in readme
    assert read_header("hf://me/digits") == read_header(NAME)
    answer = run("predict", models.example_paths()[3], "--model", "hf://me/digits", "--json", "--quiet")
    assert json.loads(answer.stdout)["label"] == "3"
    hub.shutdown()  # what is in the cache needs no Hub
    hub.server_close()
    names._download.cache_clear()
    assert read_header("hf://me/digits") == read_header(NAME)


def test_a_card_is_written_or_given(hub: HubServer, tmp_path: Path) -> None:
    own = tmp_path / "own.safetensors"
    own.write_bytes(models.model_path(NAME, ".safetensors").read_bytes())
    assert run("push", own, "hf://me/own", "--quiet").exit_code == 0
    readme = hub.repositories["me/own"]["README.md"].decode()
    assert "neuromoco predict FILES --model hf://me/own" in readme
    assert "| classes | 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 |" in readme
    card = tmp_path / "card.md"
    card.write_text("---\nlicense: mit\n---\n\n# Mine\n")
    assert run("push", own, "hf://me/own", "--card", card, "--quiet").exit_code == 0
    assert hub.repositories["me/own"]["README.md"].decode() == card.read_text()
    assert "is no card (does not exist)" in error_line(run("push", own, "hf://me/own", "--card", tmp_path / "none.md"))


def test_mistakes_are_one_line(hub: HubServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    hub.repositories["me/empty"] = {}
    hub.repositories["me/other"] = {"model.safetensors": b"none"}
    for words, message in (
        (("info", "hf://me/nothing"), "hf://me/nothing: there is no such repository, or it is private"),
        (("info", "hf://me/empty"), "hf://me/empty: holds no checkpoint of neuromoco push"),
        (("embed", "hf://me/other", models.example_paths()[0], "--out", tmp_path / "a.npz"), "is no safetensors file"),
        (("push", NAME, "me/digits"), "me/digits: names no repository; give hf://owner/name"),
        (("push", "nothing", "hf://me/digits"), "nothing: does not exist"),
    ):
        result = run(*words)
        assert message in error_line(result)
        assert result.exit_code == 4
    monkeypatch.setenv("HF_TOKEN", "hf_of_another")
    assert "hf://me/digits: the Hub refuses you: hf auth login" in error_line(run("push", NAME, "hf://me/digits"))


def test_offline_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    _use("http://127.0.0.1:9", monkeypatch, tmp_path)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    for words in (("info", "hf://me/pre"), ("push", NAME, "hf://me/pre")):
        result = run(*words)
        assert "hf://me/pre: the Hub cannot be reached" in error_line(result)
        assert result.exit_code == 4


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("neuromoco.support.extras.find_spec", lambda name: None if name == "huggingface_hub" else name)
    result = run("info", "hf://me/pre")
    assert result.exit_code == 5
    assert "pip install" in error_line(result)
