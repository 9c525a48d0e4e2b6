"""The WebSocket: chunks of events in, an answer for each window out; what it refuses, and what ends it."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neuromoco import Recording, models, read_recording
from neuromoco.app.live.records import RECORD, write_records
from neuromoco.app.server.access import access_for
from neuromoco.app.server.upload import Limits
from tests.helpers.cli import run
from tests.helpers.sequences import in_sequence
from tests.helpers.server import ThreadServer, serving, wait_until, without_times

client = pytest.importorskip("websockets.sync.client")
from websockets.exceptions import ConnectionClosed, InvalidStatus  # noqa: E402

EXAMPLE = models.example_paths()[3]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ThreadServer]:
    with serving(tmp_path_factory.mktemp("served"), Limits()) as it:
        yield it


def connect(server: ThreadServer, **options: Any) -> Any:
    return client.connect(f"ws://127.0.0.1:{server.port}/stream", proxy=None, **options)


def started(socket: Any, **fields: Any) -> dict[str, Any]:
    socket.send(json.dumps(fields))
    ready: dict[str, Any] = json.loads(socket.recv(10))["ready"]
    return ready


def ended(socket: Any) -> list[dict[str, Any]]:
    """Everything that comes until the stream ends."""
    lines = []
    try:
        while True:
            lines.append(json.loads(socket.recv(10)))
    except ConnectionClosed:
        return lines


def test_answers_are_those_of_predict(server: ThreadServer, tmp_path: Path) -> None:
    file = tmp_path / "long.npz"
    in_sequence(file, "373", 250_000)
    recording = read_recording(file)
    with connect(server) as stream:
        ready = started(stream, sensor="34x34", window_ms=100)
        assert (ready["window_us"], ready["stride_us"], ready["sensor"]) == (100_000, 100_000, [34, 34])
        assert ready["classes"] == list("0123456789")
        data = write_records(recording)
        for begin in range(0, len(data), 700 * RECORD.itemsize):
            stream.send(data[begin : begin + 700 * RECORD.itemsize])
        stream.send('{"end": true}')
        *answers, last = ended(stream)
    printed = [json.loads(line) for line in run("predict", file, "--window", "100ms", "--json").stdout.splitlines()]
    expected = {tuple(line["window_us"]): without_times(line) for line in printed}
    told = [answer for answer in answers if answer["label"] is not None]
    assert len(told) >= 8
    for answer in told:
        line = expected[tuple(answer["window_us"])]
        assert {name: answer[name] for name in line if name != "file"} == {k: v for k, v in line.items() if k != "file"}
        assert 0 < answer["latency_ms"] < 1000
    assert last["summary"]["events"] == len(recording)
    assert last["summary"]["windows"] == len(answers)
    assert "neuromoco_streamed_events_total" in server.client.get("/metrics").text


@pytest.mark.parametrize(
    ("first", "code", "message"),
    [
        ("hello", "bad_value", "a text message is a JSON object"),
        ("[1]", "bad_value", "a text message is a JSON object"),
        (b"hello", "bad_value", "the first message is text"),
        ('{"speed": 1}', "bad_value", "speed: no such name; known names: model, backend"),
        ('{"backend": "torch"}', "bad_value", "backend: should be 'onnx' or 'loihi-sim', given 'torch'"),
        ('{"model": "/etc/passwd"}', "bad_argument", "no such model; there are sew_resnet_tiny-digits"),
        ('{"sensor": "big"}', "bad_value", "give width and height"),
        ('{"window_ms": 1e300}', "bad_value", "window_ms: should be less than or equal to"),
        ('{"window_ms": 0.001}', "bad_argument", "windows of 0.001 ms; they last 1 ms or more"),
        ('{"window_ms": 0.999}', "bad_argument", "windows of 0.999 ms; they last 1 ms or more"),
        ('{"window_ms": 5, "stride_ms": 0.5}', "bad_argument", "a stride of 0.5 ms with windows of 5 ms"),
        ('{"window_ms": 10, "stride_ms": 20}', "bad_argument", "a stride of 20 ms with windows of 10 ms"),
        ("[" * 100_000, "bad_value", "a text message is a JSON object"),
    ],
)
def test_a_first_message_that_is_wrong_ends_the_stream_with_a_reason(
    server: ThreadServer, first: str | bytes, code: str, message: str
) -> None:
    with connect(server) as stream:
        stream.send(first)
        (told,) = ended(stream)
    assert told["code"] == code
    assert message in told["error"]
    assert stream.protocol.close_code == 1008


def record(t: int = 0, x: int = 0, y: int = 0, p: int = 0, zero: int = 0) -> bytes:
    return np.array([(t, x, y, p, (0, 0, zero))], RECORD).tobytes()


@pytest.mark.parametrize(
    ("sent", "message"),
    [
        (b"x" * 17, "17 bytes are no whole number of records of 16 bytes"),
        (record() + record(x=34), "record 1 is x=34, y=0, p=0 on a sensor of 34 x 34"),
        (record(p=2), "record 0 is x=0, y=0, p=2"),
        (record(zero=1), "then come 3 zeros"),
        (record(t=(1 << 63) - 1), "more than 100,000 years"),
        ('{"end": false}', 'a text message after the first is {"end": true}'),
    ],
)
def test_what_is_no_event_ends_the_stream_with_a_reason(server: ThreadServer, sent: str | bytes, message: str) -> None:
    with connect(server) as stream:
        started(stream, sensor="34x34", window_ms=100)
        stream.send(sent)
        (told,) = ended(stream)
    assert message in told["error"]


def test_times_without_end_are_answered_in_a_moment(server: ThreadServer) -> None:
    with connect(server) as stream:
        started(stream, sensor="34x34", window_ms=1)
        begin = time.monotonic()
        stream.send(record(0) + record(1 << 60))
        stream.send('{"end": true}')
        answers = ended(stream)
    assert time.monotonic() - begin < 2
    assert len(answers) < 6


@contextlib.contextmanager
def overlapping(server: ThreadServer) -> Iterator[Any]:
    """A stream with one message that is answered 32,000 times, which takes a minute."""
    with connect(server) as stream:
        started(stream, sensor="34x34", window_ms=1000, stride_ms=1)
        records = np.zeros(1 << 16, RECORD)
        records["t"] = 500 * np.arange(len(records))
        records["x"] = records["y"] = np.arange(len(records)) % 34
        stream.send(records.tobytes())
        assert json.loads(stream.recv(10))["label"] in list("0123456789")
        yield stream
        with contextlib.suppress(OSError):  # the server may have ended
            stream.socket.shutdown(socket.SHUT_RDWR)


def test_a_message_of_many_windows_lets_the_other_streams_have_their_turn(server: ThreadServer) -> None:
    with overlapping(server), overlapping(server):
        begin = time.monotonic()
        with connect(server) as stream:
            started(stream, sensor="34x34", window_ms=100)
            stream.send(write_records(read_recording(EXAMPLE)))
            assert json.loads(stream.recv(10))["window_us"] == [0, 100_000]
        assert time.monotonic() - begin < 4
    wait_until(lambda: "neuromoco_streams 0.0" in server.client.get("/metrics").text)


@pytest.mark.parametrize("cut_off", [False, True])
def test_the_server_ends_amid_a_message_of_many_windows(
    tmp_path: Path, cut_off: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if cut_off:  # uvicorn cancels at once, amid a slice
        monkeypatch.setattr("neuromoco.app.server.running.GRACE_SECONDS", 0.0)
        monkeypatch.setattr("neuromoco.app.server.stream.SLICE_SECONDS", 1.0)
        monkeypatch.setattr("neuromoco.app.server.stream.SLICE_ANSWERS", 1 << 20)
    with serving(tmp_path, Limits()) as server, overlapping(server):
        if not cut_off:
            time.sleep(0.5)  # answers that nobody takes fill all buffers
        begin = time.monotonic()
        server.running.should_exit = True
        wait_until(lambda: not server.thread.is_alive())
        assert time.monotonic() - begin < 4
    said = capsys.readouterr().err
    assert said == ("ERROR:    Cancel 1 running task(s), timeout graceful shutdown exceeded\n" if cut_off else "")


def test_streams_hold_half_a_million_events_each(server: ThreadServer) -> None:
    with connect(server) as stream:
        started(stream, sensor="34x34", window_ms=86_400_000)
        for _ in range(8):
            stream.send(bytes(1 << 20))
        (told,) = ended(stream)
    assert "more than 500,000 events in a window of 8.64e+07 ms: choose shorter windows" in told["error"]


def test_limits_of_streams(server: ThreadServer, monkeypatch: pytest.MonkeyPatch) -> None:
    module = "neuromoco.app.server.stream."
    monkeypatch.setattr(module + "MOST_STREAMS", 1)
    with connect(server) as stream:
        started(stream)
        with pytest.raises(InvalidStatus) as refused:
            connect(server)
        assert refused.value.response.status_code == 503
        assert json.loads(refused.value.response.body)["code"] == "busy"
        stream.send(bytes((1 << 20) + 16))  # too large a message
        assert ended(stream) == []
    assert stream.protocol.close_code == 1009
    monkeypatch.setattr(module + "IDLE_SECONDS", 0.2)
    wait_until(lambda: "neuromoco_streams 0.0" in server.client.get("/metrics").text)
    with connect(server) as stream:
        (told,) = ended(stream)
    assert told["code"] == "slow"
    monkeypatch.setattr(module + "IDLE_SECONDS", 10)
    monkeypatch.setattr(module + "MOST_HELD", 1000)
    wait_until(lambda: "neuromoco_streams 0.0" in server.client.get("/metrics").text)
    with connect(server) as stream:
        started(stream, window_ms=1000)
        stream.send(write_records(read_recording(EXAMPLE)))
        (told,) = ended(stream)
    assert "more than 1,000 events in a window of 1000 ms" in told["error"]


def test_a_fast_sender_waits(server: ThreadServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("neuromoco.app.server.stream.MOST_PER_SECOND", 20_000)
    recording = read_recording(EXAMPLE)
    with connect(server) as stream:
        started(stream, sensor="34x34")
        begin = time.monotonic()
        for _ in range(3):
            stream.send(write_records(recording))  # of 4,364 events; time starts again, which is told as a restart
        stream.send('{"end": true}')
        *_, last = ended(stream)
    assert last["summary"]["events"] == 3 * len(recording)
    assert time.monotonic() - begin > 3 * len(recording) / 20_000 * 0.9


def test_a_stream_outlives_the_time_for_headers_and_a_plain_request_is_refused(
    server: ThreadServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("neuromoco.app.server.protocol.HEADER_SECONDS", 0.2)
    with connect(server) as stream:
        started(stream)
        time.sleep(0.5)
        stream.send('{"end": true}')
        (last,) = ended(stream)
    assert last["summary"]["events"] == 0
    plain = server.client.get("/stream")
    assert (plain.status_code, plain.json()["code"]) == (426, "no_websocket")
    with pytest.raises(InvalidStatus):
        connect(server, additional_headers={"Origin": "https://evil.example"})


def test_a_sender_who_leaves_leaves_nothing(server: ThreadServer) -> None:
    with connect(server) as stream:
        started(stream)
        stream.send(write_records(read_recording(EXAMPLE)))
        stream.socket.shutdown(socket.SHUT_RDWR)
    wait_until(lambda: "neuromoco_streams 0.0" in server.client.get("/metrics").text)


def test_the_end_of_the_server_ends_streams(tmp_path: Path) -> None:
    token = "0123456789abcdef"
    with serving(tmp_path, Limits(), access=access_for("127.0.0.1", token=token)) as server:
        with pytest.raises(InvalidStatus):
            connect(server)
        with connect(server, additional_headers={"Authorization": f"Bearer {token}"}) as stream:
            started(stream)
            server.running.should_exit = True
            assert ended(stream) == []
        assert stream.protocol.close_code == 1012


def test_records_hold_a_recording() -> None:
    recording = read_recording(EXAMPLE)
    from neuromoco.app.live.records import read_records

    again = read_records(write_records(recording), (34, 34))
    for name in "txyp":
        np.testing.assert_array_equal(getattr(again, name), getattr(recording, name))
    assert isinstance(again, Recording)
