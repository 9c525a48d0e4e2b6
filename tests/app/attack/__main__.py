"""Slow, broken-off and flooding clients at the page and the server, for minutes.

    python -m tests.app.attack [--command app] [--rounds 3] [--wait]

A good sender uploads all the while. Prints what it saw and the memory before and after; ends with 1 if a good upload
was not answered, memory grew by more than a tenth, something was printed, fetched or told, or a file is left. `--wait`
waits ten minutes for the files that nobody asked about.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import socket
import statistics
import struct
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from neuromoco import models
from tests.app.attack.requests import CALL, GOOD, JOIN, UPLOAD, form, post, requests
from tests.app.attack.wire import Place, attacked, body_of
from tests.helpers.page_server import running

KEPT_SECONDS = 600
REST_SECONDS = 60  # sessions that nobody reads are forgotten by then
HANG_UP = struct.pack("ii", 1, 0)  # closing sends a reset


class Good:
    """A sender who uploads one good file after another, and how long each took until it was answered."""

    def __init__(self, place: Place) -> None:
        self.seconds: list[float] = []
        self.failed = 0
        self._place, self._ended = place, threading.Event()
        self._thread = threading.Thread(target=self._send)
        self._thread.start()

    def _send(self) -> None:
        while not self._ended.wait(0.2):
            begin = time.monotonic()
            for _ in range(5):  # a server that is busy says when to try again
                with contextlib.suppress(OSError):
                    if self._place.is_well():
                        self.seconds.append(time.monotonic() - begin)
                        break
                time.sleep(1)
            else:
                self.failed += 1

    def end(self) -> None:
        """Stops sending."""
        self._ended.set()
        self._thread.join()


def memory(process: int) -> int:
    """Bytes that a process keeps in memory, without its workers."""
    return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _head(place: Place, length: int = 900_000) -> bytes:
    target, field = (b"/classify", b"file") if is_server(place) else (UPLOAD, b"files")
    head = (
        b"POST %s HTTP/1.1\r\nHost: %s\r\nContent-Type: multipart/form-data; boundary=b\r\nContent-Length: %d\r\n\r\n"
    )
    part = b'--b\r\nContent-Disposition: form-data; name="%s"; filename="x"\r\n\r\n' % field
    return head % (target, place.host.encode(), length) + part


def is_server(place: Place) -> bool:
    """Whether it is `serve`, not the page."""
    return "serve" in list(place.server.process.args)  # type: ignore[call-overload]


def _connections(place: Place, number: int, stack: contextlib.ExitStack) -> Iterator[socket.socket]:
    for _ in range(number):
        with contextlib.suppress(OSError):
            yield stack.enter_context(place.connect())


def idle(place: Place) -> None:
    """1,100 connections that send nothing."""
    with contextlib.ExitStack() as stack:
        list(_connections(place, 1100, stack))
        time.sleep(8)


def half_headers(place: Place) -> None:
    """300 connections whose headers do not end."""
    with contextlib.ExitStack() as stack:
        for connection in _connections(place, 300, stack):
            with contextlib.suppress(OSError):
                connection.sendall(b"GET / HTTP/1.1\r\nX: ")
        time.sleep(8)


def slow_senders(place: Place) -> None:
    """200 uploads drop by drop."""
    with contextlib.ExitStack() as stack:
        senders = list(_connections(place, 200, stack))
        for drop in [_head(place), *[b"x"] * 6]:
            for connection in senders:
                with contextlib.suppress(OSError):
                    connection.sendall(drop)
            time.sleep(1.5)


def broken_off(place: Place) -> None:
    """400 uploads of which half is sent."""
    for number in range(400):
        with contextlib.suppress(OSError), place.connect() as connection:
            connection.sendall(_head(place) + bytes(450_000))
            if number % 2:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, HANG_UP)


def deaf_readers(place: Place) -> None:
    """100 connections that ask for much and read nothing."""
    ask = b"GET %s HTTP/1.1\r\nHost: %s\r\n\r\n" % (b"/openapi.json" if is_server(place) else b"/", place.host.encode())
    with contextlib.ExitStack() as stack:
        for connection in _connections(place, 100, stack):
            connection.settimeout(0.2)
            with contextlib.suppress(OSError):
                connection.sendall(ask * 50)
        time.sleep(8)


def large_bodies(place: Place) -> None:
    """600 MiB in a field without a file name, a JSON of 200 MiB, chunks without end, uploads of the largest size."""
    text = b'--b\r\nContent-Disposition: form-data; name="files"\r\n\r\n'
    kind = b"Content-Type: multipart/form-data; boundary=b\r\n"
    for target, length, begin in (
        (UPLOAD, 600, text), (b"/classify", 600, text), (JOIN, 200, b'{"data": ["'), (CALL, 200, b"["),
        (b"/", 200, b"x"),
    ):  # fmt: skip
        head = b"POST %s HTTP/1.1\r\nHost: %s\r\n" % (target, place.host.encode())
        json_kind = b"Content-Type: application/json\r\n" if target in (JOIN, CALL) else kind
        sized = b"Content-Length: %d\r\n\r\n" % (length << 20)
        for framing in (sized, b"Transfer-Encoding: chunked\r\n\r\n"):
            block = bytes(1 << 20) if framing is sized else b"100000\r\n" + bytes(1 << 20) + b"\r\n"
            with contextlib.suppress(OSError), place.connect(3.0) as connection:
                connection.sendall(head + json_kind + framing + (begin if framing is sized else b""))
                for _ in range(length):
                    connection.sendall(block)


def unasked(place: Place) -> None:
    """300 uploads that are never asked about, and calls that name their folders."""
    field = b"file" if is_server(place) else b"files"
    target = b"/classify" if is_server(place) else UPLOAD
    sent = post(target, form(field, bytes(900_000)), b"multipart/form-data; boundary=b")
    for _ in range(300):
        _, answer = place.send(sent)
        folder = answer.rsplit(b'"', 2)[-2].split(b"/")[0].decode("latin-1")
        call = {"data": [{"path": folder}, models.DEFAULT, "onnx", 0, 0]}
        place.send(post(CALL, json.dumps(call).encode()))


def invented_sessions(place: Place) -> None:
    """3,000 sessions that each look at a bundled recording; a third reads a little of the answer."""
    config = body_of(place.send(b"GET /config HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")[1])
    functions = [one for one in config.get("dependencies", []) if len(one["inputs"]) == 4]
    number = next((one["id"] for one in functions if one["targets"][0][1] == "input"), 0)  # the server has none

    def visit(name: int) -> None:
        session = f"invented{name}"
        call = {"data": ["3.bin", models.DEFAULT, "onnx", None], "fn_index": number, "session_hash": session}
        ask = f"GET /gradio_api/queue/data?session_hash={session} HTTP/1.1\r\nHost: {place.host}\r\n\r\n"
        with contextlib.suppress(OSError):
            place.send(post(JOIN, json.dumps(call).encode()))
            if name % 3 == 0:
                with place.connect() as connection:
                    connection.sendall(ask.encode())
                    connection.recv(100)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(visit, range(3000)))


def hostile(place: Place) -> list[str]:
    """The whole list of hostile requests."""
    with ThreadPoolExecutor(4) as pool:
        answers = pool.map(lambda one: place.wrong(one.name, *place.send(one.sent, one.cut)), requests())
        return [wrong for answer in answers for wrong in answer]


STAGES: tuple[Callable[[Place], object], ...] = (
    idle, half_headers, slow_senders, broken_off, deaf_readers, large_bodies, unasked, invented_sessions, hostile,
)  # fmt: skip


def campaign(place: Place, rounds: int, wait: bool) -> list[str]:
    """Everything, several times; returns what is wrong."""
    wrong, sizes = [], []
    for _ in range(30):
        place.is_well()
    hostile(place)
    begin = memory(place.server.process.pid)
    for number in range(rounds):
        for stage in STAGES:
            since, good = time.monotonic(), Good(place)
            found = stage(place)
            good.end()
            sizes.append(memory(place.server.process.pid))
            wrong += found if isinstance(found, list) else []
            wrong += [f"{stage.__name__}: {good.failed} good uploads were not answered"] if good.failed else []
            took = f"{len(good.seconds)} good uploads, median {statistics.median(good.seconds or [0]):.2f} s, longest "
            took += f"{max(good.seconds, default=0):.2f} s"
            files, mb = len(place.server.left()), sizes[-1] / 2**20
            lasted = time.monotonic() - since
            print(f"round {number} {stage.__name__:18} {lasted:6.1f} s: {took}, {mb:.0f} MB, {files} files")
            sys.stdout.flush()
    time.sleep(REST_SECONDS)
    end = memory(place.server.process.pid)
    print(f"memory {begin / 2**20:.0f} MB before, {end / 2**20:.0f} MB after ({end / begin - 1:+.1%}), "
          f"{max(sizes) / 2**20:.0f} MB at most after a stage; said {len(place.server.said())} characters, "
          f"fetched {len(place.asked)}")  # fmt: skip
    wrong += ["the memory grew by more than a tenth"] if end > 1.1 * begin else []
    wrong += [f"said: {place.server.said()[:500]}"] if place.server.said() else []
    wrong += ["something was fetched"] if place.asked else []
    if wait:
        time.sleep(KEPT_SECONDS)
        wrong += [f"left: {file}" for file in place.server.left()]
        print(f"{len(place.server.left())} files are left after {KEPT_SECONDS} s")
    return wrong


def main() -> None:
    """Runs the campaign against each command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--command", choices=("app", "serve"), action="append")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--wait", action="store_true")
    words, wrong = parser.parse_args(), []
    for command in words.command or ("app", "serve"):
        print(f"neuromoco {command}, {len(requests())} hostile requests, a good file of {len(GOOD):,} bytes")
        with tempfile.TemporaryDirectory() as folder:
            for part in ("served", "beside"):
                Path(folder, part).mkdir()
            with running(Path(folder, "served"), command) as server, attacked(server, Path(folder, "beside")) as place:
                wrong += campaign(place, words.rounds, words.wait)
    print("\n".join(wrong) or "nothing wrong")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
