"""The server as a visitor meets it, on loopback: answers, refusals, limits, what it leaves behind."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import pytest

from neuromoco import models, read_recording
from neuromoco.app.server.access import Access, Gate
from neuromoco.app.server.application import Service, build_app
from neuromoco.app.server.protocol import MOST_CONNECTIONS
from neuromoco.app.server.running import BoundedServer
from neuromoco.app.server.upload import LARGEST_FRAME, Limits, clean_name
from neuromoco.app.worker.analysis import offered_models
from neuromoco.events import write_npz
from neuromoco.runtime.load import load_classifier
from tests.conftest import make_recording
from tests.helpers.cli import run
from tests.helpers.sequences import in_sequence

EXAMPLES = models.example_paths()
MAX_BYTES = 200_000
PNG = b"\x89PNG\r\n\x1a\n" + bytes(50)


@dataclass
class Server:
    """A server in a thread of this process, and the folder that it makes its folder in."""

    client: httpx.Client
    port: int
    temporary: Path
    running: BoundedServer
    service: Service

    def classify(self, content: bytes, name: str = "walk.bin", **fields: str) -> httpx.Response:
        return self.client.post("/classify", files={"file": (name, content)}, data=fields)

    def raw(self, *parts: bytes, pause: float = 0.0) -> bytes:
        """What comes back for bytes sent as they are."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=15) as connection:
            answer = b""
            # A refusal may come, and the connection may end, before everything was sent.
            with contextlib.suppress(ConnectionResetError, BrokenPipeError):
                for part in parts:
                    connection.sendall(part)
                    time.sleep(pause)
            with contextlib.suppress(ConnectionResetError):
                while got := connection.recv(1 << 16):
                    answer += got
            return answer

    def worker(self) -> int | None:
        """The process id of the only worker; None while it starts."""
        (worker,) = self.service._sandbox._workers
        return worker._process.pid

    def inside(self) -> int:
        return self.client.get("/healthz").json()["inside"]

    def uploads(self) -> list[Path]:
        return [path for path in self.temporary.rglob("*") if path.is_file()]


@contextlib.contextmanager
def serving(temporary: Path, limits: Limits, workers: int = 1) -> Iterator[Server]:
    service = Service(offered_models(), limits, workers)
    server = BoundedServer(Gate(build_app(service), Access()), service.end)
    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(temporary))
        thread = Thread(target=server.run, args=([listening],))
        thread.start()
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
                yield Server(client, port, temporary, server, service)
        finally:
            server.should_exit = True
            thread.join(20)
            listening.close()
    assert not thread.is_alive()
    assert list(temporary.iterdir()) == []


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    limits = Limits(max_bytes=MAX_BYTES, waiting=2, receiving=8, body_seconds=3, idle_seconds=1)
    with serving(tmp_path_factory.mktemp("served"), limits) as it:
        yield it


def without_times(answer: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in answer.items() if key not in ("schema", "milliseconds")}


@pytest.mark.parametrize("backend", ["onnx", "loihi-sim"])
def test_the_answer_is_that_of_predict_and_of_python(server: Server, backend: str) -> None:
    file = EXAMPLES[7]
    answer = server.classify(file.read_bytes(), file.name, backend=backend).json()
    printed = without_times(json.loads(run("predict", file, "--backend", backend, "--json").stdout))
    del printed["file"]
    assert {key: answer[key] for key in printed} == printed
    model = models.model_path(suffix={"onnx": ".onnx", "loihi-sim": ".loihi"}[backend])
    (prediction,) = load_classifier(model).predict([read_recording(file)])
    assert without_times(prediction.to_json()).items() <= answer.items()
    assert answer["command"] == f"neuromoco predict 7.bin --any-length --backend {backend} --json"
    assert answer["labels"] == {"onnx": "7", "loihi-sim": "7"}


def test_a_window_is_that_of_predict(server: Server) -> None:
    file = EXAMPLES[4]
    lines = run("predict", file, "--window", "100ms", "--json").stdout.splitlines()
    for number, line in enumerate(lines):
        printed = without_times(json.loads(line))
        del printed["file"]
        answer = server.classify(file.read_bytes(), window_ms="100", window=str(number)).json()
        assert {key: answer[key] for key in printed} == printed
        assert answer["windows"] == len(lines)
    assert server.classify(file.read_bytes(), window_ms="100", window="99").status_code == 400


def test_a_level_of_errors_is_that_of_predict(server: Server) -> None:
    file = EXAMPLES[4]
    answer, printed = server.classify(file.read_bytes(), abstain="0.05"), run("predict", file, "--abstain", "0.05")
    assert answer.status_code == (200 if printed.exit_code == 0 else 400)
    if printed.exit_code:  # the bundled model says of no recordings that they validated it
        assert answer.json()["error"].removeprefix("walk.bin: ") in printed.stderr
        assert "errors below 0.05 need 45 recordings" in printed.stderr
    assert server.classify(file.read_bytes(), abstain="1").status_code == 422


