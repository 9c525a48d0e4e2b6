"""Answers in lines: all windows of a file, several files, bytes without a form; what ends them early."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from neuromoco import models, read_recording
from neuromoco.app.server.upload import Limits
from neuromoco.events import write_npz
from neuromoco.runtime.load import load_classifier
from tests.conftest import make_recording
from tests.helpers.cli import run
from tests.helpers.sequences import in_sequence
from tests.helpers.server import ThreadServer, serving, wait_until, without_times

EXAMPLES = models.example_paths()
PNG = b"\x89PNG\r\n\x1a\n" + bytes(50)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ThreadServer]:
    with serving(tmp_path_factory.mktemp("served"), Limits(max_bytes=4 << 20, waiting=2, seconds=8)) as it:
        yield it


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Digits one after another, with a pause, 1.6 s."""
    path = tmp_path_factory.mktemp("long") / "long.npz"
    in_sequence(path, "373", 250_000)
    return path


def lines_of(response: httpx.Response) -> list[dict[str, Any]]:
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/x-ndjson"
    return [json.loads(line) for line in response.text.splitlines()]


def test_all_windows_are_the_lines_of_predict(server: ThreadServer, long: Path) -> None:
    *lines, last = lines_of(server.classify(long.read_bytes(), "long.npz", windows="true", window_ms="100"))
    printed = [json.loads(line) for line in run("predict", long, "--window", "100ms", "--json").stdout.splitlines()]
    assert len(lines) == len(printed) > 10
    assert None in [line["label"] for line in lines]  # the pause
    for line, expected in zip(lines, printed, strict=True):
        assert line["file"] == "long.npz"
        assert line["schema"] == expected["schema"]
        assert without_times(line) | {"file": str(long)} == without_times(expected)
    summary = last["summary"]
    assert (summary["windows"], summary["backend"]) == (len(lines), "onnx")
    assert sum(summary["labels"].values()) + summary["empty"] == len(lines)
    assert summary["facts"]["events"] == len(read_recording(long))
    assert summary["command"] == "neuromoco predict long.npz --any-length --backend onnx --window 100000us --json"


def test_windows_that_overlap_begin_at_multiples_of_the_stride(server: ThreadServer, long: Path) -> None:
    content = long.read_bytes()
    *lines, last = lines_of(server.classify(content, windows="true", window_ms="300", stride_ms="50"))
    recording = read_recording(long)
    duration = recording.duration + 1
    assert [line["window_us"][0] for line in lines] == [50_000 * number for number in range(len(lines))]
    assert lines[-2]["window_us"][1] < duration <= lines[-1]["window_us"][1]
    classifier = load_classifier(models.model_path())
    for line in lines[::5]:
        begin, end = (recording.t[0] + edge for edge in line["window_us"])
        part = read_recording(long, int(begin - recording.t[0]), int(end - recording.t[0]))
        if len(part):
            (expected,) = classifier.predict([part], windows=True)
            assert without_times(expected.to_json()).items() <= line.items()
    assert last["summary"]["command"] is None  # predict has a timeline there


def test_more_windows_than_are_answered_at_once_are_refused(server: ThreadServer, long: Path) -> None:
    answer = server.classify(long.read_bytes(), "a.npz", windows="true", window_ms="0.01")
    assert answer.status_code == 400
    assert "windows; at most 10,000 are answered at once: give a longer window_ms" in answer.json()["error"]
    bad = server.classify(PNG, windows="true", window_ms="10")
    assert (bad.status_code, bad.json()["code"]) == (400, "bad_file")


def test_each_of_several_files_is_a_line_and_one_that_fails_is_one_too(server: ThreadServer) -> None:
    contents = [(f"{number}.bin", EXAMPLES[number].read_bytes()) for number in (3, 7)]
    files = [("file", one) for one in (contents[0], ("photo.bin", PNG), contents[1])]
    lines = lines_of(server.client.post("/classify", files=files, data={"backend": "onnx"}))
    assert [line["file"] for line in lines] == ["3.bin", "photo.bin", "7.bin"]
    assert [line.get("label") for line in lines] == ["3", None, "7"]
    assert lines[1].keys() == {"file", "error", "code"}
    assert lines[1]["code"] == "bad_file"
    alone = server.classify(contents[1][1], "7.bin").json()
    assert without_times(lines[2]) == without_times(alone) | {"file": "7.bin"}
    windows = {"windows": "true", "window_ms": "200"}
    both = lines_of(server.client.post("/classify", files=files, data=windows))
    assert [line["file"] for line in both if "summary" in line] == ["3.bin", "7.bin"]
    assert server.uploads() == []


