"""The page and the server, each started once for all tests that ask them."""

from __future__ import annotations

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
        yield server
