"""What is imported is declared: by the base, or by an extra that the importing room is documented to need."""

from __future__ import annotations

import ast
import functools
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from neuromoco.support.extras import PACKAGES

ROOT = Path(__file__).parent.parent
# The extras that a folder may need besides the base install; the longest prefix of a file's path decides.
NEEDED = {
    "neuromoco": ("train",),
    "neuromoco/config": (),
    "neuromoco/datasets": ("train", "datasets"),
    "neuromoco/events": ("hdf5", "mat", "ros", "text"),
    "neuromoco/hub": ("hub",),
    "neuromoco/runtime": ("train", "loihi"),  # torch for checkpoints alone
    "neuromoco/simulate": ("train",),  # for the corpus alone
    "neuromoco/train": ("train", "league"),  # lightly for the methods that it is compared with alone
    "export": ("export",),
    "app": (),
    "app/cli": ("train", "serve"),
    "app/page": ("app",),
    "app/server": ("serve",),
    "benchmarks": ("dev", "peers"),
    "tests": ("dev", "datasets"),
}
OWN = {"neuromoco", "tests", "benchmarks", "lava_parts"}
# Imported where they happen to be installed, and never asked for.
OPTIONAL = {
    ("export/to_nir", "snntorch"),  # the check of an NIR export, which reports that it was left out
    ("benchmarks", "norse"),  # of the foreign networks, those whose library is there
    ("benchmarks", "sinabs"),
    ("tests", "norse"),
    ("tests", "sinabs"),
    ("tests", "gradio_client"),  # part of gradio's interface: gradio declares which version fits
    ("tests", "dv_processing"),  # an independent reader, whose wheels lag behind Python
}
# Scripts that run in other Pythons, whose runtimes and readers do not install beside each other.
ELSEWHERE = ("benchmarks/runtimes/runners.py", "benchmarks/runtimes/nir_readers.py")
# Distributions whose module has another name, for those that are not installed here.
MODULES = {"dv_processing": "dv-processing", "event_stream": "event-stream"}


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@functools.cache
def project() -> dict[str, list[str]]:
    """The requirements of each extra, and those of the base under ""."""
    table = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return {"": table["dependencies"], **table["optional-dependencies"]}


def declared(extra: str) -> set[str]:
    """Names of the distributions that an extra installs, those of the extras that it refers to included."""
    names = set()
    for text in project()[extra]:
        name, _, extras = re.match(r"([\w.-]+)(\[([\w,\s-]*)\])?", text).groups()  # type: ignore[union-attr]
        if normal(name) == "neuromoco":
            names |= set().union(*(declared(other.strip()) for other in extras.split(",")))
        else:
            names.add(normal(name))
    return names


def imported(file: Path) -> Iterator[str]:
    """Full names of the modules of other projects that a file imports, or skips its tests without."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [str(node.module)]
        elif isinstance(node, ast.Call) and node.args and isinstance(first := node.args[0], ast.Constant):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            names = [first.value] if called in ("import_module", "importorskip") else []
        for name in names:
            if (top := name.split(".")[0]) not in sys.stdlib_module_names and top not in OWN:
                yield name


installed_distributions = functools.cache(packages_distributions)


@functools.cache
def distributions(module: str) -> set[str]:
    top, *rest = module.split(".")
    if top == "backports":  # a namespace: the distribution is named after what is in it
        return {normal(f"backports.{rest[0]}")}
    return {normal(name) for name in installed_distributions().get(top, [MODULES.get(top, top)])}


def files() -> list[Path]:
    found = [file for top in ("neuromoco", "export", "app", "models", "benchmarks", "tests") for file in
             (ROOT / top).rglob("*.py") if "lava_runner" not in file.parts]  # fmt: skip
    return sorted({file.relative_to(ROOT) for file in found} - {Path(name) for name in ELSEWHERE})


def room_of(file: Path) -> str:
    return max((room for room in NEEDED if file.is_relative_to(room)), key=len, default="")


@pytest.mark.parametrize("room", NEEDED)
def test_imports_are_declared(room: str) -> None:
    known = declared("").union(*(declared(extra) for extra in NEEDED[room]))
    missing = {
        f"{file}: {module}"
        for file in files()
        if room_of(file) == room
        for module in imported(ROOT / file)
        if not distributions(module) & known
        and not any(file.is_relative_to(place) and module.split(".")[0] == name for place, name in OPTIONAL)
    }
    assert missing == set()


def test_every_file_has_a_room() -> None:
    assert {str(file) for file in files() if not room_of(file)} <= {"models/__init__.py"}
    assert list(imported(ROOT / "models/__init__.py")) == []


def test_a_missing_extra_is_noticed_by_packages_that_it_installs() -> None:
    for extra, modules in PACKAGES.items():
        for module in modules:
            assert distributions(module) & (declared("") | declared(extra)), f"{extra}: {module}"


def test_the_base_is_small() -> None:
    assert not declared("") & {"torch", "torchvision", "scipy", "scikit-learn", "matplotlib", "gradio", "fastapi"}


def test_dev_repeats_no_extra() -> None:
    direct = {normal(re.split(r"[\[><=;]", text)[0]) for text in project()["dev"]} - {"neuromoco"}
    assert not direct & declared("all")
    assert declared("all") == set().union(*(declared(e) for e in project() if e not in ("", "all", *NOT_IN_ALL)))


NOT_IN_ALL = ("dev", "docs", "datasets", "league", "peers")  # for developers, and under the GPL


def test_each_requirement_has_one_lower_bound() -> None:
    bounds: dict[str, set[str]] = {}
    for requirements in project().values():
        for text in requirements:
            if not text.startswith("neuromoco["):
                name, bound = re.match(r"([\w.-]+)(?:\[[^]]*\])?([^;]*)", text).groups()  # type: ignore[union-attr]
                bounds.setdefault(normal(name), set()).add(bound.strip())
    assert {name: bound for name, bound in bounds.items() if len(bound) > 1} == {}
