"""Content of `/openapi.json` and `/docs`: every response, with an example. The page loads nothing from elsewhere."""

from __future__ import annotations

import json
from html import escape
from typing import Any

from pydantic import BaseModel, Field

from neuromoco.app.server.errors import CODES
from neuromoco.app.server.fields import Fields
from neuromoco.app.server.lines import MEDIA_TYPE
from neuromoco.app.worker.reading import FIELDS, LONGEST, choices


class FitResponse(BaseModel):
    """Whether a recording is of the kind that the network was trained on."""

    fits: bool = Field(description="Whether it is; otherwise the label means nothing.")
    verdict: str = Field(description="In words.")
    score: float = Field(description="Above 1 does not fit.")
    reasons: list[str] = Field(description="Why it does not fit, in words.")


class AnalysisResponse(BaseModel):
    """The prediction for a file or window, with its evidence."""

    label: str = Field(description="The most probable class.")
    probabilities: dict[str, float] = Field(description="Of every class, the largest first.")
    fit: FitResponse | None = Field(description="Null if the model's file does not say what fits.")
    confidence: float = Field(description="Probability of the label.")
    temperature: float | None = Field(description="That divided the logits; null if the model was not calibrated.")
    unsure: bool = Field(description="Whether the answer is not sure enough for the level of errors asked for.")
    possible_classes: list[str] | None = Field(description="Those that may be true; null without such a level.")
    decision_step: int = Field(description="The step, counted from 1, after which the label no longer changes.")
    logits_per_step: list[list[float]] = Field(description="Steps x classes.")
    milliseconds: dict[str, float] = Field(description="By stage.")
    backend: str = Field(description="The backend that gave this prediction.")
    window_us: tuple[int, int] = Field(description="Begin and end of the classified part, from the first event.")
    windows: int = Field(description="Number of windows in the file.")
    agreement: bool | None = Field(description="Whether all backends gave the same label; null without compare.")
    labels: dict[str, str] = Field(description="The label of each backend that answered; with compare, of all.")
    facts: dict[str, Any] = Field(description="Facts about the whole file.")
    spike_rates: dict[str, float] = Field(description="Spikes per neuron and step, by layer, where loihi-sim answered.")
    command: str = Field(description="The command that gives the same prediction.")
    timeline: dict[str, Any] | None = Field(
        None,
        description="With the field timeline: what the whole file shows when, as `neuromoco predict --timeline --json` "
        "says it; null below two windows and above 4,000 strides.",
    )


class ErrorResponse(BaseModel):
    """Why there is no prediction."""

    error: str = Field(description="The reason, in one line.")
    code: str = Field(description="A word for the reason, for programs; those of each status are listed there.")


class ModelResponse(BaseModel):
    """A model that the field `model` may name."""

    name: str
    backends: list[str]
    classes: list[str]


class HealthResponse(BaseModel):
    """State of the server."""

    status: str = Field(description="ok, or starting until every worker is ready.")
    workers: int
    ready: int = Field(description="Workers that are ready, or at work.")
    inside: int = Field(description="Uploads being received, waiting, or being classified.")


