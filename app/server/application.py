"""The classifier over HTTP: a form with an event file in, the answer of `neuromoco predict --json` out.

Files are read in `sandbox.Sandbox`, whose workers end when one of them hangs, crashes or eats memory.
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
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect

from neuromoco import __version__, models
from neuromoco.app.server import docs
from neuromoco.app.server.upload import Limits, RefusedError, Upload, drain, received
from neuromoco.app.worker.analysis import Analysis, Model
from neuromoco.app.worker.analysis import Request as Question
from neuromoco.app.worker.sandbox import GivenUpError, Sandbox
from neuromoco.errors import ConfigError, EventFileError, MissingPackageError, NeuromocoError
from neuromoco.runtime.facts import facts_of

DAY_MS = 86_400_000.0
MOST_WINDOWS = 1_000_000


class Fields(BaseModel):
    """What may be sent beside the file."""

    model: str | None = Field(None, max_length=200, description="A name from /models; by default the first.")
    backend: Literal["onnx", "loihi-sim", "torch"] | None = Field(
        None, description="What computes; by default the first that the model has."
    )
    window_ms: float | None = Field(
        None, ge=0.001, le=DAY_MS, allow_inf_nan=False, description="Length of a window; by default the whole file."
    )
    window: int = Field(0, ge=0, le=MOST_WINDOWS, description="Which window, from 0.")


def build_app(
    known: Sequence[Model], limits: Limits | None = None, workers: int = 2, hosts: Sequence[str] = ("*",)
) -> FastAPI:
    """The application.

    Args:
        known: the models that visitors may choose from; the first is the default.
        limits: of what is sent.
        workers: processes that read and classify.
        hosts: names that the server answers to: another name is a page elsewhere that pretends to be it.
    """
    service = Service(known, limits or Limits(), workers)
    app = FastAPI(
        title="neuromoco",
        version=__version__,
        description="Classifies recordings of event cameras with a spiking network.",
        lifespan=lambda _: service.running(),
        docs_url=None,  # FastAPI's page loads scripts from elsewhere
        redoc_url=None,
    )
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(hosts), www_redirect=False)
    app.add_exception_handler(HTTPException, lambda _, error: _error(error.status_code, str(error.detail)))
    app.add_exception_handler(Exception, lambda _, error: _error(500, f"something went wrong ({type(error).__name__})"))
    app.post("/classify", **docs.classify(Fields))(service.classify)
    app.get("/models", **docs.MODELS)(service.models)
    app.get("/healthz", **docs.HEALTH)(service.health)
    app.get("/metrics", **docs.METRICS)(service.show_metrics)
    app.get("/docs", include_in_schema=False)(lambda: HTMLResponse(docs.page(app.openapi())))
    return app


class Service:
    """What stands behind the addresses."""

    def __init__(self, known: Sequence[Model], limits: Limits, workers: int) -> None:
        self._known = {model.name: model for model in reversed(known)}  # the first of a name wins
        self._default, self._limits, self._workers = known[0], limits, workers
        self._list = [
            {
                "name": model.name,
                "backends": list(model.files),
                "classes": facts_of(next(iter(model.files.values())))["class_names"],
            }
            for model in known
            if self._known[model.name] is model
        ]
        self._inside = 0
        self._metrics = Metrics(workers)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Workers, and a folder for uploads, from begin to end."""
        first = Question(models.example_paths()[0], "example", self._default, _first_backend(self._default))
        self._folder = Path(tempfile.mkdtemp(prefix="neuromoco-serve-"))
        self._threads = ThreadPoolExecutor(self._workers)
        self._free = asyncio.Semaphore(self._workers)
        self._sandbox = Sandbox(self._workers, first, self._limits.seconds, self._limits.memory)
        try:
            yield
        finally:
            self._sandbox.close()
            self._threads.shutdown()
            shutil.rmtree(self._folder, ignore_errors=True)

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
            response, outcome = _error(400, "the sender is gone"), "disconnected"
        except BaseException:
            self._metrics.requests.labels("defect").inc()
            raise
        self._metrics.requests.labels(outcome).inc()
        self._metrics.stages.labels("total").observe(time.perf_counter() - begin)
        if getattr(request.state, "unread", True):
            if outcome != "slow":
                await drain(request)
            response.headers["connection"] = "close"
        return response

    async def models(self) -> list[dict[str, Any]]:
        """List the models that `model` may name, and what each can say."""
        return self._list

    async def health(self) -> dict[str, Any]:
        """Say that the server lives, and how busy it is."""
        return {"status": "ok", "workers": self._workers, "inside": self._inside}

    async def show_metrics(self) -> Response:
        """Give the metrics, for Prometheus."""
        return Response(generate_latest(self._metrics.registry), media_type=CONTENT_TYPE_LATEST)

    async def _answer(self, request: Request) -> dict[str, Any]:
        if self._inside >= self._workers + self._limits.waiting:
            raise RefusedError(503, "busy", "too many files are waiting; try again soon")
        self._inside += 1
        try:
            with self._metrics.stages.labels("inside").time():
                async with received(request, self._folder, self._limits) as upload:
                    question = self._question(upload)
                    return _to_json(await self._analysis(question), question)
        finally:
            self._inside -= 1

    def _question(self, upload: Upload) -> Question:
        """What an upload asks.

        Raises:
            RequestValidationError: no file, or a field that is not allowed.
            RefusedError: an unknown model, or a backend that it does not have.
        """
        if upload.file is None:
            raise RequestValidationError([{"type": "missing", "loc": ("body", "file"), "msg": "Field required"}])
        try:
            fields = Fields.model_validate({key: value for key, value in upload.fields.items() if value})
        except ValidationError as error:
            found = error.errors(include_url=False, include_context=False)
            raise RequestValidationError([{**one, "loc": ("body", *one["loc"])} for one in found]) from None
        model = self._known.get(fields.model) if fields.model else self._default
        if model is None:
            raise RefusedError(400, "bad_argument", f"no such model; there are {', '.join(self._known)}")
        window_us = None if fields.window_ms is None else max(1, round(fields.window_ms * 1e3))
        backend = fields.backend or _first_backend(model)
        self._metrics.received.inc(upload.size)
        return Question(upload.file, upload.name, model, backend, window_us, fields.window)

    async def _analysis(self, question: Question) -> Analysis:
        begin = time.perf_counter()
        async with self._free:
            self._metrics.stages.labels("wait").observe(time.perf_counter() - begin)
            with self._metrics.busy.track_inprogress():
                run = asyncio.get_running_loop().run_in_executor
                try:
                    analysis = await run(self._threads, self._sandbox.analyse, question)
                except NeuromocoError as error:
                    raise _refusal(error, question) from None
        for stage, milliseconds in analysis.milliseconds.items():
            self._metrics.stages.labels(stage).observe(milliseconds / 1e3)
        return analysis