def test_a_file_is_told_by_its_content(server: Server, tmp_path: Path) -> None:
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
        (PNG, {"window_ms": "soon"}, 422, "valid number"),
    ],
)
def test_what_is_refused_is_told_in_one_line(
    server: Server, content: bytes, fields: dict[str, str], status: int, message: str
) -> None:
    response = server.classify(content, **fields)
    assert response.status_code == status
    told = response.json()["detail"][0]["msg"] if status == 422 else response.json()["error"]
    assert message in told
    assert "\n" not in told
    assert str(server.temporary) not in response.text
    assert server.uploads() == []


def test_bodies_that_are_no_form(server: Server) -> None:
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
    twice = part + b"1\r\n" + part + b"2\r\n--b--\r\n"
    assert "more than one file" in post("/classify", content=twice, headers=form).json()["error"]
    nameless = b"--b\r\nContent-Disposition: attachment\r\n\r\n1\r\n--b--\r\n"
    assert "no name" in post("/classify", content=nameless, headers=form).json()["error"]
    missing = post("/classify", files={"other": b"1"})
    assert (missing.status_code, missing.json()["detail"][0]["loc"]) == (422, ["body", "file"])


HEAD = b"POST /classify HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: multipart/form-data; boundary=b\r\n"
PART = b'--b\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\n'


def test_a_body_without_a_length_is_refused_as_soon_as_it_is_too_large(server: Server) -> None:
    chunk = b"%x\r\n%s\r\n" % (50_000, bytes(50_000))
    head = HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"%x\r\n%s\r\n" % (len(PART), PART)
    answer = server.raw(head, *[chunk] * 7)
    assert answer.startswith(b"HTTP/1.1 413")
    assert server.uploads() == []


def test_a_slow_body_is_not_waited_for(server: Server) -> None:
    begin = time.monotonic()
    assert server.raw(HEAD + b"Content-Length: 999\r\n\r\n" + PART).startswith(b"HTTP/1.1 408")
    assert time.monotonic() - begin < 5
    dripping = server.raw(HEAD + b"Content-Length: 999\r\n\r\n" + PART, *[b"x"] * 6, pause=0.6)
    assert dripping.startswith(b"HTTP/1.1 408")
    assert server.uploads() == []


def test_slow_headers_are_not_waited_for(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("neuromoco.app.server.protocol.HEADER_SECONDS", 0.3)
    assert server.raw(b"") == b""
    assert server.raw(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nX: y") == b""
    assert b'"ok"' in server.raw(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")


def test_a_sender_who_leaves_leaves_nothing(server: Server) -> None:
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


def test_more_than_may_wait_are_turned_away(server: Server) -> None:
    content = EXAMPLES[3].read_bytes()
    with ThreadPoolExecutor(3) as pool:
        with stopped(server.worker()):
            waiting = [pool.submit(server.classify, content) for _ in range(3)]  # one at work, two that wait
            wait_until(lambda: server.inside() == 3)
            response = server.classify(PNG)
        assert response.status_code == 503
        assert response.headers["retry-after"] == "1"
        assert [one.result().json()["label"] for one in waiting] == ["3"] * 3


def test_slow_senders_take_no_place_that_a_quick_one_needs(server: Server) -> None:
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


def test_a_file_whose_worker_is_killed_is_tried_once_more(server: Server) -> None:
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


def test_idle_connections_keep_nobody_out(server: Server) -> None:
    with contextlib.ExitStack() as stack:
        idle = [stack.enter_context(socket.create_connection(("127.0.0.1", server.port))) for _ in range(300)]
        assert server.classify(EXAMPLES[3].read_bytes()).json()["label"] == "3"
        assert len(server.running.server_state.connections) <= MOST_CONNECTIONS
        assert idle[0].recv(1) == b""  # the oldest is closed


def test_a_reader_who_takes_nothing_is_cut_off(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("neuromoco.app.server.protocol.SEND_SECONDS", 0.3)
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        before = len(server.running.server_state.connections)
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            for _ in range(2000):
                connection.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" * 20)
        wait_until(lambda: len(server.running.server_state.connections) < before)


def test_the_metrics_count_what_happens(server: Server) -> None:
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


def test_every_address_is_described(server: Server) -> None:
    schema = server.client.get("/openapi.json").json()
    assert schema["paths"].keys() == {"/classify", "/models", "/healthz", "/metrics"}
    told = schema["paths"]["/classify"]["post"]["responses"]
    assert told.keys() == {"200", "400", "408", "413", "415", "422", "500", "503"}
    answer = server.classify(EXAMPLES[3].read_bytes()).json()
    assert answer.keys() == set(schema["components"]["schemas"]["AnalysisResponse"]["properties"])
    assert answer.keys() == told["200"]["content"]["application/json"]["example"].keys()
    page = server.client.get("/docs").text
    assert "window_ms" in page
    assert "<script" not in page
    assert server.client.get("/models").json() == [
        {"name": models.DEFAULT, "backends": ["onnx", "loihi-sim", "torch"], "classes": list("0123456789")}
    ]
    assert server.client.get("/etc/passwd").json() == {"error": "Not Found"}
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


def wait_until(condition: Any) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_timeline_is_returned_on_request(server: Server, tmp_path: Path) -> None:
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
