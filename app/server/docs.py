"""What `/openapi.json` and `/docs` say: every response, with an example. The page loads nothing from elsewhere."""

from __future__ import annotations

import html
import json
from typing import Any

from pydantic import BaseModel, Field


class Answer(BaseModel):
    """An answer."""

    label: str = Field(description="The most probable class.")
    probabilities: dict[str, float] = Field(description="Of every class, largest first.")
    decision_step: int = Field(description="The first step, from 1, from which on the label no longer changes.")
    logits_per_step: list[list[float]] = Field(description="Steps x classes.")
    milliseconds: dict[str, float] = Field(description="By stage.")
    backend: str = Field(description="What computed this answer.")
    window_us: tuple[int, int] = Field(description="Begin and end of what was classified, from the first event.")
    windows: int = Field(description="How many windows the file has.")
    agreement: bool | None = Field(description="Whether all backends gave one label; null if there is but one.")
    labels: dict[str, str] = Field(description="The label of each backend that answered.")
    facts: dict[str, Any] = Field(description="Of the whole file.")
    spike_rates: dict[str, float] = Field(description="Spikes a neuron and step, by layer, in fixed point.")
    command: str = Field(description="Gives the same answer.")


class Error(BaseModel):
    """Why there is no answer."""

    error: str = Field(description="One line.")


class Known(BaseModel):
    """A model."""

    name: str
    backends: list[str]
    classes: list[str]


class Health(BaseModel):
    """How the server is."""

    status: str
    workers: int
    inside: int = Field(description="Uploads that are being received, wait, or are at work.")


EXAMPLE = {
    "label": "3",
    "probabilities": {"3": 0.98, "8": 0.02},
    "decision_step": 1,
    "logits_per_step": [[-0.5, 3.4], [-0.4, 3.5]],
    "milliseconds": {"survey": 1.5, "read": 0.6, "frames": 0.9, "load onnx": 0.1, "answer onnx": 1.0},
    "backend": "onnx",
    "window_us": [0, 307200],
    "windows": 1,
    "agreement": True,
    "labels": {"onnx": "3", "loihi-sim": "3"},
    "facts": {"format": "ATIS", "events": 4364},
    "spike_rates": {"stem": 0.11},
    "command": "neuromoco predict walk.bin --any-length --backend onnx --json",
}
ERRORS = {
    400: ("The file is no recording, or is damaged; or the form is.", "photo.bin: is a PNG picture"),
    408: ("The upload took too long, or paused too long.", "the upload took too long"),
    413: ("The file is too large.", "the file is too large; up to 67,108,864 bytes are taken"),
    415: ("The body is no form.", "send the file as multipart/form-data"),
    500: ("A defect of the server.", "walk.bin: something went wrong (ValueError)"),
    503: ("Too many files are waiting; see Retry-After.", "too many files are waiting; try again soon"),
}
MODELS: dict[str, Any] = {"summary": "The models", "response_model": list[Known]}
HEALTH: dict[str, Any] = {"summary": "Whether the server lives", "response_model": Health}
METRICS: dict[str, Any] = {
    "summary": "Metrics for Prometheus",
    "response_model": None,
    "responses": {
        200: {"description": "Text of Prometheus.", "content": {"text/plain": {"schema": {"type": "string"}}}}
    },
}


def classify(fields: type[BaseModel]) -> dict[str, Any]:
    """How `/classify` is described, whose form is read as it comes and so is not seen by FastAPI."""
    schema = fields.model_json_schema()
    schema["properties"] = {
        "file": {"type": "string", "format": "binary", "description": "The recording, in any format that is read."},
        **schema["properties"],
    }
    form = {"schema": schema | {"title": "Form", "required": ["file"]}}
    return {
        "summary": "Classify an event file",
        "response_model": None,
        "openapi_extra": {"requestBody": {"required": True, "content": {"multipart/form-data": form}}},
        "responses": {
            200: {"model": Answer, "description": "The answer.", "content": _example(EXAMPLE)},
            422: {"description": "A field is missing or not allowed.", "content": _example(_INVALID)},
            **{
                status: {"model": Error, "description": text, "content": _example({"error": error})}
                for status, (text, error) in ERRORS.items()
            },
        },
    }


_INVALID = {"detail": [{"type": "missing", "loc": ["body", "file"], "msg": "Field required"}]}


def _example(value: Any) -> dict[str, Any]:
    return {"application/json": {"example": value}}


STYLE = """
:root { color-scheme: light dark }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
pre { overflow-x: auto; padding: .8rem; border-radius: 6px;
  background: color-mix(in srgb, currentColor 8%, transparent) }
td, th { text-align: left; vertical-align: top; padding: .2rem 1rem .2rem 0 }
"""


def page(schema: dict[str, Any]) -> str:
    """The page of an OpenAPI schema: plain HTML, no script."""
    parts = [f"<h1>{_safe(schema['info']['title'])}</h1><p>{_safe(schema['info']['description'])}</p>"]
    parts.append("<pre>curl -F file=@walk.aedat4 -F backend=onnx http://127.0.0.1:8000/classify</pre>")
    for path, methods in schema["paths"].items():
        for method, told in methods.items():
            parts.append(f"<h2><code>{method.upper()} {_safe(path)}</code></h2><p>{_safe(told['description'])}</p>")
            form = told.get("requestBody", {}).get("content", {}).get("multipart/form-data")
            if form:
                rows = form["schema"]["properties"].items()
                parts.append(_table("field", [(name, field["description"]) for name, field in rows]))
            answers = told["responses"].items()
            parts.append(_table("status", [(status, answer["description"]) for status, answer in answers]))
            example = told["responses"]["200"].get("content", {}).get("application/json", {}).get("example")
            if example:
                parts.append(f"<pre>{_safe(json.dumps(example, indent=2))}</pre>")
    parts.append('<p>For programs: <a href="openapi.json">openapi.json</a></p>')
    head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>neuromoco</title>'
    head += f"<style>{STYLE}</style>"
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{"".join(parts)}</body></html>'


def _table(name: str, rows: list[tuple[str, str]]) -> str:
    body = "".join(f"<tr><td><code>{_safe(key)}</code></td><td>{_safe(text)}</td></tr>" for key, text in rows)
    return f"<table><tr><th>{name}</th><th></th></tr>{body}</table>"


def _safe(text: str) -> str:
    return html.escape(str(text))
