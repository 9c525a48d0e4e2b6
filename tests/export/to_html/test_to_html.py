"""The HTML file: what is in it, that it asks for nothing else, that its WebAssembly belongs to its sources."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path
from typing import Any

import pytest

import neuromoco
from neuromoco import models
from neuromoco.checkpoint import read_header
from neuromoco.config import FrameConfig
from neuromoco.errors import ConfigError, UnsupportedLayerError
from neuromoco.export.targets import summary
from neuromoco.export.to_html import export as html_export
from neuromoco.export.to_html.export import fitting_examples
from neuromoco.export.to_html.page import EXPORT, IMPORT, SOURCE, build_page, bundle
from neuromoco.export.to_html.wasm import build

CHECKPOINT = models.model_path(suffix=".safetensors")
LARGEST = 1_500_000  # bytes of the file of the shipped model
NAMESPACES = {"http://www.w3.org/2000/svg"}  # names, which nothing is fetched from


def parts_of(page: str) -> tuple[str, str, str, str]:
    """Policy, style, data and script of a page."""
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]+)"', page)
    inner = [re.search(rf"<{tag}>(.*?)</{end}>", page, re.DOTALL) for tag, end in (
        ("style", "style"), ('script type="application/json" id="data"', "script"), ("script", "script"))]  # fmt: skip
    assert policy is not None
    style, data, script = (one[1] for one in inner if one is not None)
    return unescape(policy[1]), style, data, script


def sha256(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def test_one_file_that_asks_for_nothing_else(exported: Path) -> None:
    page = exported.read_text(encoding="utf-8")
    assert exported.stat().st_size <= LARGEST
    policy, style, _, script = parts_of(page)
    assert policy == (
        f"default-src 'none'; script-src 'sha256-{sha256(script)}' 'wasm-unsafe-eval'; "
        f"style-src 'sha256-{sha256(style)}'; img-src data:; base-uri 'none'; form-action 'none'"
    )
    assert set(re.findall(r"https?://[^\s\"'`)]+", page)) <= NAMESPACES
    assert not re.search(
        r"\b(fetch|XMLHttpRequest|WebSocket|EventSource|sendBeacon|importScripts)\b|\bimport\(", script
    )
    assert not re.search(r"<(?:link|img|iframe|script|source)[^>]+(?:src|href)=\"(?!data:)", page)


def test_the_report_says_what_was_compared(exported: Path) -> None:
    report = json.loads(exported.with_name("digits.html.report.json").read_text())
    assert (report["target"], report["agreement"], report["steps"]) == ("html", 1.0, 4)
    assert report["bytes"]["file"] == exported.stat().st_size
    assert report["examples"] == [path.name for path in models.example_paths()]
    said = summary(exported, report)
    assert f"{report['bytes']['file']:,} bytes" in said
    assert "open it in a browser" in said


def test_texts_of_a_checkpoint_stay_texts() -> None:
    name = '</script><script>alert("1")</script> <b>&amp;@TITLE@ \u2028'
    page = build_page(name, {"class_names": [name]})
    assert page.count("<script") == 2
    assert "<b>" not in page
    assert unescape(page.split("<title>")[1].split("</title>")[0]) == name
    assert json.loads(parts_of(page)[2]) == {"class_names": [name]}


def test_every_module_is_in_the_script_before_those_that_use_it() -> None:
    script = bundle()
    order = re.findall(r"^const (\w+)_ = \(\(\) => \{$", script, re.MULTILINE)
    assert sorted(order) == sorted(path.stem for path in SOURCE.glob("*.mjs"))
    for number, name in enumerate(order):
        used = re.findall(r'from "\./(\w+)\.mjs"', (SOURCE / f"{name}.mjs").read_text())
        assert set(used) <= set(order[:number])
    assert not re.search(r"^(import|export) ", script, re.MULTILINE)


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
def test_the_script_is_javascript_and_its_imports_exist(tmp_path: Path) -> None:
    (tmp_path / "page.cjs").write_text(bundle())
    subprocess.run(["node", "--check", tmp_path / "page.cjs"], check=True)
    for path in SOURCE.glob("*.mjs"):
        for names, other in IMPORT.findall(path.read_text()):
            exports = EXPORT.findall((SOURCE / f"{other}.mjs").read_text())
            assert set(names.split(", ")) <= set(exports), f"{path.name} from {other}"


def test_the_webassembly_was_made_of_these_sources() -> None:
    made_of, _ = build.made_of(build.WASM.read_bytes())
    assert made_of == build.fingerprint(), "spiking.c has changed: make wasm"


def test_compiling_again_gives_the_same_bytes() -> None:
    content = build.WASM.read_bytes()
    try:
        installed = build.compiler_version()
    except OSError:
        pytest.skip("clang is not installed")
    if installed != build.made_of(content)[1]:
        pytest.skip(f"{installed} is installed, another version made the file")
    if shutil.which("wasm-ld") is None:
        pytest.skip("lld is not installed")
    assert build.compile_wasm() == content


def test_the_fingerprint_follows_every_source(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    before = build.fingerprint()
    for number in range(len(build.SOURCES)):
        changed = [tmp_path / source.name if i == number else source for i, source in enumerate(build.SOURCES)]
        changed[number].write_bytes(build.SOURCES[number].read_bytes() + b"\n")
        with monkeypatch.context() as context:
            context.setattr(build, "SOURCES", tuple(changed))
            assert build.fingerprint() != before


def test_examples_are_those_that_the_network_was_trained_for() -> None:
    header = read_header(CHECKPOINT)
    assert fitting_examples(header) == models.example_paths()
    assert fitting_examples(header.model_copy(update={"fit": None})) == []
    assert fitting_examples(header.model_copy(update={"frames": FrameConfig(crop=(40, 0, 10, 10))})) == []
    assert fitting_examples(header.model_copy(update={"frames": FrameConfig(crop=(0, 0, 12, 12))})) == []


def test_what_does_not_map_is_refused_as_for_loihi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = neuromoco.unsupported.Unsupported("stem.2", "Conv", "sums beyond 31 bits; use a narrower layer")
    monkeypatch.setattr(html_export, "list_uncompiled", lambda _: [first])
    with pytest.raises(UnsupportedLayerError, match=r"stem\.2: Conv: sums beyond 31 bits"):
        neuromoco.export(CHECKPOINT, tmp_path / "m.html", target="html")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("options", [{"dialect": "stock"}, {"quantize": "int8"}])
def test_options_of_other_targets_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="with --target html; omit it, or use --target"):
        neuromoco.export(CHECKPOINT, "m.html", target="html", **options)


def test_a_folder_is_not_replaced(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"is a folder; --out names a new \.html file"):
        neuromoco.export(CHECKPOINT, tmp_path, target="html")