EXAMPLE = {
    "label": "3",
    "probabilities": {"3": 0.98, "8": 0.02},
    "fit": {"fits": True, "verdict": "fits", "score": 0.74, "reasons": []},
    "confidence": 0.98,
    "temperature": 0.476,
    "unsure": False,
    "possible_classes": ["3"],
    "decision_step": 1,
    "logits_per_step": [[-0.5, 3.4], [-0.4, 3.5]],
    "milliseconds": {"survey": 1.5, "read": 0.6, "load onnx": 0.1, "answer onnx": 1.0},
    "backend": "onnx",
    "window_us": [0, 307200],
    "windows": 1,
    "agreement": True,
    "labels": {"onnx": "3", "loihi-sim": "3"},
    "facts": {"format": "ATIS", "events": 4364},
    "spike_rates": {"stem": 0.11},
    "command": "neuromoco predict walk.bin --any-length --backend onnx --json",
    "timeline": {
        "first_us": 0,
        "duration_us": 900_000,
        "segments": [{"begin_us": 0, "end_us": 306_000, "label": "3", "confidence": 0.98}],
    },
}
LINES = (
    '{"schema": "neuromoco/predict/1", "file": "walk.bin", "window_us": [0, 100000], "label": "3"}\n'
    '{"schema": "neuromoco/predict/1", "file": "walk.bin", "summary": {"windows": 1, "labels": {"3": 1}}}\n'
)
ERRORS = {
    400: ("bad_file", "photo.bin: is a PNG picture"),
    401: ("no_token", "give the token: once as ?token=..., or as Authorization: Bearer ..."),
    403: ("foreign_page", "requests of pages elsewhere are refused"),
    404: ("not_found", "no such address; there are POST /classify, GET /models"),
    405: ("method_not_allowed", "/classify takes POST"),
    408: ("slow", "the upload took too long"),
    413: ("too_large", "the file is too large; at most 67,108,864 bytes are accepted"),
    414: ("long_query", "the query is longer than 1024 bytes"),
    415: ("media_type", "send files as multipart/form-data, or the bytes of one as application/octet-stream"),
    422: ("bad_value", "backend: should be 'onnx', 'loihi-sim' or 'torch', given 'cuda'"),
    426: ("no_websocket", "this address takes a WebSocket: connect to ws://HOST:PORT/stream"),
    500: ("defect", "walk.bin: something went wrong (ValueError)"),
    503: ("busy", "too many files are waiting; try again soon"),
}
UPLOAD_ERRORS = (400, 401, 403, 408, 413, 414, 415, 422, 500, 503)
FORMS = {"sensor": " Width and height, such as 640x480.", "crop": " Left, top, width and height, such as 40,50,30,24."}


def _example(value: Any) -> dict[str, Any]:
    return {"application/json": {"example": value}}


def _errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The descriptions of refusals."""
    found: dict[int | str, dict[str, Any]] = {}
    for status in statuses:
        text = " ".join(f"`{code}`: {meaning}" for code, meaning in CODES[status].items())
        code, error = ERRORS[status]
        found[status] = {
            "model": ErrorResponse,
            "description": text,
            "content": _example({"error": error, "code": code}),
        }
    return found


MODELS: dict[str, Any] = {
    "summary": "The models",
    "response_model": list[ModelResponse],
    "responses": _errors(401, 403),
}
HEALTH: dict[str, Any] = {
    "summary": "Whether the server is ready",
    "response_model": None,
    "responses": {
        200: {"model": HealthResponse, "description": "All workers are ready."},
        503: {"model": HealthResponse, "description": "Not yet: its status is starting."},
    },
}
METRICS: dict[str, Any] = {
    "summary": "Metrics for Prometheus",
    "response_model": None,
    "responses": {
        200: {"description": "Prometheus text format.", "content": {"text/plain": {"schema": {"type": "string"}}}}
    },
}
STREAM: dict[str, Any] = {
    "summary": "A WebSocket that takes events and answers each window",
    "status_code": 426,
    "response_model": None,
    "responses": _errors(401, 403, 426),
}


def classify(models: list[str]) -> dict[str, Any]:
    """The description of `/classify`, whose body is parsed as it arrives, without FastAPI."""
    fields = {name: _field(schema) for name, schema in Fields.model_json_schema()["properties"].items()}
    fields["model"] |= {"enum": models, "default": models[0]}
    fields |= {name: _reading_field(name) for name in FIELDS}
    file = {"type": "string", "format": "binary", "description": "Recordings, in any supported format, one or several."}
    form = {"title": "Form", "type": "object", "required": ["file"], "properties": {"file": file, **fields}}
    name = {"type": "string", "description": "Of bytes that come without a form: what the file is called."}
    queries = [
        {"name": key, "in": "query", "required": False, "schema": schema, "description": schema["description"]}
        for key, schema in {"name": name, **fields}.items()
    ]
    content = {
        "multipart/form-data": {"schema": form},
        "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
    }
    return {
        "summary": "Classify event files",
        "response_model": None,
        "openapi_extra": {"requestBody": {"required": True, "content": content}, "parameters": queries},
        "responses": {
            200: {
                "model": AnalysisResponse,
                "description": "The prediction; with several files or windows, lines of JSON as they come, the last of "
                "a file's windows a summary. A file that fails is a line with error and code.",
                "content": {**_example(EXAMPLE), MEDIA_TYPE: {"example": LINES, "schema": {"type": "string"}}},
            },
            **_errors(*UPLOAD_ERRORS),
        },
    }


def _field(schema: dict[str, Any]) -> dict[str, Any]:
    """A field of a form, which is left out where the schema says null."""
    kind: dict[str, Any] = next((one for one in schema.get("anyOf", ()) if one.get("type") != "null"), {})
    default = {} if schema.get("default") is None else {"default": schema["default"]}
    own = {key: value for key, value in schema.items() if key not in ("anyOf", "default", "title")}
    return {**own, **kind, **default}


def _reading_field(name: str) -> dict[str, Any]:
    allowed = {"enum": list(choices(name))} if choices(name) else {"maxLength": LONGEST}
    return {"type": "string", **allowed, "description": f"{FIELDS[name]}{FORMS.get(name, '')}"}


STYLE = """
:root { color-scheme: light dark }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
pre { overflow-x: auto; padding: .8rem; border-radius: 6px;
  background: color-mix(in srgb, currentColor 8%, transparent) }
