"""Sources of events: what is lost, what waits, what comes back, and what is left when they end."""

from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from neuromoco import Recording, models, read_recording
from neuromoco.app.live import cameras
from neuromoco.app.live.answering import LiveAnswers, News, Told
from neuromoco.app.live.bytes_in import GrowingFile, TcpSource, UdpSource
from neuromoco.app.live.cameras import CameraSource, dv_batches
from neuromoco.app.live.inbox import Inbox
from neuromoco.app.live.records import write_records
from neuromoco.app.live.replay import Replay
from neuromoco.app.live.source import joined
from neuromoco.errors import ConfigError, EventFileError, MissingPackageError, NeuromocoError
from neuromoco.events import ReadOptions
from neuromoco.events.prophesee.evt_writer import write_evt3
from neuromoco.events.text.lines import write_csv
from neuromoco.events.writers import writer_for
from neuromoco.runtime.live_segments import LiveSegments
from neuromoco.runtime.load import OnnxClassifier
from neuromoco.runtime.timeline import TimelineRule
from neuromoco.runtime.window_classifier import WindowClassifier
from tests.app.live.test_decoders import spif

PATH = models.example_paths()[3]
EXAMPLE = read_recording(PATH)
SENSOR = (34, 34)
OPTIONS = ReadOptions()


def part(first: int, last: int) -> Recording:
    return replace(EXAMPLE, **{name: getattr(EXAMPLE, name)[first:last] for name in "txyp"})


@contextmanager
def taken(source: Any) -> Iterator[list[Any]]:
    """What a source gives, as it comes, in a thread."""
    found: list[Any] = []

    def take() -> None:
        try:
            for one in source.chunks():
                found.append(one)
        except NeuromocoError as error:
            found.append(error)

    thread = threading.Thread(target=take)
    thread.start()
    try:
        yield found
    finally:
        source.close()
        thread.join(10)
        assert not thread.is_alive()


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def events(found: list[Any]) -> int:
    return sum(len(one) for one in found if isinstance(one, Recording))


def same(found: list[Any], expected: Recording = EXAMPLE) -> bool:
    whole = joined([one for one in found if isinstance(one, Recording)])
    return all(np.array_equal(getattr(whole, name), getattr(expected, name)) for name in "txyp")


def test_udp_gives_what_was_sent_and_counts_what_is_no_event() -> None:
    source = UdpSource("udp", "127.0.0.1", 0, "spif", OPTIONS, SENSOR)
    with taken(source) as found, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        data = spif(EXAMPLE)
        for begin in range(0, len(data), 512):  # as AEStream
            sender.sendto(data[begin : begin + 512], ("127.0.0.1", source.port))
        sender.sendto(b"xyz", ("127.0.0.1", source.port))
        wait_until(lambda: events(found) == len(EXAMPLE) and source.losses()["datagrams_damaged"] == 1)
        assert same(found)
        assert source.losses() == {"outside_sensor": 0, "datagrams_lost": 0, "datagrams_damaged": 1}


def in_datagrams(format: str, tmp_path: Path) -> tuple[list[bytes], int]:
    """The example in datagrams of whole events, and the bytes of a word, a pair of words or a record."""
    if format == "csv":
        write_csv(tmp_path / "a.csv", EXAMPLE)
        lines = (tmp_path / "a.csv").read_bytes().splitlines(keepends=True)[1:]
        return [b"".join(lines[at : at + 31]) for at in range(0, len(lines), 31)], 1
    if format == "evt3":
        write_evt3(tmp_path / "a.raw", EXAMPLE)
        content = (tmp_path / "a.raw").read_bytes()
        content = content[content.index(b"% end\n") + 6 :]
        return [content[at : at + 498] for at in range(0, len(content), 498)], 2
    content = {"records": write_records, "spif": spif}[format](EXAMPLE)
    return [content[at : at + 480] for at in range(0, len(content), 480)], {"records": 16, "spif": 8}[format]


