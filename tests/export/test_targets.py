"""The table of export targets: names, options and default places, and the function that users call."""

from __future__ import annotations

from pathlib import Path
from pkgutil import resolve_name
from typing import Any, get_args

import pytest

import neuromoco
from neuromoco.errors import ConfigError
from neuromoco.export.exporter import Exporter
from neuromoco.export.targets import OPTIONS, TARGETS, default_place, list_unsupported
from neuromoco.models import model_path
from neuromoco.runtime.header import TargetName

SOURCE = model_path(suffix=".safetensors")


@pytest.mark.parametrize("name", TARGETS)
def test_every_target_names_its_writer_and_its_reader(name: str) -> None:
    for extra in TARGETS[name].extras:
        pytest.importorskip({"loihi": "h5py"}.get(extra, extra))
    assert issubclass(TARGETS[name].exporter(), Exporter)
    assert callable(resolve_name(TARGETS[name].reader))


def test_the_table_holds_every_target_that_a_header_may_name() -> None:
    assert tuple(TARGETS) == get_args(TargetName)
    assert {name for target in TARGETS.values() for name in target.options} == set(OPTIONS)


@pytest.mark.parametrize(
    ("target", "options", "name"),
    [
        ("onnx", {}, "m.onnx"),
        ("onnx", {"input": "events", "quantize": "int8"}, "m-events-int8.onnx"),
        ("onnx", {"spike_rates": True}, "m.onnx"),
        ("onnx-step", {"input": "frames"}, "m-step.onnx"),
        ("loihi", {"dialect": "extended"}, "m.loihi"),
        ("c", {}, "m-c"),
        ("html", {}, "m.html"),
        ("nir", {}, "m.nir"),
    ],
)
def test_default_places_tell_exports_of_a_checkpoint_apart(target: str, options: dict[str, Any], name: str) -> None:
    assert default_place(Path("runs/m.safetensors"), target, options) == Path("runs") / name


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"target": "tflite"}, "target 'tflite'; choose onnx, onnx-step, loihi, c, html, nir"),
        ({"levels": 2}, "levels=2; allowed are input, quantize, spike_rates, dialect, opset, portable"),
        ({"input": "images"}, "input='images'; allowed are frames, events"),
        ({"target": "nir", "spike_rates": True}, "--spike-rates with --target nir; omit it, or use --target onnx"),
    ],
)
def test_options_are_checked_before_anything_is_loaded(words: dict[str, Any], message: str) -> None:
    for function in (neuromoco.export, list_unsupported):
        with pytest.raises(ConfigError, match=message):
            function("nothing.safetensors", **words)


def test_a_user_exports_with_one_call(tmp_path: Path) -> None:
    report = neuromoco.export(SOURCE, tmp_path / "m.onnx", recordings=[])
    assert (report["target"], report["compared"]) == ("onnx", {"noise": 4, "recordings": 0})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.onnx", "m.report.json"]
