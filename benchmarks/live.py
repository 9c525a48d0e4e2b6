"""How many events per second `neuromoco live` answers, how soon, and what it loses.

    python -m benchmarks.live [--seconds 10] [--model FILE] [--hours 1]

On one core, with the windows and strides of the command's defaults: (1) events of 16 bytes into frames and answers, as
fast as they can be fed; (2) the latency of answers of a stream in time at several rates, from the chunk of 2 ms that
ends a window and from the window's end, and what is dropped; (3) the same with an answer each millisecond; (4) SPIF
datagrams over loopback, from another process; (5) memory over an hour of events, as fast as it is answered.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from neuromoco import Recording, models
from neuromoco.app.live.answering import LiveAnswers, Told
from neuromoco.app.live.bytes_in import UdpSource
from neuromoco.app.live.records import RECORD, read_records
from neuromoco.events import ReadOptions
from neuromoco.runtime.live_segments import LiveSegments
from neuromoco.runtime.load import load_classifier
from neuromoco.runtime.timeline import TimelineRule
from neuromoco.runtime.window_classifier import WindowClassifier

SENSORS = ((34, 34), (640, 480), (1280, 720))
CHUNK_US = 2000
PAGE = os.sysconf("SC_PAGE_SIZE")


def chunks(rate: float, seconds: float, sensor: tuple[int, int]) -> list[bytes]:
    """Records of events at random places, 2 ms a chunk; those of a tenth of a second again and again."""
    rng = np.random.default_rng(0)
    count = int(rate * CHUNK_US / 1e6)
    made = []
    for number in range(round(seconds * 1e6 / CHUNK_US)):
        records = np.zeros(count, RECORD)
        records["t"] = np.sort(rng.integers(0, CHUNK_US, count)) + number * CHUNK_US
        records["x"], records["y"] = rng.integers(0, sensor[0], count), rng.integers(0, sensor[1], count)
        records["p"] = rng.integers(0, 2, count)
        made.append(records.tobytes())
    return made


def shifted(data: bytes, by: int) -> bytearray:
    """The same records, later."""
    moved = bytearray(data)
    np.frombuffer(moved, RECORD)["t"][:] += by
    return moved


class Stream:
    """A source that gives chunks, in time or as fast as they are taken."""

    name, clock_rate, goes_on = "benchmark", 0.0, False

    def __init__(self, made: list[bytes], repeats: int, sensor: tuple[int, int], in_time: bool) -> None:
        self._made, self._repeats, self._sensor, self.waits = made, repeats, sensor, not in_time
        self._closed = threading.Event()
        self.late = 0.0  # seconds by which the source itself was late, at most
        self.begin = 0.0  # when the first event happened, by `time.monotonic`

    def chunks(self) -> Iterator[Recording | str]:
        self.begin, number = time.monotonic(), 0
        for repeat in range(self._repeats):
            for data in self._made:
                moved = shifted(data, repeat * len(self._made) * CHUNK_US)
                number += 1
                if not self.waits:
                    due = self.begin + number * CHUNK_US / 1e6
                    wait = due - time.monotonic()
                    self.late = max(self.late, -wait)
                    if wait > 0:
                        time.sleep(wait)
                if self._closed.is_set():
                    return
                yield read_records(moved, self._sensor)

    def close(self) -> None:
        self._closed.set()

    def losses(self) -> dict[str, int]:
        return {}


def answering(model: Path, source: object, stride_us: int | None = None) -> LiveAnswers:
    classifier = load_classifier(model, "cpu", threads=1)
    given = {} if stride_us is None else {"stride_us": stride_us}
    rule = TimelineRule.for_recordings(classifier.header.seen, given)
    stream = WindowClassifier(classifier, rule.window_us, rule.stride_us)
    return LiveAnswers(source, stream, LiveSegments(classifier.header.class_names, rule))  # type: ignore[arg-type]


def throughput(model: Path, sensor: tuple[int, int], seconds: float) -> float:
    """Events per second of processor time, from records to answers, in one thread."""
    classifier = load_classifier(model, "cpu", threads=1)
    rule = TimelineRule.for_recordings(classifier.header.seen, {})
    stream = WindowClassifier(classifier, rule.window_us, rule.stride_us)
    made = chunks(5e6, 0.5, sensor)
    events = answers = 0
    busy = 0.0
    repeat = 0
    while busy < seconds:
        for data in made:
            moved = shifted(data, repeat * len(made) * CHUNK_US)
            begin = time.thread_time()
            chunk = read_records(moved, sensor)
            answers += len(stream.feed(chunk))
            busy += time.thread_time() - begin
            events += len(chunk)
        repeat += 1
    rate = events / busy
    print(f"{sensor[0]} x {sensor[1]}: {rate / 1e6:.1f} M events per second of one core, {answers} answers")
    return rate


def in_time(model: Path, rate: float, seconds: float, stride_us: int | None = None) -> None:
    """Latencies and losses of a stream in time, of 640 x 480 pixels."""
    sensor = (640, 480)
    repeats = max(1, round(seconds / 0.1))
    source = Stream(chunks(rate, 0.1, sensor), repeats, sensor, in_time=True)
    answers = answering(model, source, stride_us)
    before = time.process_time()
    delays = [  # from a window's end: the chunk that ends it is complete 2 to 4 ms later
        1e3 * (time.monotonic() - source.begin) - one.answer.window[1] / 1e3
        for one in answers.news()
        if isinstance(one, Told)
    ]
    totals, sent = answers.totals, repeats * len(source._made) * int(rate * CHUNK_US / 1e6)
    share = (time.process_time() - before) / totals.seconds
    often = "" if stride_us is None else f", an answer each {stride_us} us"
    lost = sent - totals.events - totals.dropped
    of_chunk = [f"{totals.latency(percent):.1f}" for percent in (50, 99, 100)]
    of_window = [f"{np.percentile(delays, percent):.1f}" for percent in (50, 99)]
    print(
        f"{rate / 1e6:g} M events a second{often}: {len(delays)} answers, {of_chunk[0]} ms (median), {of_chunk[1]} "
        f"(99 %) and {of_chunk[2]} ms (longest) after their chunk, {of_window[0]} ms and {of_window[1]} ms (99 %) "
        f"after its end; {totals.dropped:,} dropped of {sent:,}, {lost} not counted; {share:.0%} of a core; source "
        f"late by up to {1e3 * source.late:.0f} ms"
    )


def hour(model: Path, hours: float) -> None:
    """Memory over hours of events at 100,000 per second, as fast as they are answered."""
    made = chunks(1e5, 1.0, (34, 34))
    source = Stream(made, round(3600 * hours), (34, 34), in_time=False)
    answers, sizes, begin = answering(model, source), [], time.monotonic()
    for number, _ in enumerate(answers.news()):
        if number % 500 == 0:
            sizes.append(int(Path("/proc/self/statm").read_text().split()[1]) * PAGE / 2**20)
    took = time.monotonic() - begin
    tenth = max(1, len(sizes) // 10)
    first, last = np.mean(sizes[tenth : 2 * tenth]), np.mean(sizes[-tenth:])
    print(
        f"{hours:g} h of events in {took:.0f} s: {answers.totals.events:,} events, {answers.totals.windows:,} windows, "
        f"memory {first:.1f} MB after a tenth, {last:.1f} MB at the end; {answers.totals.dropped} dropped"
    )


SENDER = """
import socket, sys, time
import numpy as np
port, rate, seconds = int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3])
count = 7500
rng = np.random.default_rng(0)
words = np.empty((count, 2), "<u4")
words[:, 0] = rng.integers(0, 640, count) << 16 | rng.integers(0, 480, count) | rng.integers(0, 2, count) << 15
sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
begin, sent = time.monotonic(), 0
while sent < rate * seconds:
    words[:, 1] = ((np.arange(count) + sent) / rate * 1e6).astype(np.uint32)
    sender.sendto(words.tobytes(), ("127.0.0.1", port))
    sent += count
    wait = begin + sent / rate - time.monotonic()
    if wait > 0:
        time.sleep(wait)