class Metrics:
    """What is counted, apart from every other application of this process."""

    def __init__(self, workers: int) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "neuromoco_requests", "Answers of /classify, by outcome.", ["outcome"], registry=self.registry
        )
        self.stages = Histogram(
            "neuromoco_stage_seconds",
            "Seconds of /classify, by stage.",
            ["stage"],
            registry=self.registry,
            buckets=(0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30),
        )
        self.received = Counter("neuromoco_received_bytes", "Bytes of files.", registry=self.registry)
        self.busy = Gauge("neuromoco_workers_busy", "Workers at work.", registry=self.registry)
        Gauge("neuromoco_workers", "Workers.", registry=self.registry).set(workers)


def _first_backend(model: Model) -> Any:
    return next(iter(model.files))


def _refusal(error: NeuromocoError, question: Question) -> RefusedError:
    message = str(error).replace(str(question.file), question.name)
    if isinstance(error, GivenUpError):
        return RefusedError(400, "over_limit", message)
    if isinstance(error, EventFileError):
        return RefusedError(400, "bad_file", message)
    if isinstance(error, ConfigError | MissingPackageError):
        return RefusedError(400, "bad_argument", message)
    return RefusedError(500, "defect", message)


def _to_json(analysis: Analysis, question: Question) -> dict[str, Any]:
    answer = analysis.to_json()
    path = question.model.files[question.backend]  # where it lies on this machine is nobody's business
    return answer | {"command": answer["command"].replace(str(path), path.name)}


def _error(status: int, message: str) -> JSONResponse:
    return JSONResponse({"error": " ".join(message.split())}, status)
