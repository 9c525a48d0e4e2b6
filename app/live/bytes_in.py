"""Sources of bytes: the standard input, a growing file, TCP and UDP."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from neuromoco.app.live.decoders import Decoder, decoder_of, is_whole
from neuromoco.app.live.source import Sensor
from neuromoco.errors import ConfigError, EventFileError
from neuromoco.events import ReadOptions, Recording
from neuromoco.events.stream import Columns

AT_ONCE = 1 << 18  # bytes that are read at once
LOOK_SECONDS = 0.2  # how often a source that waits looks whether it is to end
POLL_SECONDS = 0.005  # how often a file is looked at for more
IDLE_SECONDS = 10.0  # without a byte, after which a sender of TCP gives way to one that waits
DATAGRAM = 1 << 16  # bytes
DATAGRAMS_AT_ONCE = 256
RECEIVE_BUFFER = 1 << 24  # bytes that are asked of the kernel for datagrams
OVERFLOWS = getattr(socket, "SO_RXQ_OVFL", 40)  # Linux: how many datagrams found no room, told with each


class ByteSource:
    """Decodes what `blocks` gives.

    Args:
        name: for messages.
        format: see `decoder_of`.
        options: what the user says.
        sensor: width and height where neither the user nor the stream says them; None is an error then.
    """

    waits = True
    clock_rate = 0.0
    goes_on = False
    _refused = False  # what is being sent
    _told = False  # that the sensor is another one

    def __init__(self, name: str, format: str | None, options: ReadOptions, sensor: tuple[int, int] | None) -> None:
        self.name = name
        self._format, self._options, self._usual = format, options, sensor
        self._sensor: Sensor | None = None
        self._closed = threading.Event()
        self._new_decoder()  # so that a mistake is known at once

    def blocks(self) -> Iterator[bytes | str | None]:
        """Bytes as they come; a note; None where those of one sender end, and others may follow."""
        raise NotImplementedError

    def chunks(self) -> Iterator[Recording | str]:
        """See `Source`."""
        decoder = self._new_decoder()
        for block in self.blocks():
            if isinstance(block, str):
                yield block
                continue
            if block is None:
                yield from self._last(decoder, others_follow=True)
                decoder = self._new_decoder()
                continue
            try:
                columns = decoder.decode(block)
            except EventFileError as error:
                if not self.goes_on:
                    raise EventFileError(f"{self.name}: {error}") from None
                yield f"{self.name}: what was sent is left out: {error}"
                self._refused, decoder = True, self._new_decoder()
                continue
            yield from self._made(columns, decoder)
        if not self._closed.is_set():
            yield from self._last(decoder, others_follow=False)
            if self._sensor is not None:
                yield from self._complaints(self._sensor.wrong(at_least=1))

    def close(self) -> None:
        """See `Source`."""
        self._closed.set()

    def losses(self) -> dict[str, int]:
        """See `Source`."""
        return {"outside_sensor": self._sensor.stray.outside if self._sensor else 0}

    def _made(self, columns: Columns, decoder: Decoder) -> Iterator[Recording | str]:
        if len(columns.t):
            self._sensor = self._sensor or self._settled(decoder)
            yield self._sensor.recording(columns)
            yield from self._complaints(self._sensor.wrong())

    def _last(self, decoder: Decoder, others_follow: bool) -> Iterator[Recording | str]:
        """What the end completes. Bytes that are left are an error where there was nothing else, and else a note."""
        columns, wrong = decoder.finish()
        yield from self._made(columns, decoder)
        if wrong and self._sensor is None and not others_follow:
            raise EventFileError(f"{self.name}: {wrong}")
        if wrong:
            yield f"{self.name}: what came last is left out: {wrong}"

    def _complaints(self, wrong: str) -> Iterator[str]:
        if wrong and not self.goes_on:
            raise EventFileError(f"{self.name}: {wrong}")
        if wrong and not self._told:
            self._told = True
            yield f"{self.name}: {wrong}"

    def _new_decoder(self) -> Decoder:
        return decoder_of(self._format, self._options, self._options.sensor or self._usual)

    def _settled(self, decoder: Decoder) -> Sensor:
        size = self._options.sensor or decoder.sensor or self._usual
        if size is None:
            raise EventFileError(f"{self.name}: does not name its sensor: give --sensor WIDTHxHEIGHT")
        return Sensor(size, self._options, self._format or "stream")


class StandardInput(ByteSource):
    """What is piped into the command."""

    def blocks(self) -> Iterator[bytes | str | None]:
        if os.isatty(0):
            raise ConfigError("-: is the terminal; pipe a camera's events into it, or give a file or an address")
        while not self._closed.is_set():
            readable, _, _ = select.select([0], [], [], LOOK_SECONDS)
            if readable:
                if not (data := os.read(0, AT_ONCE)):
                    return
                yield data


class GrowingFile(ByteSource):
    """A file that another program writes; one that is replaced or emptied is read from its beginning."""

    def __init__(self, path: Path, format: str | None, options: ReadOptions, sensor: tuple[int, int] | None) -> None:
        super().__init__(str(path), format, options, sensor)
        self._path = path
        if not path.is_file():
            raise EventFileError(f"{path}: does not exist, or is no regular file")

    def blocks(self) -> Iterator[bytes | str | None]:
        while not self._closed.is_set():
            with self._path.open("rb") as file:
                yield from self._of(file.fileno())
            if not self._closed.is_set():
                yield None
                yield f"{self._path}: was replaced; it is read from its beginning"

    def _of(self, file: int) -> Iterator[bytes]:
        place = 0
        while not self._closed.is_set():
            if data := os.read(file, AT_ONCE):
                place += len(data)
                yield data
                continue
            with contextlib.suppress(FileNotFoundError):  # it may come again
                now, own = self._path.stat(), os.fstat(file)
                if (now.st_ino, now.st_dev) != (own.st_ino, own.st_dev) or now.st_size < place:
                    return
            time.sleep(POLL_SECONDS)


class _Socket(ByteSource):
    """A socket that listens."""

    kind = socket.SOCK_STREAM
    goes_on = True

    def __init__(
        self, name: str, host: str, port: int, format: str, options: ReadOptions, sensor: tuple[int, int] | None
    ) -> None:
        super().__init__(name, format, options, sensor)
        family, *_, address = _addresses(name, host, port, self.kind)[0]
        self._listening = socket.socket(family, self.kind)
        try:
            self._listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, self.kind == socket.SOCK_STREAM)
            self._listening.bind(address)
            if self.kind == socket.SOCK_STREAM:
                self._listening.listen(1)
        except (OSError, OverflowError) as error:
            self._listening.close()
            raise _not_there(name, error) from None
        self._listening.settimeout(LOOK_SECONDS)
        self.port = int(self._listening.getsockname()[1])


def _addresses(name: str, host: str, port: int, kind: socket.SocketKind) -> list[Any]:
    try:
        return socket.getaddrinfo(host, port, type=kind)
    except (OSError, UnicodeError) as error:
        raise _not_there(name, error) from None


def _not_there(name: str, error: Exception) -> ConfigError:
    reason = getattr(error, "strerror", None) or "not an address"
    return ConfigError(f"{name}: cannot listen there ({reason}); give another address or port")


class TcpSource(_Socket):
    """One sender at a time; when it leaves, or is silent while another waits, the next is heard."""

    def blocks(self) -> Iterator[bytes | str | None]:
        with self._listening:
            while not self._closed.is_set():
                with contextlib.suppress(TimeoutError):
                    connection, (host, *_) = self._listening.accept()
                    yield f"{self.name}: {host} sends"
                    with connection:
                        yield from self._of(connection)
                    if not self._closed.is_set():
                        yield None
                        left = f"was silent for {IDLE_SECONDS:g} s" if self._silent else "left"
                        yield f"{self.name}: {host} {left}; the next sender is waited for"

    def _of(self, connection: socket.socket) -> Iterator[bytes]:
        connection.settimeout(LOOK_SECONDS)
        self._refused = self._silent = False
        heard = time.monotonic()
        while not self._closed.is_set() and not self._refused:
            try:
                if not (data := connection.recv(AT_ONCE)):
                    return
            except TimeoutError:
                if time.monotonic() - heard < IDLE_SECONDS or not select.select([self._listening], [], [], 0)[0]:
                    continue
                self._silent = True
                return
            except OSError:
                return
            yield data
            heard = time.monotonic()


class UdpSource(_Socket):
    """Datagrams of whole events, from whoever sends them; those that find no room in the kernel are counted."""

    waits = False
    clock_rate = 1.0
    kind = socket.SOCK_DGRAM
    _lost = _damaged = 0

    def losses(self) -> dict[str, int]:
        """See `Source`."""
        return {**super().losses(), "datagrams_lost": self._lost, "datagrams_damaged": self._damaged}

    def blocks(self) -> Iterator[bytes | str | None]:
        with self._listening as listening:
            for option, value in ((socket.SO_RCVBUF, RECEIVE_BUFFER), (OVERFLOWS, 1)):
                with contextlib.suppress(OSError):
                    listening.setsockopt(socket.SOL_SOCKET, option, value)
            while not self._closed.is_set():
                listening.settimeout(LOOK_SECONDS)
                try:
                    first, told, _, _ = listening.recvmsg(DATAGRAM, socket.CMSG_SPACE(4))
                except TimeoutError:
                    continue
                for _, kind, data in told:
                    if kind == OVERFLOWS:
                        self._lost = struct.unpack("I", data)[0]
                datagrams = [first]
                listening.setblocking(False)
                with contextlib.suppress(BlockingIOError):
                    while len(datagrams) < DATAGRAMS_AT_ONCE:
                        datagrams.append(listening.recv(DATAGRAM))
                whole = [one for one in datagrams if is_whole(self._format or "", one)]
                self._damaged += len(datagrams) - len(whole)
                yield b"".join(whole)
