"""The clients of the documentation get the answers of `neuromoco predict`."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from neuromoco import models
from tests.helpers.cli import run
from tests.helpers.page_server import Server

DOCS = Path(__file__).parents[3] / "docs"
EXAMPLE = models.example_paths()[3]
FLAG = "--experimental-websocket"  # that Node 20 needs; later ones have it on

clients = pytest.mark.parametrize("client", ["client.py", "client.mjs"])


def asked(client: str, *words: str | Path) -> subprocess.CompletedProcess[str]:
    """A client that ran."""
    node = shutil.which("node")
    if client.endswith(".mjs") and node is None:
        pytest.skip("node is not installed")
    start = [sys.executable] if client.endswith(".py") else [str(node), FLAG]
    return subprocess.run([*start, DOCS / client, *words], capture_output=True, text=True, timeout=60)


@clients
def test_a_client_prints_what_predict_answers(client: str, http_server: Server) -> None:
    finished = asked(client, http_server.url.rstrip("/"), EXAMPLE)
    assert finished.returncode == 0, finished.stderr
    label, *lines = finished.stdout.replace("[ ", "[").replace(" ]", "]").splitlines()
    assert label == "3"
    printed = [json.loads(line) for line in run("predict", EXAMPLE, "--window", "100ms", "--json").stdout.splitlines()]
    of_windows, of_stream = lines[: len(printed)], lines[len(printed) + 1 :]
    for line, expected in zip(of_windows, printed, strict=True):
        begin, end = expected["window_us"]
        assert line == f"[{begin}, {end}] {expected['label']}"
    assert len(of_stream) >= 4  # ready, three windows or more, a summary
    assert sum(line.startswith("[") for line in of_stream) == 3


@clients
def test_a_client_tells_why_there_is_no_answer(client: str, http_server: Server, tmp_path: Path) -> None:
    (tmp_path / "photo.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(50))
    finished = asked(client, http_server.url.rstrip("/"), tmp_path / "photo.png")
    assert finished.returncode != 0
    assert "photo.png: is a PNG picture" in finished.stderr
    assert "(bad_file)" in finished.stderr
