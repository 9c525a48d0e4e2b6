"""Compiled C code of this package; the kernels' own tests are in tests/snn."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from neuromoco.support.compiled import compiled_library


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
def test_two_libraries_of_a_process_are_two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEUROMOCO_CACHE", str(tmp_path / "cache"))
    for name in ("first", "second"):
        (tmp_path / f"{name}.c").write_text(f"int {name}(void) {{ return {len(name)}; }}\n")
        library = compiled_library(name, [tmp_path / f"{name}.c"], ["-shared", "-fPIC"], lambda _: None)
        assert getattr(library, name)() == len(name)
