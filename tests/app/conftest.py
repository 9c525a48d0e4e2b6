"""The page and the server, each started once for all tests that ask them."""

from __future__ import annotations

import time
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest

from tests.helpers.page_server import Server, running


@pytest.fixture(scope="session")
def page_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """`neuromoco app`."""
    pytest.importorskip("gradio")
    with running(tmp_path_factory.mktemp("page")) as server:
        yield server


@pytest.fixture(scope="session")
def http_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """`neuromoco serve`."""
    pytest.importorskip("fastapi")
    with running(tmp_path_factory.mktemp("served"), "serve") as server:
        while not is_ready(server.url):
            time.sleep(0.05)
        yield server


def is_ready(url: str) -> bool:
    """Whether all workers of a server have answered their first file."""
    try:
        with urllib.request.urlopen(f"{url}healthz") as answer:
            return bool(answer.status == 200)
    except urllib.error.HTTPError as error:
        error.close()
        return False
