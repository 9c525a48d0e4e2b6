"""The server as a visitor meets it, on loopback: answers, refusals, limits, what it leaves behind."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from neuromoco import models, read_recording
from neuromoco.app.server.bodies import clean_name
from neuromoco.app.server.protocol import MOST_CONNECTIONS
from neuromoco.app.server.upload import LARGEST_FRAME, Limits
from neuromoco.events import write_npz
from neuromoco.runtime.load import load_classifier
from tests.conftest import make_recording
from tests.helpers.cli import run
from tests.helpers.sequences import in_sequence
from tests.helpers.server import ThreadServer, serving, wait_until, without_times

EXAMPLES = models.example_paths()
MAX_BYTES = 200_000
PNG = b"\x89PNG\r\n\x1a\n" + bytes(50)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ThreadServer]:
    limits = Limits(max_bytes=MAX_BYTES, waiting=2, receiving=8, body_seconds=3, idle_seconds=1)
    with serving(tmp_path_factory.mktemp("served"), limits) as it:
        yield it


@pytest.mark.parametrize("backend", ["onnx", "loihi-sim"])
def test_the_answer_is_that_of_predict_and_of_python(server: ThreadServer, backend: str) -> None:
    file = EXAMPLES[7]
    answer = server.classify(file.read_bytes(), file.name, backend=backend, compare="true").json()
    printed = without_times(json.loads(run("predict", file, "--backend", backend, "--json").stdout))
    del printed["file"]
    assert {key: answer[key] for key in printed} == printed
    model = models.model_path(suffix={"onnx": ".onnx", "loihi-sim": ".loihi"}[backend])
    (prediction,) = load_classifier(model).predict([read_recording(file)])
    assert without_times(prediction.to_json()).items() <= answer.items()
    assert answer["command"] == f"neuromoco predict 7.bin --any-length --backend {backend} --json"
    assert answer["labels"] == {"onnx": "7", "loihi-sim": "7"}
    assert answer["agreement"] is True
    assert answer["spike_rates"]


def test_only_the_backend_that_is_asked_answers(server: ThreadServer) -> None:
    content = EXAMPLES[7].read_bytes()
    onnx, twin = (server.classify(content, backend=backend).json() for backend in ("onnx", "loihi-sim"))
    assert (onnx["labels"], onnx["agreement"], onnx["spike_rates"]) == ({"onnx": "7"}, None, {})
    assert not [stage for stage in onnx["milliseconds"] if "loihi" in stage]
    assert (twin["labels"], twin["agreement"]) == ({"loihi-sim": "7"}, None)
    assert twin["spike_rates"] == server.classify(content, compare="true").json()["spike_rates"]


def test_a_window_is_that_of_predict(server: ThreadServer) -> None:
    file = EXAMPLES[4]
    lines = run("predict", file, "--window", "100ms", "--json").stdout.splitlines()
    for number, line in enumerate(lines):
        printed = without_times(json.loads(line))
        del printed["file"]
        answer = server.classify(file.read_bytes(), window_ms="100", window=str(number)).json()
        assert {key: answer[key] for key in printed} == printed
        assert answer["windows"] == len(lines)
    assert server.classify(file.read_bytes(), window_ms="100", window="99").status_code == 400


def test_a_level_of_errors_is_that_of_predict(server: ThreadServer) -> None:
    file = EXAMPLES[4]
    answer, printed = server.classify(file.read_bytes(), abstain="0.05"), run("predict", file, "--abstain", "0.05")
    assert answer.status_code == (200 if printed.exit_code == 0 else 400)
    if printed.exit_code:  # the bundled model says of no recordings that they validated it
        assert answer.json()["error"].removeprefix("walk.bin: ") in printed.stderr
        assert "errors below 0.05 need 45 recordings" in printed.stderr
    assert server.classify(file.read_bytes(), abstain="1").status_code == 422


def test_a_file_is_told_by_its_content(server: ThreadServer, tmp_path: Path) -> None:
    write_npz(tmp_path / "x.npz", make_recording(1))
    csv = "t,x,y,p\n" + "".join(f"{1000 * i},{i % 34},{i % 30},{i % 2}\n" for i in range(300))
    assert server.classify((tmp_path / "x.npz").read_bytes(), "photo.png").json()["facts"]["format"] == "npz"
    assert server.classify(csv.encode(), "x.bin").json()["facts"]["events"] == 300


@pytest.mark.parametrize(
    ("content", "fields", "status", "message"),
    [
        (PNG, {}, 400, "walk.bin: is a PNG picture"),
        (b"", {}, 400, "walk.bin: is empty (0 bytes)"),
        (EXAMPLES[0].read_bytes()[:-2], {}, 400, "events: the file is cut or damaged"),
        (bytes(MAX_BYTES + 1), {}, 413, "too large; at most 200,000 bytes"),
        (bytes(MAX_BYTES + LARGEST_FRAME), {}, 413, "too large; at most 200,000 bytes"),
        (bytes(30 * MAX_BYTES), {}, 413, "too large; at most 200,000 bytes"),
        (PNG, {"model": "/etc/passwd"}, 400, "no such model; there are sew_resnet_tiny-digits"),
        (PNG, {"x": "y" * 2000}, 400, "a field of more than 1024 bytes"),
        (PNG, {f"x{i}": "y" for i in range(20)}, 400, "more than 16 fields"),
        (PNG, {"backend": "cuda"}, 422, "'onnx', 'loihi-sim' or 'torch'"),
        (PNG, {"window": "-1"}, 422, "greater than or equal to 0"),
        (PNG, {"window_ms": "nan"}, 422, "finite number"),
        (PNG, {"window_ms": "soon"}, 422, "window_ms: should be a number, given 'soon'"),
        (PNG, {"compare": "perhaps"}, 422, "compare: should be true or false, given 'perhaps'"),
        (PNG, {"windows": "true"}, 422, "windows: needs window_ms"),
        (PNG, {"windows": "true", "window_ms": "5", "timeline": "true"}, 422, "windows: without window, timeline"),
        (PNG, {"stride_ms": "5"}, 422, "stride_ms: needs windows=true"),
    ],
)
def test_what_is_refused_is_told_in_one_line(
    server: ThreadServer, content: bytes, fields: dict[str, str], status: int, message: str
) -> None:
    response = server.classify(content, **fields)
    assert response.status_code == status
    told = response.json()["error"]
    assert response.json().keys() == {"error", "code"}
    assert message in told
    assert status != 422 or told.startswith(tuple(f"{name}: " for name in fields))
    assert "\n" not in told
    assert str(server.temporary) not in response.text
    assert server.uploads() == []


def test_bodies_that_are_no_form(server: ThreadServer) -> None:
    post = server.client.post
    assert post("/classify", content=b"x").status_code == 415
    assert post("/classify", json={"file": "/etc/passwd"}).status_code == 415
    assert post("/classify", data={"file": "/etc/passwd"}).status_code == 415
    form = {"content-type": "multipart/form-data; boundary=b"}
    assert post("/classify", content=b"", headers=form).status_code == 400
    assert post("/classify", content=b"no boundary", headers=form).status_code == 400
    assert post("/classify", content=b"", headers={"content-type": "multipart/form-data"}).status_code == 415
    assert post("/classify", content=b"", headers=form | {"content-encoding": "gzip"}).status_code == 415
    part = b'--b\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\n'
    assert "last boundary" in post("/classify", content=part + b"cut", headers=form).json()["error"]
    many = (part + b"1\r\n") * 101 + b"--b--\r\n"
    assert "more than 100 files" in post("/classify", content=many, headers=form).json()["error"]
    again = part + b'1\r\n--b\r\nContent-Disposition: form-data; name="model"\r\n\r\n\r\n' * 2 + b"--b--\r\n"
    assert "model is given twice" in post("/classify", content=again, headers=form).json()["error"]
    asked = post("/classify?backend=onnx", files={"file": b"1"})
    assert (asked.status_code, asked.json()["code"]) == (400, "bad_argument")
    nameless = b"--b\r\nContent-Disposition: attachment\r\n\r\n1\r\n--b--\r\n"
    assert "no name" in post("/classify", content=nameless, headers=form).json()["error"]
    missing = post("/classify", files={"other": b"1"})
    assert (missing.status_code, missing.json()["code"]) == (400, "bad_argument")  # other is no field
    without = post("/classify", content=b"--b--\r\n", headers=form)
    assert (without.status_code, without.json()["code"]) == (422, "bad_value")
    assert without.json()["error"].startswith("file: is missing")


HEAD = b"POST /classify HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: multipart/form-data; boundary=b\r\n"
PART = b'--b\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\n'


def test_a_body_without_a_length_is_refused_as_soon_as_it_is_too_large(server: ThreadServer) -> None:
    chunk = b"%x\r\n%s\r\n" % (50_000, bytes(50_000))
    head = HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"%x\r\n%s\r\n" % (len(PART), PART)
    answer = server.raw(head, *[chunk] * 7)
    assert answer.startswith(b"HTTP/1.1 413")
    assert server.uploads() == []


def test_a_slow_body_is_not_waited_for(server: ThreadServer) -> None:
    begin = time.monotonic()
    assert server.raw(HEAD + b"Content-Length: 999\r\n\r\n" + PART).startswith(b"HTTP/1.1 408")
    assert time.monotonic() - begin < 5
    dripping = server.raw(HEAD + b"Content-Length: 999\r\n\r\n" + PART, *[b"x"] * 6, pause=0.6)
    assert dripping.startswith(b"HTTP/1.1 408")
    assert server.uploads() == []


def test_slow_headers_are_not_waited_for(server: ThreadServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("neuromoco.app.server.protocol.HEADER_SECONDS", 0.3)
    assert server.raw(b"") == b""
    assert server.raw(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nX: y") == b""
    assert b'"ok"' in server.raw(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")


def test_a_sender_who_leaves_leaves_nothing(server: ThreadServer) -> None:
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(HEAD + b"Content-Length: 99999\r\n\r\n" + PART + bytes(1000))
        wait_until(lambda: len(server.uploads()) == 1)
        assert re.fullmatch("[0-9a-f]{32}", server.uploads()[0].name)
        assert oct(server.uploads()[0].parent.stat().st_mode)[-3:] == "700"
    wait_until(lambda: server.uploads() == [])


@contextlib.contextmanager
def stopped(worker: int) -> Iterator[None]:
    """A worker that does nothing for a while."""
    os.kill(worker, signal.SIGSTOP)
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):  # it may have been killed meanwhile
            os.kill(worker, signal.SIGCONT)


def test_more_than_may_wait_are_turned_away(server: ThreadServer) -> None:
    content = EXAMPLES[3].read_bytes()
    with ThreadPoolExecutor(3) as pool:
        with stopped(server.worker()):
            waiting = [pool.submit(server.classify, content) for _ in range(3)]  # one at work, two that wait
            wait_until(lambda: server.inside() == 3)
            response = server.classify(PNG)
        assert response.status_code == 503
        assert response.headers["retry-after"] == "1"
        assert [one.result().json()["label"] for one in waiting] == ["3"] * 3


def test_slow_senders_take_no_place_that_a_quick_one_needs(server: ThreadServer) -> None:
    with contextlib.ExitStack() as stack:
        slow = [stack.enter_context(socket.create_connection(("127.0.0.1", server.port), 15)) for _ in range(8)]
        for connection in slow:
            connection.sendall(HEAD + b"Content-Length: 99999\r\n\r\n" + PART)
        wait_until(lambda: server.inside() == 8)  # all places for senders; more than may wait for a worker
        time.sleep(0.55)
        slow[0].sendall(bytes(5000))
        assert server.classify(EXAMPLES[3].read_bytes()).json()["label"] == "3"
        told = [connection.recv(1 << 16) for connection in slow]
    assert [b"slower than others" in text for text in told].count(True) == 1
    assert b"slower than others" not in told[0]  # it sent most
    wait_until(lambda: server.inside() == 0)
    assert server.uploads() == []


def test_a_file_whose_worker_is_killed_is_tried_once_more(server: ThreadServer) -> None:
    with ThreadPoolExecutor(1) as pool:
        for kills in (1, 2):
            worker = server.worker()
            with stopped(worker):
                answer = pool.submit(server.classify, EXAMPLES[3].read_bytes())
                wait_until(lambda: server.inside() == 1)
                time.sleep(0.1)
                os.kill(worker, signal.SIGKILL)
                wait_until(lambda killed=worker: server.worker() not in (killed, None))  # None while it starts
                if kills == 2:
                    os.kill(server.worker(), signal.SIGKILL)
            if kills == 1:
                assert answer.result().json()["label"] == "3"
            else:
                assert (answer.result().status_code, answer.result().headers["retry-after"]) == (503, "1")
                assert "its worker was killed twice" in answer.result().json()["error"]
    assert server.classify(EXAMPLES[3].read_bytes()).json()["label"] == "3"


def test_the_end_refuses_what_does_not_finish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    monkeypatch.setattr("neuromoco.app.server.running.GRACE_SECONDS", 1.0)
    with serving(tmp_path, Limits()) as server, ThreadPoolExecutor(2) as pool, contextlib.ExitStack() as stack:
        server.classify(PNG)  # the worker is there
        slow = stack.enter_context(socket.create_connection(("127.0.0.1", server.port), 15))
        slow.sendall(HEAD + b"Content-Length: 99999\r\n\r\n" + PART)
        finishes = pool.submit(server.classify, EXAMPLES[3].read_bytes())
        wait_until(lambda: finishes.done() or server.inside() == 2)
        stack.enter_context(stopped(server.worker()))
        hangs = pool.submit(server.classify, EXAMPLES[3].read_bytes())
        wait_until(lambda: server.inside() == (2 if finishes.done() else 3))
        server.running.should_exit = True
        begin = time.monotonic()
        assert slow.recv(1 << 16).startswith(b"HTTP/1.1 503")
        assert hangs.result().status_code == 503
        assert finishes.result().status_code in (200, 503)
        assert time.monotonic() - begin < 5
    assert [record.message for record in caplog.records] == []


def test_idle_connections_keep_nobody_out(server: ThreadServer) -> None:
    with contextlib.ExitStack() as stack:
        idle = [stack.enter_context(socket.create_connection(("127.0.0.1", server.port))) for _ in range(300)]
        assert server.classify(EXAMPLES[3].read_bytes()).json()["label"] == "3"
        assert len(server.running.server_state.connections) <= MOST_CONNECTIONS
        assert idle[0].recv(1) == b""  # the oldest is closed


def test_a_reader_who_takes_nothing_is_cut_off(server: ThreadServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("neuromoco.app.server.protocol.SEND_SECONDS", 0.3)
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        before = len(server.running.server_state.connections)
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            for _ in range(2000):
                connection.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" * 20)
        wait_until(lambda: len(server.running.server_state.connections) < before)


def test_the_metrics_count_what_happens(server: ThreadServer) -> None:
    def count(text: str, outcome: str) -> float:
        found = re.search(rf'^neuromoco_requests_total\{{outcome="{outcome}"\}} (\S+)$', text, re.M)
        return float(found[1]) if found else 0.0

    before = server.client.get("/metrics").text
    server.classify(EXAMPLES[3].read_bytes())
    server.classify(PNG)
    after = server.client.get("/metrics").text
    assert [count(after, name) - count(before, name) for name in ("ok", "bad_file")] == [1, 1]
    assert 'neuromoco_stage_seconds_bucket{le="1.0",stage="answer onnx"}' in after
    assert "neuromoco_workers_busy 0.0" in after


def test_every_address_is_described(server: ThreadServer) -> None:
    schema = server.client.get("/openapi.json").json()
    assert schema["paths"].keys() == {"/classify", "/models", "/healthz", "/metrics", "/stream"}
    told = schema["paths"]["/classify"]["post"]["responses"]
    assert told.keys() == {"200", "400", "401", "403", "408", "413", "414", "415", "422", "500", "503"}
    form = schema["paths"]["/classify"]["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]["properties"]
    assert form["backend"]["enum"] == ["onnx", "loihi-sim", "torch"]
    assert form["model"]["enum"] == [models.DEFAULT]
    assert form["compare"]["default"] is False
    answer = server.classify(EXAMPLES[3].read_bytes()).json()
    assert answer.keys() == set(schema["components"]["schemas"]["AnalysisResponse"]["properties"])
    assert answer.keys() == told["200"]["content"]["application/json"]["example"].keys()
    page = server.client.get("/docs").text
    assert "window_ms" in page
    assert "One of onnx, loihi-sim, torch." in page
    assert "By default false." in page
    assert "<script" not in page
    assert server.client.get("/models").json() == [
        {"name": models.DEFAULT, "backends": ["onnx", "loihi-sim", "torch"], "classes": list("0123456789")}
    ]
    nowhere, wrong = server.client.get("/etc/passwd"), server.client.get("/classify")
    assert (nowhere.status_code, nowhere.json()["code"]) == (404, "not_found")
    assert "POST /classify" in nowhere.json()["error"]
    assert (wrong.status_code, wrong.json()) == (405, {"error": "/classify takes POST", "code": "method_not_allowed"})
    assert server.raw(b"nothing\r\n\r\n").endswith(b'"code": "bad_request"}')
    assert server.client.get("/models", headers={"host": "evil.example"}).status_code == 400


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("walk.bin", "walk.bin"),
        ("../../etc/passwd", "passwd"),
        ("C:\\data\\walk.bin", "walk.bin"),
        ("a\r\nSet-Cookie: x\x00\x1b[31m.bin", "aSet-Cookie: x[31m.bin"),
        ("\u202egnp.bin", "gnp.bin"),
        ("--model=x", "model=x"),
        ("..", "upload"),
        ("-. a", "a"),
        ("\U0001f600" * 100, "\U0001f600" * 50),
        ("", "upload"),
        ("x" * 300, "x" * 100),
    ],
)
def test_names_are_fit_to_print(given: str, shown: str) -> None:
    assert clean_name(given) == shown
    assert clean_name(shown) == shown


def test_a_timeline_is_returned_on_request(server: ThreadServer, tmp_path: Path) -> None:
    in_sequence(tmp_path / "long.npz", "373", 250_000)
    content = (tmp_path / "long.npz").read_bytes()
    answer = server.classify(content, "long.npz", timeline="true").json()
    labels = [segment["label"] for segment in answer["timeline"]["segments"] if segment["label"]]
    assert labels == list("373")
    (printed,) = run("predict", "--timeline", "--json", tmp_path / "long.npz").stdout.splitlines()
    assert answer["timeline"]["segments"] == json.loads(printed)["segments"]
    assert server.classify(content, "long.npz").json()["timeline"] is None
    assert server.classify(EXAMPLES[0].read_bytes(), timeline="true").json()["timeline"] is None  # of a single digit
    assert server.classify(content, "long.npz", timeline="perhaps").status_code == 422
