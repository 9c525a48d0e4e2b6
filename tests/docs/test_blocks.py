"""Every Python block and every `neuromoco` line of the README and of docs/ runs, page by page, in order."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.not_run import NOT_RUN
from tests.docs.pages import PAGES, fences, name_of
from tests.docs.sandbox import RUNS, Sandbox

LANGUAGES = {"", "python", "sh", "yaml"}
WITH_CODE = [page for page in PAGES if any(fence.language in ("python", "sh") for fence in fences(page))]
LINES = [line for page in PAGES for fence in fences(page) if fence.language == "sh" for line in fence.commands()]


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Sandbox:
    sandbox = Sandbox(tmp_path_factory.mktemp("documentation"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(sandbox.folder)
        patch.setenv("NEUROMOCO_CACHE", str(sandbox.folder / "cache"))
        sandbox.prepare()
    return sandbox


@pytest.mark.parametrize("page", WITH_CODE, ids=name_of)
def test_page_runs(page: Path, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(sandbox.folder)
    names: dict[str, object] = {"__name__": "__main__"}
    for fence in fences(page):
        if fence.language == "python":
            # Blank lines in front, so that a traceback names the line of the page.
            exec(compile("\n" * (fence.line - 1) + fence.text, str(page), "exec"), names)
        elif fence.language == "yaml":
            Path("FILE.yaml").write_text(fence.text)
        elif fence.language == "sh":
            for line in fence.commands():
                if not line.startswith(tuple(NOT_RUN)):
                    assert line.startswith("neuromoco "), f"neither run nor in tests/docs/not_run.py: {line}"
                    sandbox.run(line)


def test_lines_that_are_not_run_are_documented() -> None:
    assert [start for start in NOT_RUN if not any(line.startswith(start) for line in LINES)] == []


def test_runs_that_are_made_first_are_documented() -> None:
    assert set(RUNS) <= set(LINES)


def test_every_block_names_a_language_that_is_known_here() -> None:
    for page in PAGES:
        assert {fence.language for fence in fences(page)} <= LANGUAGES, name_of(page)