@pytest.mark.parametrize("format", ["csv", "evt3", "records", "spif"])
def test_a_datagram_of_whole_events_is_kept_and_a_cut_one_shifts_nothing(format: str, tmp_path: Path) -> None:
    datagrams, unit = in_datagrams(format, tmp_path)
    options = ReadOptions(columns="txyp", sensor=SENSOR) if format == "csv" else OPTIONS
    source = UdpSource("udp", "127.0.0.1", 0, format, options, SENSOR)
    damaged = 0
    with taken(source) as found, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for number, datagram in enumerate(datagrams):
            sender.sendto(datagram, ("127.0.0.1", source.port))
            if unit > 1 and number % 10 == 0:
                sender.sendto(datagram[: 3 * unit - unit // 2], ("127.0.0.1", source.port))
                damaged += 1
        wait_until(lambda: events(found) == len(EXAMPLE) and source.losses()["datagrams_damaged"] == damaged)
        assert same(found)


def test_udp_counts_what_found_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("neuromoco.app.live.bytes_in.RECEIVE_BUFFER", 1 << 12)
    source = UdpSource("udp", "127.0.0.1", 0, "records", OPTIONS, SENSOR)
    source._listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 12)
    data = write_records(part(0, 100))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        source._listening.setsockopt(socket.SOL_SOCKET, 40, 1)
        for _ in range(200):
            sender.sendto(data, ("127.0.0.1", source.port))
        with taken(source) as found:
            wait_until(lambda: events(found) > 0)
            sender.sendto(data, ("127.0.0.1", source.port))
            wait_until(lambda: source.losses()["datagrams_lost"] > 0)
            wait_until(lambda: events(found) + 100 * source.losses()["datagrams_lost"] == 100 * 201)


def test_tcp_waits_for_the_next_sender() -> None:
    source = TcpSource("tcp", "127.0.0.1", 0, "spif", OPTIONS, SENSOR)
    with taken(source) as found:
        for number in (1, 2):
            with socket.create_connection(("127.0.0.1", source.port), 10) as sender:
                sender.sendall(spif(EXAMPLE) + b"cut")  # the bytes of an event that never comes are not mixed in
            wait_until(lambda number=number: events(found) == number * len(EXAMPLE))
        wait_until(lambda: sum("left; the next sender is waited for" in str(one) for one in found) == 2)


def test_a_silent_sender_of_tcp_gives_way_to_one_that_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("neuromoco.app.live.bytes_in.IDLE_SECONDS", 0.3)
    source = TcpSource("tcp", "127.0.0.1", 0, "spif", OPTIONS, SENSOR)
    with taken(source) as found, socket.create_connection(("127.0.0.1", source.port), 10) as silent:
        time.sleep(0.7)  # nobody else waits: it is kept
        silent.sendall(spif(EXAMPLE))
        wait_until(lambda: events(found) == len(EXAMPLE))
        with socket.create_connection(("127.0.0.1", source.port), 10) as sender:
            sender.sendall(spif(EXAMPLE))
            wait_until(lambda: events(found) == 2 * len(EXAMPLE))
            assert silent.recv(1) == b""
    assert sum("127.0.0.1 was silent for 0.3 s; the next sender is waited for" in str(one) for one in found) == 1


def test_the_last_line_of_a_sender_of_tcp_needs_no_newline() -> None:
    source = TcpSource("tcp", "127.0.0.1", 0, "csv", ReadOptions(columns="txyp"), SENSOR)
    with taken(source) as found:
        for number, last in enumerate((b"5,6,7,0", b"5,6"), 1):
            with socket.create_connection(("127.0.0.1", source.port), 10) as sender:
                sender.sendall(b"1,2,3,1\n" + last)
            wait_until(lambda number=number: sum("left; the next" in str(one) for one in found) == number)
    assert events(found) == 3
    assert sum("what came last is left out: holds lines that are no numbers" in str(one) for one in found) == 1


def test_a_file_that_grows_is_followed_and_one_that_is_replaced_begins_again(tmp_path: Path) -> None:
    file = tmp_path / "a.raw"
    write_evt3(tmp_path / "whole.raw", EXAMPLE)
    content = (tmp_path / "whole.raw").read_bytes()
    file.write_bytes(content[: len(content) // 3])
    with taken(GrowingFile(file, None, OPTIONS, None)) as found:
        wait_until(lambda: events(found) > 500)
        with file.open("ab") as more:
            more.write(content[len(content) // 3 :])
        wait_until(lambda: events(found) == len(EXAMPLE))
        assert same(found)
        (tmp_path / "whole.raw").rename(file)
        wait_until(lambda: events(found) == 2 * len(EXAMPLE))
    assert any("was replaced" in str(one) for one in found)
    with pytest.raises(EventFileError, match="does not exist"):
        GrowingFile(tmp_path / "none", None, OPTIONS, None)


def test_a_wrong_sensor_is_told(tmp_path: Path) -> None:
    said = "4,.*of 4,.* events lie outside the 5 x 5 sensor: give --sensor WIDTHxHEIGHT"
    (tmp_path / "a").write_bytes(spif(EXAMPLE))
    with taken(GrowingFile(tmp_path / "a", "spif", OPTIONS, (5, 5))) as found:
        wait_until(lambda: any(isinstance(one, EventFileError) for one in found))
    assert re.search(said, str(found[-1]))
    source = UdpSource("udp", "127.0.0.1", 0, "spif", OPTIONS, (5, 5))
    with taken(source) as found, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        data = spif(EXAMPLE)
        for begin in range(0, 2 * len(data), 512):
            begin %= len(data)
            sender.sendto(data[begin : begin + 512], ("127.0.0.1", source.port))
        wait_until(lambda: source.losses()["outside_sensor"] > len(EXAMPLE))
    assert len([one for one in found if isinstance(one, str) and re.search("lie outside", one)]) == 1


def test_a_recording_is_played_at_its_speed() -> None:
    for speed, seconds in ((2.0, EXAMPLE.duration / 2e6), (0, 0)):
        begin = time.monotonic()
        found = list(Replay(PATH, speed, OPTIONS).chunks())
        took = time.monotonic() - begin
        assert same(found)
        assert seconds * 0.9 <= took < seconds + 1.5
    with pytest.raises(EventFileError, match="does not exist"):
        list(Replay(Path("none.bin"), 1.0, OPTIONS).chunks())


def test_the_slowest_speed_plays() -> None:
    chunks = Replay(PATH, 0.01, OPTIONS).chunks()
    first, second = (next(chunks) for _ in range(2))
    assert int(first.t[0]) == int(EXAMPLE.t[0])
    assert int(second.t[-1]) - int(EXAMPLE.t[0]) < 10_000


class Scripted:
    """A source that gives chunks at once."""

    name = "scripted"
    clock_rate = 0.0

    def __init__(self, chunks: list[Any], waits: bool, goes_on: bool = False) -> None:
        self._chunks, self.waits, self.goes_on = chunks, waits, goes_on

    def chunks(self) -> Iterator[Any]:
        for chunk in self._chunks:
            if isinstance(chunk, Exception):
                raise chunk
            if isinstance(chunk, float):
                time.sleep(chunk)
            else:
                yield chunk

    def close(self) -> None:
        pass

    def losses(self) -> dict[str, int]:
        return {}


def drained(inbox: Inbox) -> tuple[int, int]:
    """Events and dropped ones."""
    total = dropped = 0
    while True:
        try:
            batch = inbox.next(1.0)
        except EOFError:
            return total, dropped
        if batch is not None:
            total, dropped = total + len(batch.events), dropped + batch.dropped


@pytest.mark.parametrize("waits", [False, True])
def test_the_oldest_is_dropped_and_counted_where_a_source_cannot_wait(waits: bool) -> None:
    inbox = Inbox(Scripted([part(100 * number, 100 * number + 100) for number in range(40)], waits), most_events=1000)
    inbox.start()
    time.sleep(0.2)
    first = inbox.next(1.0)
    assert first is not None
    assert int(first.events.t[0]) == int(EXAMPLE.t[0 if waits else 3000])
    total, dropped = drained(inbox)
    assert (len(first.events) + total, inbox.dropped) == ((4000, 0) if waits else (1000, 3000))
    assert dropped + first.dropped == inbox.dropped
    inbox.close()


def test_an_error_of_a_source_comes_after_its_events() -> None:
    inbox = Inbox(Scripted([part(0, 10), EventFileError("x: damaged")], True))
    inbox.start()
    time.sleep(0.1)
    batch = inbox.next(1.0)
    assert batch is not None
    assert len(batch.events) == 10
    with pytest.raises(EventFileError, match="x: damaged"):
        inbox.next(1.0)
    broken = Inbox(Scripted([ZeroDivisionError("in a\nlibrary")], True))
    broken.start()
    time.sleep(0.1)
    with pytest.raises(NeuromocoError, match="scripted: ZeroDivisionError: in a library"):
        broken.next(1.0)


def answers_of(source: Any, window_us: int = 310_000) -> tuple[LiveAnswers, list[News]]:
    classifier = OnnxClassifier(models.model_path(), threads=1)
    rule = TimelineRule.for_recordings(classifier.header.seen, {"window_us": window_us, "stride_us": window_us})
    stream = WindowClassifier(classifier, rule.window_us, rule.stride_us)
    answers = LiveAnswers(source, stream, LiveSegments(classifier.header.class_names, rule))
    return answers, [*answers.news(), *answers.last()]


def test_answers_tell_how_many_events_were_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("neuromoco.app.live.inbox.MOST_EVENTS", 1000)
    chunks = [part(100 * number, 100 * number + 100) for number in range(43)]
    monkeypatch.setattr(Inbox.__init__, "__defaults__", (1000,))
    monkeypatch.setattr(LiveAnswers, "_camera_time", lambda _: time.sleep(0.01) or 0)
    answers, news = answers_of(Scripted(chunks, False), 20_000)
    told = [one for one in news if isinstance(one, Told)]
    assert answers.totals.events + answers.totals.dropped == 4300
    assert sum(one.dropped for one in told) == answers.totals.dropped


def test_a_still_camera_is_answered_by_the_clock() -> None:
    source = UdpSource("udp", "127.0.0.1", 0, "spif", OPTIONS, SENSOR)
    classifier = OnnxClassifier(models.model_path(), threads=1)
    rule = TimelineRule.for_recordings(classifier.header.seen, {"window_us": 310_000, "stride_us": 310_000})
    answers = LiveAnswers(
        source, WindowClassifier(classifier, 310_000), LiveSegments(classifier.header.class_names, rule)
    )
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        data = spif(EXAMPLE)
        for begin in range(0, len(data), 512):
            sender.sendto(data[begin : begin + 512], ("127.0.0.1", source.port))
    news = answers.news()
    first = next(one for one in news if isinstance(one, Told))
    assert first.answer.prediction is not None
    assert (first.answer.prediction.label, first.latency_ms) == ("3", None)
    news.close()


def test_a_sender_of_what_is_no_event_is_left_out_and_the_next_is_answered() -> None:
    source = TcpSource("tcp", "127.0.0.1", 0, "records", OPTIONS, SENSOR)
    with taken(source) as found:
        with socket.create_connection(("127.0.0.1", source.port), 10) as sender:
            sender.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 9)
            assert sender.recv(1) == b""  # it is hung up on
        with socket.create_connection(("127.0.0.1", source.port), 10) as sender:
            sender.sendall(write_records(EXAMPLE))
        wait_until(lambda: events(found) == len(EXAMPLE))
    assert same(found)
    assert any("what was sent is left out: record 0 is" in str(one) for one in found)


def test_times_of_no_clock_begin_another_stream_where_a_source_goes_on() -> None:
    mixed = np.random.default_rng(0).permutation(len(EXAMPLE))
    damaged = replace(EXAMPLE, t=50 * EXAMPLE.t[mixed])
    _, news = answers_of(Scripted([damaged, 0.2, EXAMPLE], True, goes_on=True))
    told = [one.answer.prediction for one in news if isinstance(one, Told)]
    assert [prediction.label for prediction in told if prediction] == ["3"]
    assert any("another stream" in str(one) for one in news)
    with pytest.raises(EventFileError, match="run back again and again"):
        answers_of(Scripted([damaged, EXAMPLE], True))
    with pytest.raises(EventFileError, match="run back again and again"):
        answers_of(Scripted([damaged, 0.03] * 20, True, goes_on=True))


class Camera:
    """What `dv_processing.io.camera.open` gives, from the example."""

    def __init__(self, batches: int = 5) -> None:
        self._parts = np.array_split(np.arange(len(EXAMPLE)), batches)

    def getEventResolution(self) -> tuple[int, int]:  # noqa: N802
        return SENSOR

    def isRunning(self) -> bool:  # noqa: N802
        return bool(self._parts)

    def getNextEventBatch(self) -> Any:  # noqa: N802
        found = structured(self._parts.pop(0), "timestamp", "polarity")
        return SimpleNamespace(numpy=lambda: found)


def structured(numbers: Any, time_name: str, polarity: str) -> np.ndarray[Any, Any]:
    found = np.zeros(len(numbers), [(time_name, "<i8"), ("x", "<i2"), ("y", "<i2"), (polarity, "?")])
    for name, column in zip((time_name, "x", "y", polarity), "txyp", strict=True):
        found[name] = getattr(EXAMPLE, column)[numbers]
    return found


def packages() -> dict[str, Any]:
    """Stand-ins that have the functions that the makers' packages document."""
    everything, halves = np.arange(len(EXAMPLE)), np.array_split(np.arange(len(EXAMPLE)), 2)

    class EventsIterator:
        def __init__(self, input_path: str, delta_t: int) -> None:
            assert (input_path, delta_t) == ("", 2000)

        def get_size(self) -> tuple[int, int]:
            return SENSOR[::-1]

        def __iter__(self) -> Iterator[Any]:
            return iter([structured(halves[0], "t", "p"), structured([], "t", "p"), structured(halves[1], "t", "p")])

    class Device:
        def properties(self) -> Any:
            return SimpleNamespace(width=34, height=34)

        def __iter__(self) -> Iterator[Any]:
            yield None, SimpleNamespace(polarity_events=structured(everything, "t", "on"))
            yield None, SimpleNamespace(polarity_events=None)

    class Inivation:
        def resolution(self) -> tuple[int, int]:
            return SENSOR

        def __iter__(self) -> Iterator[Any]:
            return iter([structured(everything, "t", "on")])

    return {
        "dv": SimpleNamespace(io=SimpleNamespace(camera=SimpleNamespace(open=lambda *_: Camera()))),
        "metavision": SimpleNamespace(EventsIterator=EventsIterator),
        "neuromorphic": SimpleNamespace(open=lambda serial: Device()),
        "inivation": SimpleNamespace(InivationCamera=Inivation),
    }


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """All packages of cameras, stand-ins."""
    found = {cameras.CAMERAS[kind][0]: package for kind, package in packages().items()}
    monkeypatch.setattr(cameras.importlib, "import_module", lambda name: found[name])
    monkeypatch.setattr(cameras, "AGAIN_SECONDS", 0.01)


@pytest.mark.parametrize("kind", cameras.CAMERAS)
def test_a_camera_gives_its_events_and_is_opened_again(installed: None, kind: str) -> None:
    source = CameraSource(kind, OPTIONS)
    with taken(source) as found:
        wait_until(lambda: events(found) >= 2 * len(EXAMPLE))
    notes = [one for one in found if isinstance(one, str)]
    assert notes[:2] == [f"camera:{kind}: 34 x 34 pixels", f"camera:{kind}: went away; it is looked for every second"]
    count = next(number for number in range(len(found)) if events(found[:number]) == len(EXAMPLE))
    assert same(found[:count])


def test_a_camera_that_was_never_there_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise IndexError("no device")

    package = SimpleNamespace(io=SimpleNamespace(camera=SimpleNamespace(open=refuse)))
    monkeypatch.setattr(cameras.importlib, "import_module", lambda _: package)
    with pytest.raises(ConfigError, match=r"camera:dv: no camera was found \(no device\)"):
        list(CameraSource("dv", OPTIONS).chunks())


def test_packages_that_are_missing_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> ModuleType:
        raise ImportError(name)

    monkeypatch.setattr(cameras.importlib, "import_module", missing)
    with pytest.raises(MissingPackageError, match="camera:dv needs the package dv_processing: pip install dv-proc"):
        CameraSource("dv", OPTIONS)
    with pytest.raises(ConfigError, match="camera:x: no such kind of camera; there are dv, metavision"):
        CameraSource("x", OPTIONS)


def test_a_recording_that_dv_processing_plays_is_a_camera(tmp_path: Path) -> None:
    dv = pytest.importorskip("dv_processing")
    wide = replace(EXAMPLE, width=346, height=260)
    writer_for(tmp_path / "a.aedat4", None)(tmp_path / "a.aedat4", wide)
    size, batches = dv_batches(dv.io.MonoCameraRecording(str(tmp_path / "a.aedat4")))
    assert size == (346, 260)
    parts = [columns for columns in batches if columns is not None]
    for name in "txyp":
        whole = np.concatenate([getattr(columns, name) for columns in parts])
        np.testing.assert_array_equal(whole, getattr(EXAMPLE, name))
