"""The WebSocket /stream: events come in as records, answers go out as JSON.

The first message is a JSON object with some of `StreamFields`; the server answers `{"ready": ...}`. Then come binary
messages of whole records (`neuromoco.app.live.records`); each window is answered as soon as an event after it comes.
The text message `{"end": true}` ends the stream with the last answers and a summary. Events are numbers, not files:
they are checked and counted here, in threads, and never reach a reader of files.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from pydantic import Field
from starlette.responses import Response
from starlette.websockets import WebSocket, WebSocketDisconnect

from neuromoco.app.live.records import RECORD, read_records
from neuromoco.app.server.errors import RefusedError, error_body, error_response
from neuromoco.app.server.fields import ModelFields, microseconds
from neuromoco.app.server.service import Service, refusal_of
from neuromoco.app.worker.windows import Counts
from neuromoco.config import parse_settings
from neuromoco.config.recordings import Sensor
from neuromoco.errors import ConfigError, NeuromocoError
from neuromoco.runtime.load import load_classifier
from neuromoco.runtime.window_classifier import WindowAnswer, WindowClassifier
from neuromoco.support.untrusted import one_line, parse_json

if TYPE_CHECKING:
    from neuromoco.runtime.load import AnyClassifier

MOST_STREAMS = 8  # at a time; a further one is refused
LARGEST_MESSAGE = 1 << 20  # bytes
IDLE_SECONDS = 60.0  # without a message
SEND_SECONDS = 30.0  # for a reader who takes nothing
MOST_PER_SECOND = 2_000_000  # events of a stream; a faster sender waits, and nothing is lost
MOST_HELD = 500_000  # events of a window of each stream, up to 42 bytes each
THREADS = 2
SLICE_SECONDS, SLICE_ANSWERS = 0.05, 64  # of a message; then the other streams have their turn
POLICY_VIOLATION, NORMAL, DEFECT = 1008, 1000, 1011  # codes of the end, RFC 6455
GONE = (WebSocketDisconnect, asyncio.CancelledError)  # uvicorn cancels at its end, and prints what comes of it
Result = TypeVar("Result")


class StreamFields(ModelFields):
    """The first message of a stream."""

    backend: Literal["onnx", "loihi-sim"] | None = Field(None, description="What runs the model; by default onnx.")
    sensor: Sensor | None = Field(None, description="Width and height, such as 34x34; by default the training's.")


class Streams:
    """The handlers of `/stream`; computes for all of them in a few threads."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._threads = ThreadPoolExecutor(THREADS, "neuromoco-stream")
        self._loaded: dict[Path, AnyClassifier] = {}
        self._open = 0

    def close(self) -> None:
        """Ends the threads, each after the slice that it is at."""
        self._threads.shutdown(cancel_futures=True)

    async def explain(self) -> Response:
        """Take events as a WebSocket, and answer each window as JSON. Plain requests are refused."""
        message = "this address takes a WebSocket: connect to ws://HOST:PORT/stream"
        return error_response(426, "no_websocket", message, {"upgrade": "websocket", "connection": "upgrade"})

    async def answer(self, socket: WebSocket) -> None:
        """Answers one stream until it ends."""
        if self._open >= MOST_STREAMS:
            busy = error_response(503, "busy", f"{MOST_STREAMS} streams are open; try again later")
            return await socket.send_denial_response(busy)
        self._open += 1
        try:
            with self._service.metrics.streams.track_inprogress(), contextlib.suppress(*GONE):
                await socket.accept()
                await self._until_end(socket)
        finally:
            self._open -= 1

    async def _until_end(self, socket: WebSocket) -> None:
        end, told = NORMAL, None
        try:
            await _Stream(self, socket).run()
        except RefusedError as error:
            end, told = POLICY_VIOLATION, error_body(error.code, str(error))
        except NeuromocoError as error:
            refusal = refusal_of(error)
            end, told = POLICY_VIOLATION, error_body(refusal[1], str(error))
        except TimeoutError:
            end, told = POLICY_VIOLATION, error_body("slow", f"no message for {IDLE_SECONDS:.0f} s, or none was taken")
        except Exception as error:
            end, told = DEFECT, error_body("defect", f"something went wrong ({type(error).__name__})")
        with contextlib.suppress(RuntimeError, TimeoutError):  # the other side may have closed in this moment
            async with asyncio.timeout(SEND_SECONDS):
                if told is not None:
                    await socket.send_json(told)
                await socket.close(end)

    async def in_thread(self, work: Callable[..., Result], *arguments: Any) -> Result:
        """The result of a call in one of the threads."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *arguments)

    def begin(self, message: Mapping[str, Any]) -> tuple[WindowClassifier, tuple[int, int], dict[str, Any]]:
        """The classifier of a stream, its sensor, and what the sender is told, for a first message.

        Raises:
            RefusedError: a field that is not allowed.
            NeuromocoError: fields that do not fit the model.
        """
        try:
            fields = parse_settings(StreamFields, message, "the first message")
        except ConfigError as error:
            raise RefusedError(422, "bad_value", str(error)) from None
        model, backend = self._service.jobs.model(fields)
        file = model.files.get("onnx" if backend == "torch" else backend)
        if file is None:
            raise RefusedError(400, "bad_argument", f"backend: {model.name} has {', '.join(model.files)}")
        if file not in self._loaded:
            self._loaded[file] = load_classifier(file, "cpu", threads=1)
        classifier = self._loaded[file]
        seen = classifier.header.seen.sensor
        sensor = fields.sensor or (seen and (seen[1], seen[0]))
        if not sensor:
            raise RefusedError(422, "bad_value", "sensor: is missing: give width and height, such as 640x480")
        window, stride = microseconds(fields.window_ms), microseconds(fields.stride_ms)
        stream = WindowClassifier(classifier, window, stride, fields.abstain, MOST_HELD)
        ready = {
            "model": model.name,
            "backend": "onnx" if backend == "torch" else backend,
            "sensor": list(sensor),
            "window_us": stream.window_us,
            "stride_us": stream.stride_us,
            "classes": list(classifier.header.class_names),
            "record_bytes": RECORD.itemsize,
            "most_events_per_second": MOST_PER_SECOND,
            "largest_message": LARGEST_MESSAGE,
        }
        return stream, sensor, ready

    def count(self, events: int) -> None:
        """Counts events for the metrics."""
        self._service.metrics.streamed.inc(events)


class _Stream:
    """One stream."""

    def __init__(self, streams: Streams, socket: WebSocket) -> None:
        self._streams, self._socket = streams, socket
        self._events, self._counts = 0, Counts()
        self._due = 0.0  # when events that came so far would have come at the highest rate

    async def run(self) -> None:
        first = await self._message()
        if not isinstance(first, str):
            raise RefusedError(422, "bad_value", 'the first message is text, such as {"sensor": "34x34"}')
        stream, sensor, ready = await self._streams.in_thread(self._streams.begin, _object(first))
        await self._send({"ready": ready})
        while isinstance(message := await self._message(), bytes):
            begin = time.perf_counter()
            self._due = max(self._due, begin)
            before, answers, more = self._events, self._answers(stream, message, sensor), True
            while more:  # the sender may leave, or the server end, between two slices
                some, more = await self._streams.in_thread(_slice, answers)
                await self._tell(some, begin)
            self._due += (self._events - before) / MOST_PER_SECOND
            await asyncio.sleep(max(0.0, self._due - time.perf_counter()))
        if _object(message) != {"end": True}:
            raise RefusedError(422, "bad_value", 'a text message after the first is {"end": true}')
        begin = time.perf_counter()
        await self._tell(await self._streams.in_thread(stream.finish), begin)
        await self._send({"summary": {"events": self._events, "late": stream.late, **self._counts.to_json()}})

    def _answers(self, stream: WindowClassifier, message: bytes, sensor: tuple[int, int]) -> Iterator[WindowAnswer]:
        chunk = read_records(message, sensor)
        self._events += len(chunk)
        self._streams.count(len(chunk))
        yield from stream.answers(chunk)

    async def _message(self) -> str | bytes:
        async with asyncio.timeout(IDLE_SECONDS):
            message = await self._socket.receive()
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message.get("code", NORMAL))
        content: str | bytes | None = message.get("bytes")
        return str(message["text"]) if content is None else content

    async def _send(self, value: dict[str, Any]) -> None:
        async with asyncio.timeout(SEND_SECONDS):
            await self._socket.send_json(value)

    async def _tell(self, answers: Sequence[WindowAnswer], begin: float) -> None:
        latency = round(1e3 * (time.perf_counter() - begin), 3)
        for one in answers:
            self._counts.add(one.prediction)
            await self._send({**one.to_json(), "latency_ms": latency})


def _slice(answers: Iterator[WindowAnswer]) -> tuple[list[WindowAnswer], bool]:
    """As many answers as a slice has time for, and whether there may be more."""
    end, some = time.perf_counter() + SLICE_SECONDS, []
    for answer in answers:
        some.append(answer)
        if len(some) == SLICE_ANSWERS or time.perf_counter() >= end:
            return some, True
    return some, False


def _object(text: str) -> Mapping[str, Any]:
    try:
        value = parse_json(text)
    except ValueError as error:
        raise RefusedError(422, "bad_value", f"a text message is a JSON object ({one_line(error)})") from None
    if not isinstance(value, dict):
        raise RefusedError(422, "bad_value", "a text message is a JSON object")
    return value
