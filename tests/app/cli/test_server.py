"""The command serve in a process of its own: how it begins, ends, and fails."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from neuromoco import models
from tests.helpers.cli import run

EXAMPLES = models.example_paths()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_command_leaves_nothing_behind(number: int, tmp_path: Path) -> None:
    model = tmp_path / "mine.onnx"
    model.write_bytes(models.model_path().read_bytes())
    (tmp_path / "uploads").mkdir()
    words = [sys.executable, "-m", "neuromoco.app", "serve", "--port", "0", "--workers", "1", "--model", str(model)]
    as_json = number == signal.SIGINT
    process = subprocess.Popen(
        words + ["--json"] * as_json,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"TMPDIR": str(tmp_path / "uploads")},
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:\d+", line)
        assert found
        assert not as_json or json.loads(line) == {"url": found[0]}
        file = {"file": ("3.bin", EXAMPLES[3].read_bytes())}
        answer = httpx.post(f"{found[0]}/classify", files=file, timeout=30).json()
        assert answer["label"] == "3"
        assert answer["command"] == "neuromoco predict 3.bin --any-length --model mine.onnx --json"
        os.kill(process.pid, number)
        assert process.communicate(timeout=15) == ("", "")  # to its end: no worker is left to hold the pipes
        assert process.returncode == (0 if number == signal.SIGTERM else 130)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    assert list((tmp_path / "uploads").iterdir()) == []


def test_mistakes_of_the_command_are_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = run("serve", "--port", port)
        assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
        assert f"--port {port}: Address already in use" in result.stderr
    assert "is a recording; give" in run("serve", "--port", 0, "--model", EXAMPLES[0]).stderr
    assert "nothing.onnx: does not exist" in run("serve", "--port", 0, "--model", "nothing.onnx").stderr
