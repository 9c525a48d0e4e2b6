"""The classifier over HTTP: accepts a form with an event file and answers as `neuromoco predict --json` does.

Files are read in `sandbox.Sandbox`, whose workers end when a file hangs, crashes or takes too much memory.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

from fastapi import FastAPI, Request
from fastapi.exception_handlers import request_validation_exception_handler
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from pydantic import BaseModel, Field, ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from neuromoco import __version__, models
from neuromoco.app.server import docs
from neuromoco.app.server.upload import Limits, Receiver, RefusedError, Upload, drain
from neuromoco.app.worker.analysis import DAY_MS, MOST_WINDOWS, Analysis, AnalysisRequest, ModelFiles
from neuromoco.app.worker.reading import FIELDS, reading_of, with_names
from neuromoco.app.worker.sandbox import NotAnalysedError, OverLimitError, Sandbox
from neuromoco.errors import ConfigError, EventFileError, MissingPackageError, NeuromocoError
from neuromoco.runtime.facts import facts_of
from neuromoco.support.untrusted import one_line

NAMES = {name: name for name in FIELDS}  # what messages call the fields


class Fields(BaseModel):
    """Form fields that may accompany the file, besides those for reading it."""

    model: str | None = Field(None, max_length=200, description="A name from /models; by default the first.")
    backend: Literal["onnx", "loihi-sim", "torch"] | None = Field(
        None, description="What runs the model; by default the model's first backend."
    )
    window_ms: float | None = Field(
        None, ge=0.001, le=DAY_MS, allow_inf_nan=False, description="Length of a window; by default the whole file."
    )
    abstain: float | None = Field(
        None, gt=0.0, lt=1.0, description="Share of wrong answers to keep by answering that the others are unsure."
    )
    window: int = Field(0, ge=0, le=MOST_WINDOWS, description="Number of the window, from 0.")
    timeline: bool = Field(False, description="Whether to say, too, what the whole file shows and when.")


def build_app(service: Service) -> FastAPI:
    """The application that offers a service; `Gate` decides who may ask it."""
    app = FastAPI(
        title="neuromoco",
        version=__version__,
        description="Classifies recordings of event cameras with a spiking network.",
        lifespan=lambda _: service.running(),
        docs_url=None,  # FastAPI's page loads scripts from elsewhere
        redoc_url=None,
    )
    app.add_exception_handler(HTTPException, lambda _, error: _error(error.status_code, str(error.detail)))
    app.add_exception_handler(Exception, lambda _, error: _error(500, f"something went wrong ({type(error).__name__})"))
    app.post("/classify", **docs.classify(Fields))(service.classify)
    app.get("/models", **docs.MODELS)(service.models)
    app.get("/healthz", **docs.HEALTH)(service.health)
    app.get("/metrics", **docs.METRICS)(service.show_metrics)
    app.get("/docs", include_in_schema=False)(lambda: HTMLResponse(docs.page(app.openapi())))
    return app


class Service:
    """The handlers of all addresses.

    Args:
        known: the models that it offers; the first is the default.
        limits: of uploads.
        workers: number of processes that read and classify.
    """

    def __init__(self, known: Sequence[ModelFiles], limits: Limits, workers: int = 2) -> None:
        self._known = {model.name: model for model in reversed(known)}  # the first model of a name wins
        self._default, self._limits, self._workers = known[0], limits, workers
        self._list: list[dict[str, Any]] = []
        for model in (model for model in known if self._known[model.name] is model):
            classes = facts_of(model.files[model.default_backend])["class_names"]
            self._list.append({"name": model.name, "backends": list(model.files), "classes": classes})
        self._waiting = 0  # whole files that wait for a worker or are at one
        self._metrics = Metrics(workers)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Keeps workers and a folder for uploads while the application runs."""
        first = AnalysisRequest(models.example_paths()[0], "example", self._default, self._default.default_backend)
        self._folder = Path(tempfile.mkdtemp(prefix="neuromoco-serve-"))
        self._threads = ThreadPoolExecutor(self._workers)
        self._free = asyncio.Semaphore(self._workers)
        self._receiver = Receiver(self._folder, self._limits)
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
        """Classify an event file, whole or one window of it."""
        begin = time.perf_counter()
        try:
            response, outcome = JSONResponse(await self._answer(request)), "ok"
        except RefusedError as error:
            response, outcome = _error(error.status, str(error)), error.outcome
            if error.status in (429, 503):
                response.headers["retry-after"] = "1"
        except RequestValidationError as error:
            response, outcome = await request_validation_exception_handler(request, error), "invalid"
        except ClientDisconnect:
            response, outcome = _error(400, "the sender disconnected"), "disconnected"
        except BaseException:
            self._metrics.requests.labels("defect").inc()
            raise
        self._metrics.requests.labels(outcome).inc()
        self._metrics.stages.labels("total").observe(time.perf_counter() - begin)
        if getattr(request.state, "unread", True):
            if outcome not in ("slow", "ending"):  # those were given their time
                await drain(request)
            response.headers["connection"] = "close"
        return response

    async def models(self) -> list[dict[str, Any]]:
        """List the models that the field `model` may name, with their backends and classes."""
        return self._list

    async def health(self) -> dict[str, Any]:
        """Report that the server is up, and how busy it is."""
        return {"status": "ok", "workers": self._workers, "inside": len(self._receiver) + self._waiting}

    async def show_metrics(self) -> Response:
        """Return the metrics in Prometheus format."""
        return Response(generate_latest(self._metrics.registry), media_type=CONTENT_TYPE_LATEST)

    async def _answer(self, request: Request) -> dict[str, Any]:
        self._refuse_if_busy()
        with self._metrics.stages.labels("inside").time():
            async with self._receiver.received(request) as upload:
                job = self._job(upload)
                self._refuse_if_busy()
                self._waiting += 1
                try:
                    answer = (await self._analysis(job)).to_json()
                finally:
                    self._waiting -= 1
        path = job.model.files[job.backend]  # visitors must not learn where files are on this machine
        return answer | {"command": answer["command"].replace(str(path), path.name)}

    def _refuse_if_busy(self) -> None:
        if self._waiting >= self._workers + self._limits.waiting:
            raise RefusedError(503, "busy", "too many files are waiting; try again soon")

    def _job(self, upload: Upload) -> AnalysisRequest:
        if upload.file is None:
            raise RequestValidationError([{"type": "missing", "loc": ("body", "file"), "msg": "Field required"}])
        known = ("file", *Fields.model_fields, *FIELDS)
        if unknown := [name for name in upload.fields if name not in known]:
            message = f"no field named {one_line(unknown[0])}; there are {', '.join(known)}"
            raise RefusedError(400, "bad_argument", message)
        try:
            fields = Fields.model_validate({key: value for key, value in upload.fields.items() if value})
            reading = reading_of(upload.fields)
        except ConfigError as error:
            raise RefusedError(400, "bad_argument", str(error)) from None
        except ValidationError as error:
            errors = error.errors(include_url=False, include_context=False)
            raise RequestValidationError([{**one, "loc": ("body", *one["loc"])} for one in errors]) from None
        model = self._known.get(fields.model) if fields.model else self._default
        if model is None:
            raise RefusedError(400, "bad_argument", f"no such model; there are {', '.join(self._known)}")
        window_us = None if fields.window_ms is None else max(1, round(fields.window_ms * 1e3))
        self._metrics.received.inc(upload.size)
        backend = fields.backend or model.default_backend
        window, timeline, abstain = fields.window, fields.timeline, fields.abstain
        return AnalysisRequest(upload.file, upload.name, model, backend, window_us, window, reading, timeline, abstain)

    async def _analysis(self, job: AnalysisRequest) -> Analysis:
        begin = time.perf_counter()
        async with self._free:
            self._metrics.stages.labels("wait").observe(time.perf_counter() - begin)
            with self._metrics.busy.track_inprogress():
                run = asyncio.get_running_loop().run_in_executor
                try:
                    analysis = await run(self._threads, self._sandbox.analyse, job)
                except NeuromocoError as error:
                    status, outcome = next(answer for kind, answer in REFUSALS.items() if isinstance(error, kind))
                    message = with_names(str(error).replace(str(job.file), job.name), NAMES, "=")
                    raise RefusedError(status, outcome, message) from None
        for stage, milliseconds in analysis.milliseconds.items():
            self._metrics.stages.labels(stage).observe(milliseconds / 1e3)
        return analysis


# HTTP status and outcome by kind of error; the first kind that fits counts.
REFUSALS = {
    NotAnalysedError: (503, "not_analysed"),
    OverLimitError: (400, "over_limit"),
    EventFileError: (400, "bad_file"),
    ConfigError: (400, "bad_argument"),
    MissingPackageError: (400, "bad_argument"),
    NeuromocoError: (500, "defect"),
}


class Metrics:
    """Counters of one application, in a registry of its own."""

    def __init__(self, workers: int) -> None:
        self.registry = CollectorRegistry()
        to: dict[str, Any] = {"namespace": "neuromoco", "registry": self.registry}
        self.requests = Counter("requests", "Answers of /classify, by outcome.", ["outcome"], **to)
        buckets = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30)
        self.stages = Histogram("stage_seconds", "Seconds of /classify, by stage.", ["stage"], buckets=buckets, **to)
        self.received = Counter("received_bytes", "Bytes of files.", **to)
        self.busy = Gauge("workers_busy", "Workers at work.", **to)
        Gauge("workers", "Workers.", **to).set(workers)


def _error(status: int, message: str) -> JSONResponse:
    return JSONResponse({"error": " ".join(message.split())}, status)