def test_bytes_need_no_form(server: ThreadServer) -> None:
    raw = {"content-type": "application/octet-stream"}
    content = EXAMPLES[3].read_bytes()
    answer = server.client.post("/classify?name=../walk.bin&backend=onnx", content=content, headers=raw).json()
    assert without_times(answer) == without_times(server.classify(content, backend="onnx").json())
    assert "predict walk.bin" in answer["command"]
    lines = lines_of(server.client.post("/classify?windows=true&window_ms=100", content=content, headers=raw))
    assert lines[0]["file"] == "upload"
    for query, status, code in (
        ("?path=x", 400, "bad_argument"),
        ("?file=x", 400, "bad_argument"),
        ("?model=&model=", 400, "bad_argument"),
        ("?backend=cuda", 422, "bad_value"),
        (f"?name={'x' * 2000}", 414, "long_query"),
    ):
        refused = server.client.post(f"/classify{query}", content=content, headers=raw)
        assert (refused.status_code, refused.json()["code"]) == (status, code)
    large = server.client.post("/classify", content=bytes((4 << 20) + 1), headers=raw)
    assert (large.status_code, large.json()["code"]) == (413, "too_large")
    empty = server.client.post("/classify", content=b"", headers=raw)
    assert empty.json()["error"] == "upload: is empty (0 bytes)"
    assert server.uploads() == []


def busy(server: ThreadServer) -> bool:
    return "neuromoco_workers_busy 1.0" in server.client.get("/metrics").text


def many_windows(path: Path, seconds: int) -> bytes:
    """A recording of many windows, which take seconds."""
    recording = make_recording(1)
    rng = np.random.default_rng(0)
    count = 2000 * seconds
    t = np.sort(rng.integers(0, seconds * 1_000_000, count))
    x, y = rng.integers(0, recording.width, count), rng.integers(0, recording.height, count)
    write_npz(path, type(recording).from_columns(t, x, y, rng.integers(0, 2, count), width=34, height=34))
    return path.read_bytes()


def test_a_client_that_breaks_off_frees_the_worker(server: ThreadServer, tmp_path: Path) -> None:
    content = many_windows(tmp_path / "many.npz", 40)
    worker = server.worker()
    head = b"POST /classify?windows=true&window_ms=5 HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    head += b"Content-Type: application/octet-stream\r\nContent-Length: %d\r\n\r\n" % len(content)
    with socket.create_connection(("127.0.0.1", server.port), 15) as connection:
        connection.sendall(head + content)
        assert b"200 OK" in connection.recv(1 << 14)
        assert busy(server)
    begin = time.monotonic()
    wait_until(lambda: not busy(server))
    assert time.monotonic() - begin < 3
    assert server.worker() == worker  # it was asked to stop, not killed
    assert server.classify(EXAMPLES[3].read_bytes()).json()["label"] == "3"
    wait_until(lambda: server.uploads() == [])


def test_a_worker_that_is_killed_ends_the_lines_with_a_reason(server: ThreadServer, tmp_path: Path) -> None:
    content = many_windows(tmp_path / "many.npz", 40)
    raw = {"content-type": "application/octet-stream"}
    with server.client.stream("POST", "/classify?windows=true&window_ms=5", content=content, headers=raw) as answer:
        lines = answer.iter_lines()
        assert json.loads(next(lines))["window_us"] == [0, 5000]
        os.kill(server.worker() or 0, signal.SIGKILL)
        *_, last = map(json.loads, lines)
    assert last == {
        "file": "upload",
        "error": "upload: not analysed: its worker was killed; try again later",
        "code": "not_analysed",
    }
    assert server.classify(EXAMPLES[3].read_bytes()).json()["label"] == "3"


def test_health_waits_until_workers_are_warm(tmp_path: Path) -> None:
    with serving(tmp_path, Limits(), workers=2) as server:
        states = [server.client.get("/healthz")]
        while states[-1].status_code == 503:
            assert states[-1].json()["status"] == "starting"
            assert states[-1].json()["ready"] < 2
            time.sleep(0.05)
            states.append(server.client.get("/healthz"))
        assert len(states) > 1
        assert states[-1].json() == {"status": "ok", "workers": 2, "ready": 2, "inside": 0}
        begin = time.monotonic()
        assert server.classify(EXAMPLES[3].read_bytes()).json()["label"] == "3"
        assert time.monotonic() - begin < 1  # nothing was left to load
