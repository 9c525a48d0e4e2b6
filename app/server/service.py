"""The handlers of all addresses: uploads come in, workers read and classify them, answers go out.

Files are read in `sandbox.Sandbox`, whose workers end when a file hangs, crashes or takes too much memory.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from neuromoco import models
from neuromoco.app.server.errors import RefusedError, error_body, error_response
from neuromoco.app.server.fields import Jobs
from neuromoco.app.server.lines import LinesResponse
from neuromoco.app.server.metrics import Metrics
from neuromoco.app.server.upload import Limits, Receiver, drain
from neuromoco.app.worker.analysis import AnalysisRequest, ModelFiles
from neuromoco.app.worker.reading import FIELDS, with_names
from neuromoco.app.worker.sandbox import NotAnalysedError, OverLimitError, Sandbox
from neuromoco.errors import ConfigError, EventFileError, MissingPackageError, NeuromocoError
from neuromoco.runtime.facts import facts_of

MOST_PARTS = 32  # of lines of a file that wait for a reader, of up to 32 lines each
NAMES = {name: name for name in FIELDS}  # what messages call the fields
# HTTP status and code by kind of error; the first kind that fits counts.
REFUSALS = {
    NotAnalysedError: (503, "not_analysed"),
    OverLimitError: (400, "over_limit"),
    EventFileError: (400, "bad_file"),
    ConfigError: (400, "bad_argument"),
    MissingPackageError: (400, "bad_argument"),
    NeuromocoError: (500, "defect"),
}
Result = TypeVar("Result")
Lines = list[dict[str, Any]]


class Service:
    """The handlers of all addresses.

    Args:
        known: the models that it offers; the first is the default.
        limits: of uploads.
        workers: number of processes that read and classify.
    """

    def __init__(self, known: Sequence[ModelFiles], limits: Limits, workers: int = 2) -> None:
        by_name: dict[str, ModelFiles] = {}
        for model in known:
            by_name.setdefault(model.name, model)  # the first model of a name wins
        self.models_by_name, self._default = by_name, known[0]
        self._limits, self._workers = limits, workers
        self._list: list[dict[str, Any]] = []
        for model in by_name.values():
            classes = facts_of(model.files[model.default_backend])["class_names"]
            self._list.append({"name": model.name, "backends": list(model.files), "classes": classes})
        self.jobs, self.metrics = Jobs(by_name), Metrics(workers)
        self._waiting = 0  # requests with whole files that wait for a worker or are at one
        self._warm = False
        self._pulling: set[asyncio.Task[None]] = set()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Keeps workers and a folder for uploads while the application runs."""
        first = AnalysisRequest(models.example_paths()[0], "example", self._default, self._default.default_backend)
        self._folder = Path(tempfile.mkdtemp(prefix="neuromoco-serve-"))
        self._threads = ThreadPoolExecutor(2 * self._workers)  # of a worker, one takes lines and one ends them
        self._free = asyncio.Semaphore(self._workers)
        self._receiver = Receiver(self._folder, self._limits, takes_bytes=True)
        self._sandbox = Sandbox(self._workers, first, self._limits.seconds, self._limits.memory)
        try:
            yield
        finally:
            self._sandbox.close()
            self._threads.shutdown()
            shutil.rmtree(self._folder, ignore_errors=True)

    def end(self) -> None:
        """Refuses all uploads, under way, waiting or at a worker, in a moment."""
        self._receiver.end()
        self._sandbox.close()

    async def classify(self, request: Request) -> Response:
        """Classify event files: whole, a window of them, or all windows."""
        begin = time.perf_counter()
        try:
            response, code = await self._answer(request), "ok"
        except RefusedError as error:
            response, code = error_response(error.status, error.code, str(error)), error.code
        except ClientDisconnect:
            response, code = error_response(400, "disconnected", "the sender disconnected"), "disconnected"
        except BaseException:
            self.metrics.requests.labels("defect").inc()
            raise
        self.metrics.requests.labels(code).inc()
        self.metrics.stages.labels("total").observe(time.perf_counter() - begin)
        if getattr(request.state, "unread", True):
            if code not in ("slow", "ending"):  # those were given their time
                await drain(request)
            response.headers["connection"] = "close"
        return response

    async def models(self) -> list[dict[str, Any]]:
        """List the models that the field `model` may name, with their backends and classes."""
        return self._list

    async def health(self) -> Response:
        """Report whether all workers are ready, and how busy the server is."""
        ready = self._sandbox.ready()
        self._warm = self._warm or ready == self._workers  # one that is replaced later does not stop the others
        inside = len(self._receiver) + self._waiting
        state = {"workers": self._workers, "ready": ready, "inside": inside}
        return JSONResponse({"status": "ok" if self._warm else "starting", **state}, 200 if self._warm else 503)

    async def show_metrics(self) -> Response:
        """Return the metrics in Prometheus format."""
        return Response(generate_latest(self.metrics.registry), media_type=CONTENT_TYPE_LATEST)

    async def _answer(self, request: Request) -> Response:
        self._refuse_if_busy()
        async with contextlib.AsyncExitStack() as held:
            held.enter_context(self.metrics.stages.labels("inside").time())
            body = await held.enter_async_context(self._receiver.received(request))
            jobs = self.jobs.of_body(body)
            self.metrics.received.inc(sum(file.size for file in body.files))
            self._refuse_if_busy()
            held.enter_context(self._place())
            if len(jobs) == 1 and not jobs[0].all_windows:
                return JSONResponse(await self._analysis(jobs[0]))
            lines = self._lines(jobs)
            return LinesResponse(await anext(lines), lines, held.pop_all())

    def _refuse_if_busy(self) -> None:
        if self._waiting >= self._workers + self._limits.waiting:
            raise RefusedError(503, "busy", "too many files are waiting; try again soon")

    @contextlib.contextmanager
    def _place(self) -> Iterator[None]:
        self._waiting += 1
        try:
            yield
        finally:
            self._waiting -= 1

    @contextlib.asynccontextmanager
    async def _worker(self) -> AsyncIterator[None]:
        begin = time.perf_counter()
        async with self._free:
            self.metrics.stages.labels("wait").observe(time.perf_counter() - begin)
            with self.metrics.busy.track_inprogress():
                yield

    async def _in_thread(self, work: Callable[..., Result], *arguments: Any) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *arguments)

    async def _analysis(self, job: AnalysisRequest) -> dict[str, Any]:
        async with self._worker():
            try:
                analysis = await self._in_thread(self._sandbox.analyse, job)
            except NeuromocoError as error:
                raise _refusal(job, error) from None
        for stage, milliseconds in analysis.milliseconds.items():
            self.metrics.stages.labels(stage).observe(milliseconds / 1e3)
        return _without_paths(job, analysis.to_json())

    async def _lines(self, jobs: Sequence[AnalysisRequest]) -> AsyncGenerator[Lines]:
        """The lines of several files, or of all windows. An error of one that is alone is raised if it comes first."""
        is_first = True
        for job in jobs:
            try:
                if job.all_windows:
                    async with contextlib.aclosing(self._windows(job)) as windows:
                        async for some in windows:
                            yield some
                            is_first = False
                else:
                    yield [{"file": job.name, **await self._analysis(job)}]
            except RefusedError as error:
                if is_first and len(jobs) == 1:
                    raise
                yield [{"file": job.name, **error_body(error.code, str(error))}]

    async def _windows(self, job: AnalysisRequest) -> AsyncGenerator[Lines]:
        """Lines as a worker sends them; if nobody takes them any more, the worker is freed."""
        queue: asyncio.Queue[Lines | RefusedError | None] = asyncio.Queue()
        room = asyncio.Semaphore(MOST_PARTS)
        pulling = asyncio.create_task(self._pull(job, queue, room))
        self._pulling.add(pulling)
        pulling.add_done_callback(self._pulling.discard)
        try:
            while (some := await queue.get()) is not None:
                if isinstance(some, RefusedError):
                    raise some
                room.release()
                yield [_without_paths(job, line) for line in some]
        finally:
            pulling.cancel()

    async def _pull(
        self, job: AnalysisRequest, queue: asyncio.Queue[Lines | RefusedError | None], room: asyncio.Semaphore
    ) -> None:
        end = None
        async with self._worker():
            lines = self._sandbox.lines(job)
            try:
                while (some := await self._in_thread(lines.next)) is not None:
                    async with asyncio.timeout(self._limits.seconds):
                        await room.acquire()
                    queue.put_nowait(some)
            except NeuromocoError as error:
                end = _refusal(job, error)
            except TimeoutError:
                end = RefusedError(408, "slow", "the lines were not taken; the rest is left out")
            finally:
                await self._in_thread(lines.close)
        queue.put_nowait(end)


def refusal_of(error: NeuromocoError) -> tuple[int, str]:
    """HTTP status and code of an error."""
    return next(answer for kind, answer in REFUSALS.items() if isinstance(error, kind))


def _refusal(job: AnalysisRequest, error: NeuromocoError) -> RefusedError:
    status, code = refusal_of(error)
    return RefusedError(status, code, with_names(str(error).replace(str(job.file), job.name), NAMES, "="))


def _without_paths(job: AnalysisRequest, answer: dict[str, Any]) -> dict[str, Any]:
    """An answer that does not tell where the model is on this machine."""
    told = answer.get("summary", answer)
    if told.get("command"):
        path = job.model.files[job.backend]
        told["command"] = told["command"].replace(str(path), path.name)
    return answer
