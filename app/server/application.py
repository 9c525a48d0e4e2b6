"""The classifier over HTTP: its addresses, their descriptions, and the one shape of their errors."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, Response
from starlette.exceptions import HTTPException

from neuromoco import __version__
from neuromoco.app.server import docs
from neuromoco.app.server.errors import error_response
from neuromoco.app.server.service import Service
from neuromoco.app.server.stream import Streams

ADDRESSES = (
    "POST /classify, GET /models, GET /healthz, GET /metrics, GET /docs, GET /openapi.json, and the WebSocket /stream"
)
STATUS_CODES = {404: "not_found", 405: "method_not_allowed"}


def build_app(service: Service) -> FastAPI:
    """The application that offers a service; `Gate` decides who may ask it."""
    streams = Streams(service)

    @contextlib.asynccontextmanager
    async def running(_: FastAPI) -> AsyncIterator[None]:
        async with service.running():
            with contextlib.closing(streams):
                yield

    app = FastAPI(
        title="neuromoco",
        version=__version__,
        description="Classifies recordings of event cameras with a spiking network.",
        lifespan=running,
        docs_url=None,  # FastAPI's page loads scripts from elsewhere
        redoc_url=None,
    )
    app.add_exception_handler(HTTPException, _http_error)  # type: ignore[arg-type]
    app.add_exception_handler(
        Exception, lambda _, error: error_response(500, "defect", f"something went wrong ({type(error).__name__})")
    )
    app.post("/classify", **docs.classify(list(service.models_by_name)))(service.classify)
    app.get("/models", **docs.MODELS)(service.models)
    app.get("/healthz", **docs.HEALTH)(service.health)
    app.get("/metrics", **docs.METRICS)(service.show_metrics)
    app.get("/stream", **docs.STREAM)(streams.explain)
    app.websocket("/stream")(streams.answer)
    app.get("/docs", include_in_schema=False)(lambda: HTMLResponse(docs.page(app.openapi())))
    return app


def _http_error(request: Request, error: HTTPException) -> Response:
    """The answer where there is no address, or not with this method."""
    allowed = (error.headers or {}).get("allow") or (error.headers or {}).get("Allow")
    message = f"{request.url.path} takes {allowed}" if allowed else f"no such address; there are {ADDRESSES}"
    return error_response(error.status_code, STATUS_CODES.get(error.status_code, "bad_request"), message, error.headers)
