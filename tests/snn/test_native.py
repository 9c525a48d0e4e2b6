"""The compiled kernels: cached by checksum, never loaded from where others may write, otherwise compiled anew."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from neuromoco.snn import native
from neuromoco.support import compiled
from neuromoco.support.console import say_once

pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
# Loading it creates a file.
PLANTED = '#include <stdio.h>\n__attribute__((constructor)) static void run(void) { fclose(fopen("%s", "w")); }\n'


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache, and kernels that are not loaded yet."""
    monkeypatch.setenv("NEUROMOCO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(native, "FLAGS", tuple("-O0" if flag == "-O3" else flag for flag in native.FLAGS))  # soon done
    native.library.cache_clear()
    say_once.cache_clear()
    yield tmp_path / "cache"
    native.library.cache_clear()
    say_once.cache_clear()


def load() -> compiled.Compiled:
    native.library.cache_clear()
    kernels = native.library()
    assert kernels is not None
    return kernels


def cached(cache: Path) -> Path:
    (file,) = (cache / "kernels").glob("*.so")
    return file


def compilations(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    counted: list[None] = []
    compile_code = compiled.compile_code

    def count(*what: Any) -> bytes:
        counted.append(None)
        return compile_code(*what)

    monkeypatch.setattr(compiled, "compile_code", count)
    return counted


def test_kernels_are_compiled_once(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counted = compilations(monkeypatch)
    assert load().sha256 == load().sha256
    assert len(counted) == 1
    assert cached(cache).stat().st_mode & 0o022 == 0


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "older"])
def test_damaged_kernels_are_compiled_anew(cache: Path, damage: str) -> None:
    before = load().sha256
    file = cached(cache)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    whole = file.read_bytes()
    file.unlink()  # a new file: the kernels that are loaded stay as they are
    file.write_bytes({"cut": whole[:5000], "flipped": content, "empty": b"", "older": whole[:-32]}[damage])
    assert load().sha256 == before
    assert file.read_bytes() == whole


def plant(file: Path, mark: Path) -> None:
    """A library of somebody else under the name of the kernels."""
    source = mark.with_suffix(".c")
    source.write_text(PLANTED % mark)
    file.unlink()
    subprocess.run(["cc", "-shared", "-fPIC", "-o", str(file), str(source)], check=True)
    ctypes.CDLL(str(file))  # it would do harm
    assert mark.exists()
    mark.unlink()
    copy = file.with_suffix(".copy")  # another file, which is not loaded yet
    shutil.copy(file, copy)
    copy.replace(file)


@pytest.mark.parametrize("place", ["", "kernels"])
def test_planted_kernels_in_a_folder_that_others_may_write_to_never_run(
    cache: Path, tmp_path: Path, place: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = load().sha256
    plant(cached(cache), tmp_path / "mark")
    (cache / place).chmod(0o777)
    assert load().sha256 == before
    assert not (tmp_path / "mark").exists()
    said = capsys.readouterr().err
    assert "others may write to it (mode 0777)" in said
    assert "the kernels of this process are compiled in a temporary folder" in said
    load()
    assert capsys.readouterr().err == ""  # once


@pytest.mark.parametrize("how", ["planted", "link", "writable"])
def test_a_file_that_is_not_what_was_compiled_never_runs(cache: Path, tmp_path: Path, how: str) -> None:
    before = load().sha256
    file = cached(cache)
    if how == "planted":
        plant(file, tmp_path / "mark")
    elif how == "link":
        file.rename(tmp_path / "elsewhere.so")
        file.symlink_to(tmp_path / "elsewhere.so")
    else:
        file.chmod(0o666)
    assert load().sha256 == before
    assert not (tmp_path / "mark").exists()
    assert not file.is_symlink()
    assert file.stat().st_mode & 0o022 == 0


def test_a_cache_that_cannot_be_written_to_changes_no_number(
    cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = load().sha256
    shutil.rmtree(cache)
    cache.write_text("a file")
    assert load().sha256 == before
    assert "the kernels of this process are compiled in a temporary folder" in capsys.readouterr().err
