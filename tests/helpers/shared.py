"""Expensive files that the workers of pytest-xdist make once between them."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest


def build_once(temporary: pytest.TempPathFactory, name: str, build: Callable[[Path], None]) -> Path:
    """A folder that one worker fills while the others wait for it; they must not write to it.

    Args:
        temporary: the fixture `tmp_path_factory`; the folders of all workers are in one.
        name: of the folder, different for everything that is built.
        build: fills the empty folder. If it fails, the next worker tries again.
    """
    base = temporary.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / f"shared-{name}"
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "built").exists():
            shutil.rmtree(folder / "files", ignore_errors=True)
            (folder / "files").mkdir()
            build(folder / "files")
            (folder / "built").touch()
    return folder / "files"