print(sent)
"""


def datagrams(model: Path, rate: float, seconds: float) -> None:
    """SPIF datagrams of another process."""
    source = UdpSource("udp", "127.0.0.1", 0, "spif", ReadOptions(), (640, 480))
    answers = answering(model, source)
    words = [sys.executable, "-c", SENDER, str(source.port), str(rate), str(seconds)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as sender:
        timer = threading.Thread(target=lambda: (sender.wait(), time.sleep(1), source.close()))
        timer.start()
        told = sum(isinstance(one, Told) for one in answers.news())
        timer.join()
        assert sender.stdout is not None
        sent = int(sender.stdout.read())
    totals = answers.totals
    lost = totals.losses["datagrams_lost"] * 7500
    print(
        f"UDP, {rate / 1e6:g} M events per second: {totals.events:,} of {sent:,} answered, {lost:,} had no room in the "
        f"kernel, {totals.dropped:,} dropped; {told} answers, latency {totals.latency(50)} ms (median), "
        f"{totals.latency(99)} ms (99 %)"
    )


def main() -> None:
    """Prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each stream")
    parser.add_argument("--model", type=Path, default=models.model_path())
    parser.add_argument("--hours", type=float, default=1.0)
    words = parser.parse_args()
    print(f"load of the machine {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores; {words.model.name}")
    for sensor in SENSORS:
        throughput(words.model, sensor, words.seconds / 2)
    for rate in (1e5, 1e6, 5e6):
        in_time(words.model, rate, words.seconds)
    in_time(words.model, 5e6, words.seconds, stride_us=1000)  # on a busy machine more answers than there is time for
    datagrams(words.model, 1e6, words.seconds)
    datagrams(words.model, 5e6, words.seconds)
    hour(words.model, words.hours)
    print(f"largest memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB")


if __name__ == "__main__":
    main()
