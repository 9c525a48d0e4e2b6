"""The file: page, style and scripts from `source/`, the runtime and a network, joined so that nothing else is needed.

A policy in the file tells the browser to run this script and this style alone, and to forbid every request.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).parent / "source"
ENTRY = "page.mjs"
IMPORT = re.compile(r'^import \{ ([\w, ]+) \} from "\./(\w+)\.mjs";\n', re.MULTILINE)
EXPORT = re.compile(r"^export (?=(?:async )?(?:function|class|const) (\w+))", re.MULTILINE)
POLICY = (
    "default-src 'none'; script-src 'sha256-{script}' 'wasm-unsafe-eval'; style-src 'sha256-{style}'; img-src data:; "
    "base-uri 'none'; form-action 'none'"
)


def build_page(title: str, data: Mapping[str, Any]) -> str:
    """The whole file; `data` is what `source/page.mjs` reads: the network, what its header says, bytes in base64."""
    style, script = (SOURCE / "page.css").read_text(encoding="utf-8"), bundle()
    policy = POLICY.format(script=_sha256(script), style=_sha256(style))
    parts = {
        "POLICY": policy,
        "TITLE": escape(title),
        "STYLE": style,
        "DATA": json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c"),
        "SCRIPT": script,
    }
    page = (SOURCE / "page.html").read_text(encoding="utf-8")
    return re.sub(r"@(\w+)@", lambda match: parts[match[1]], page)


def bundle() -> str:
    """All modules as one script: each a function that returns what it exports, those that it imports before it."""
    done: list[str] = []
    parts: list[str] = []

    def add(name: str) -> None:
        if name in done:
            return
        text = (SOURCE / name).read_text(encoding="utf-8")
        for _, other in IMPORT.findall(text):
            add(f"{other}.mjs")
        done.append(name)
        names = ", ".join(EXPORT.findall(text))
        body = EXPORT.sub("", IMPORT.sub(r"const { \1 } = \2_;\n", text))
        parts.append(f"const {name.removesuffix('.mjs')}_ = (() => {{\n{body}return {{ {names} }};\n}})();\n")

    add(ENTRY)
    return '"use strict";\n' + "".join(parts)


def in_base64(content: bytes) -> str:
    """Bytes as text."""
    return base64.b64encode(content).decode()


def _sha256(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
