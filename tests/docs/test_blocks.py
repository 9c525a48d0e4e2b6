"""Every Python block and every `neuromoco` line of the README and of docs/ runs, page by page, in order."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path

import pytest

from tests.docs.not_run import NOT_RUN
from tests.docs.pages import PAGES, fences, name_of
from tests.docs.sandbox import prepare, prepare_runs, run_line

LANGUAGES = {"", "python", "sh", "yaml"}
WITH_CODE = [page for page in PAGES if any(fence.language in ("python", "sh") for fence in fences(page))]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("documentation")
    prepare(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("NEUROMOCO_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        prepare_runs()
    return folder


def reason_not_run(line: str) -> str | None:
    return next((reason for start, reason in NOT_RUN.items() if line.startswith(start)), None)


@pytest.mark.parametrize("page", WITH_CODE, ids=name_of)
def test_page_runs(page: Path, prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = shutil.copytree(prepared, tmp_path / "folder", symlinks=True)
    monkeypatch.chdir(folder)
    names: dict[str, object] = {"__name__": "__main__"}
    for fence in fences(page):
        if fence.language == "python":
            # Blank lines in front, so that a traceback names the line of the page.
            exec(compile("\n" * (fence.line - 1) + fence.text, str(page), "exec"), names)
        elif fence.language == "yaml":
            Path("FILE.yaml").write_text(fence.text)
        elif fence.language == "sh":
            for line in fence.commands():
                if reason_not_run(line) is None:
                    command, *words = shlex.split(line)
                    assert command == "neuromoco", f"{name_of(page)}: neither run nor in tests/docs/not_run.py: {line}"
                    run_line(words)


def test_lines_that_are_not_run_exist() -> None:
    lines = [line for page in PAGES for fence in fences(page) if fence.language == "sh" for line in fence.commands()]
    unused = [start for start in NOT_RUN if not any(line.startswith(start) for line in lines)]
    assert unused == []


def test_every_block_names_a_language_that_is_known_here() -> None:
    for page in PAGES:
        assert {fence.language for fence in fences(page)} <= LANGUAGES, name_of(page)
