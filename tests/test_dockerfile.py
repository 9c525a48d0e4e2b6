"""The Dockerfile copies all that the wheel is built from, pins nothing that is gone, and runs without privileges."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from neuromoco.models import model_path
from tests.helpers.cli import run

ROOT = Path(__file__).parent.parent
LINES = re.sub(r"\\\n\s*", "", (ROOT / "Dockerfile").read_text(encoding="utf-8")).splitlines()


def words(instruction: str) -> list[list[str]]:
    return [line.split()[1:] for line in LINES if line.startswith(f"{instruction} ")]


def test_it_copies_what_the_wheel_is_built_from() -> None:
    copied = {name for *sources, _ in words("COPY") for name in sources if "$" not in name}
    assert {name for name in copied if not (ROOT / name).exists()} == set()
    table = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    folders = {"neuromoco", *table["tool"]["setuptools"]["package-dir"].values()}
    files = {"pyproject.toml", table["project"]["readme"], *table["project"]["license-files"]}
    assert folders | files <= copied


def test_its_arguments_are_of_this_package() -> None:
    arguments = dict(text.split("=") for [text] in words("ARG"))
    table = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert arguments["EXTRAS"] in table["project"]["optional-dependencies"]
    assert (ROOT / arguments["MODEL"]).samefile(model_path())
    versions = {image[0].removeprefix("python:").removesuffix("-slim") for image in words("FROM")}
    assert len(versions) == 1
    assert f"Programming Language :: Python :: {versions.pop()}" in table["project"]["classifiers"]


def test_it_runs_a_command_of_this_package_without_privileges() -> None:
    [[user]] = words("USER")
    assert user.isdigit()
    assert int(user) > 0
    entry, command = (re.findall(r'"([^"]*)"', " ".join(*words(name))) for name in ("ENTRYPOINT", "CMD"))
    assert entry == ["neuromoco"]
    shown = run(command[0], "--help").stdout
    assert all(word in shown for word in command if word.startswith("--"))
