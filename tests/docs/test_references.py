"""What the documentation refers to exists: links, options, commands, modules, files, make targets."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest
from typer.main import get_command

from neuromoco.app.cli.main import app
from tests.docs.pages import PAGES, ROOT, anchors, inline_code, links, name_of, neuromoco_commands

PROJECT_PAGES = [*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", ROOT / "SECURITY.md"]
FOLDERS = ("neuromoco", "export", "app", "models", "tests", "docs", "benchmarks")


def options() -> dict[str, set[str]]:
    """The options of every command, and under "" those of `neuromoco` itself."""
    group = get_command(app)
    commands = {"": group, **group.commands}  # type: ignore[attr-defined]
    return {name: {word for option in command.params for word in option.opts} for name, command in commands.items()}


@pytest.mark.parametrize("page", PROJECT_PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    for target in links(page):
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{target}: no such file"
        assert not anchor or anchor in anchors(file), f"{target}: no such heading"


def test_links_on_the_site_stay_within_it() -> None:
    for page in PAGES[1:]:
        for target in links(page):
            assert (page.parent / target.partition("#")[0]).resolve().is_relative_to(ROOT / "docs"), name_of(page)


def test_documented_commands_and_their_options_exist() -> None:
    known = options()
    for page, text in neuromoco_commands():
        name, *words = text.split()
        command = "" if name.startswith("-") else name
        assert command in known, f"{page}: neuromoco {text}"
        given = {word.partition("=")[0] for word in [name, *words] if re.match(r"--?[a-z]", word)}
        assert given <= known[command] | {"--help"}, f"{page}: neuromoco {text}"


def test_options_named_in_the_text_exist() -> None:
    known = options()
    every = set().union(*known.values())
    other = ("torchrun", "npm", "--ignore-scripts", "git", "python -m", "schemathesis", "tensorboard", "pip", "--side")
    for page in PAGES:
        for code in inline_code(page):
            name = code.split()[0]
            if code.startswith(other) or name == "neuromoco":
                continue
            given = {word.partition("=")[0] for word in code.split() if re.match(r"--[a-z]", word)}
            assert given <= known.get(name, every), f"{name_of(page)}: {code}"


def test_dotted_names_are_there_to_import() -> None:
    for page in PROJECT_PAGES:
        for name in set(re.findall(r"\bneuromoco(?:\.[A-Za-z_]\w*)+", page.read_text(encoding="utf-8"))):
            assert resolves(name), f"{name_of(page)}: {name}"


def resolves(name: str) -> bool:
    """Whether a dotted name is a module, or something in one."""
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        try:
            value = importlib.import_module(".".join(parts[:end]))
        except ModuleNotFoundError:
            continue
        for part in parts[end:]:
            if not hasattr(value, part):
                return False
            value = getattr(value, part)
        return True
    return False


def test_doctests_are_in_a_section_that_the_site_renders() -> None:
    for folder in ("neuromoco", "export", "app"):
        for file in (ROOT / folder).rglob("*.py"):
            for paragraph in re.split(r"\n\s*\n", file.read_text(encoding="utf-8")):
                first = next((line for line in paragraph.splitlines() if ">>> " in line), None)
                lines = paragraph.strip().splitlines()
                assert first is None or lines[0].strip() == "Examples:", f"{file}: {first}: put it under Examples:"


def test_named_files_exist() -> None:
    for page in PROJECT_PAGES:
        for code in inline_code(page):
            if re.fullmatch(rf"({'|'.join(FOLDERS)})/[\w./-]*", code):
                assert (ROOT / code).exists(), f"{name_of(page)}: {code}"


def test_make_targets_and_benchmarks_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in PROJECT_PAGES:
        text = page.read_text(encoding="utf-8")
        for line in re.findall(r"(?:^|`)make ((?:[a-z-]+ ?)+)(?:`|  |$)", text, re.MULTILINE):
            assert set(line.split()) <= targets, f"{name_of(page)}: make {line}"
        for module in re.findall(r"python -m (benchmarks(?:\.\w+)?)", text):
            path = ROOT / module.replace(".", "/")
            assert path.is_dir() or path.with_suffix(".py").is_file(), f"{name_of(page)}: {module}"


def test_every_room_is_on_the_page_and_in_the_picture() -> None:
    page, picture = ((ROOT / "docs" / name).read_text() for name in ("rooms.md", "pictures/rooms.svg"))
    for folder in ("neuromoco", "export", "app"):
        for room in {file.parent for file in (ROOT / folder).glob("*/*.py")}:
            assert f"`{folder}/{room.name}/`" in page, f"docs/rooms.md lacks {folder}/{room.name}/"
            assert room.name == "lava_runner" or f"{room.name}/" in picture, f"the picture lacks {room.name}/"
    homes = [ROOT / folder for folder in ("", "neuromoco", "neuromoco/graph", "neuromoco/runtime", "export", "app")]
    for path in re.findall(r'class="path"[^>]*>(.+?)<', picture):
        for name in path.split():
            assert any((home / name).exists() for home in homes), f"docs/pictures/rooms.svg: {name}"