td, th { text-align: left; vertical-align: top; padding: .2rem 1rem .2rem 0 }
"""


def page(schema: dict[str, Any]) -> str:
    """An OpenAPI schema as plain HTML without scripts."""
    parts = [f"<h1>{escape(schema['info']['title'])}</h1><p>{escape(schema['info']['description'])}</p>"]
    parts.append("<pre>curl -F file=@walk.csv -F columns=txyp -F time_unit=us http://127.0.0.1:8000/classify\n")
    parts.append("curl -F file=@walk.bin -F windows=true -F window_ms=100 http://127.0.0.1:8000/classify</pre>")
    for path, methods in schema["paths"].items():
        for method, call in methods.items():
            parts.append(f"<h2><code>{method.upper()} {escape(path)}</code></h2><p>{escape(call['description'])}</p>")
            if form := call.get("requestBody", {}).get("content", {}).get("multipart/form-data"):
                parts.append(_table("field", form["schema"]["properties"]))
            parts.append(_table("status", call["responses"]))
            if (
                example := call["responses"]
                .get("200", {})
                .get("content", {})
                .get("application/json", {})
                .get("example")
            ):
                parts.append(f"<pre>{escape(json.dumps(example, indent=2))}</pre>")
    parts.append('<p>For programs: <a href="openapi.json">openapi.json</a></p>')
    head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>neuromoco</title>'
    head += f"<style>{STYLE}</style>"
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{"".join(parts)}</body></html>'


def _table(name: str, items: dict[str, dict[str, Any]]) -> str:
    body = "".join(
        f"<tr><td><code>{escape(key)}</code></td><td>{escape(item['description'] + _values(item))}</td></tr>"
        for key, item in items.items()
    )
    return f"<table><tr><th>{name}</th><th></th></tr>{body}</table>"


def _values(item: dict[str, Any]) -> str:
    """The words that a field takes, and the one that it has if it is left out."""
    allowed = f" One of {', '.join(item['enum'])}." if "enum" in item else ""
    return allowed + (f" By default {json.dumps(item['default'])}." if "default" in item else "")
