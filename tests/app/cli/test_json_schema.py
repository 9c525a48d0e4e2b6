"""The JSON of `predict` and `evaluate` is what its schemas say, for answers and for errors."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from neuromoco import models
from tests.helpers.cli import run


def schema_of(command: str) -> Draft202012Validator:
    text = (files("neuromoco.app.cli") / f"schemas/{command}.schema.json").read_text(encoding="utf-8")
    schema = json.loads(text)
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def kinds(validator: Draft202012Validator, value: Any) -> list[str]:
    """Which of the kinds of a line a value is."""
    alone = {one["$ref"]: {**validator.schema, "anyOf": [one]} for one in validator.schema["anyOf"]}
    return [ref.split("/")[-1] for ref, schema in alone.items() if Draft202012Validator(schema).is_valid(value)]


def lines_of(*words: object) -> list[Any]:
    return [json.loads(line) for line in run("predict", "--json", *words).stdout.splitlines()]


@pytest.fixture
def gap(tmp_path: Path) -> Path:
    """A recording with half a second without events in its middle."""
    rows = [f"{t},{t % 30},{t % 20},{t % 2}" for t in (*range(0, 100_000, 500), *range(600_000, 700_000, 500))]
    (tmp_path / "gap.csv").write_text("\n".join(["t_us,x,y,p", *rows]) + "\n")
    return tmp_path / "gap.csv"


def test_lines_of_predict_are_as_stated(gap: Path) -> None:
    schema, good = schema_of("predict"), models.example_paths()[0]
    for model in (".onnx", ".loihi"):
        whole, wrong = lines_of("--model", models.model_path(suffix=model), good, "nothing.bin")
        assert kinds(schema, whole) == ["answer"]
        assert kinds(schema, wrong) == ["file_error"]
    windows = lines_of("--window", "100ms", "--sensor", "34x34", "--any-length", gap)
    assert {kind for line in windows for kind in kinds(schema, line)} == {"answer", "no_events"}
    assert all(len(kinds(schema, line)) == 1 for line in windows)
    (whole,) = lines_of("--model", "nothing.onnx", good)
    assert kinds(schema, whole) == ["command_error"]
    (usage,) = lines_of("--nothing", good)
    assert kinds(schema, usage) == ["command_error"]


def test_what_is_not_stated_is_noticed() -> None:
    schema = schema_of("predict")
    (answer,) = lines_of(models.example_paths()[0])
    assert kinds(schema, answer | {"a_key_of_later": 1}) == ["answer"]
    for key in answer:
        assert not schema.is_valid({name: value for name, value in answer.items() if name != key}), key
    for changed in ({"schema": "neuromoco/predict/2"}, {"decision_step": 0}, {"error": "x"}, {"label": None}):
        assert not schema.is_valid(answer | changed), changed


def test_figures_of_evaluate_are_as_stated(tmp_path: Path) -> None:
    schema = schema_of("evaluate")
    for path in models.example_paths()[:3]:
        (tmp_path / path.stem).mkdir()
        (tmp_path / path.stem / path.name).write_bytes(path.read_bytes())
    figures = json.loads(run("evaluate", models.model_path(), "--data", tmp_path, "--json").stdout)
    assert kinds(schema, figures) == ["figures"]
    assert not schema.is_valid({name: value for name, value in figures.items() if name != "interval_95"})
    error = json.loads(run("evaluate", "nothing", "--data", tmp_path, "--json").stdout)
    assert kinds(schema, error) == ["command_error"]
