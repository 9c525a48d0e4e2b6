"""The shape of the package: imports run one way, the base is light, the wheel is the tree."""

from __future__ import annotations

import ast
import functools
import importlib
import subprocess
import sys
import tomllib
import zipfile
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOLDERS = {"neuromoco": ROOT / "neuromoco", "neuromoco.export": ROOT / "export", "neuromoco.app": ROOT / "app"}
FOLDERS["neuromoco.models"] = ROOT / "models"
# What may not be imported where: data flows the other way.
FORBIDDEN = {
    "neuromoco": ("neuromoco.export", "neuromoco.app", "neuromoco.models"),
    "neuromoco.export": ("neuromoco.app",),
    "neuromoco.models": ("neuromoco.app", "neuromoco.export"),
}
# Within the core, each room knows only those before it.
ORDER = (
    ("installation",),
    ("errors",),
    ("config", "support", "unsupported"),
    ("confidence",),
    ("events",),
    ("frames", "simulate"),
    ("views", "fit"),
    ("datasets", "snn"),
    ("encoders", "losses"),
    ("moco", "checkpoint", "hub"),
    ("classifier",),
    ("runtime",),
    ("evaluation", "graph"),
    ("train",),
    ("recipes",),
    ("sweep",),
)
LOOSE = {"neuromoco": 12, "neuromoco.export": 3, "neuromoco.app": 3}  # modules that may stand outside a room
LIGHT = ("torch", "spikingjelly", "accelerate", "sklearn", "scipy", "matplotlib", "onnxruntime")


@functools.cache
def modules() -> dict[str, Path]:
    """Every module of the package by name; `lava_runner` holds files that are copied, for another environment."""
    found = {}
    for package, folder in FOLDERS.items():
        for file in folder.rglob("*.py"):
            if "lava_runner" in file.parts:
                continue
            parts = file.relative_to(folder).with_suffix("").parts
            name = ".".join([package, *(part for part in parts if part != "__init__")])
            found[name] = file
    return found


def imports(file: Path) -> set[str]:
    """Modules of this package that a file imports, anywhere in it; names that are no modules stand for theirs."""
    known, seen = modules(), set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            seen |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: a relative import"
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            seen |= {name if name in known else str(node.module) for name in names}
    return {name for name in seen if name.split(".")[0] == "neuromoco"}


def test_imports_between_the_folders_run_one_way() -> None:
    wrong = [
        (name, target)
        for name, file in modules().items()
        for package, forbidden in FORBIDDEN.items()
        if name.startswith(package)
        and (package != "neuromoco" or not name.startswith(tuple(FOLDERS)[1:]))
        and name != "neuromoco"  # which offers the others, and imports them when they are used
        for target in imports(file)
        if target.startswith(forbidden)
    ]
    assert wrong == []


def test_imports_within_the_core_run_one_way() -> None:
    level = {room: number for number, rooms in enumerate(ORDER) for room in rooms}
    wrong = []
    for name, file in modules().items():
        room = name.split(".")[1] if "." in name else ""
        if room in ("", "export", "app", "models", "__main__"):
            continue
        assert room in level, f"{room} has no place in ORDER"
        for target in imports(file):
            other = target.split(".")[1] if "." in target else ""
            if other in level and other != room and level[other] > level[room]:
                wrong.append((name, target))
    assert wrong == []


def test_no_modules_import_each_other_in_a_circle() -> None:
    edges = {name: imports(file) for name, file in modules().items()}
    try:
        TopologicalSorter(edges).prepare()
    except CycleError as error:
        pytest.fail(f"a circle: {' -> '.join(error.args[1])}")


@pytest.mark.parametrize(("package", "most"), LOOSE.items())
def test_modules_stand_in_rooms(package: str, most: int) -> None:
    assert len([file.name for file in FOLDERS[package].glob("*.py")]) <= most


def test_every_module_is_imported_and_says_what_it_is() -> None:
    for name in modules():
        assert importlib.import_module(name).__doc__, f"{name} has no docstring"


def test_all_names_exist() -> None:
    for name in modules():
        module = importlib.import_module(name)
        for public in getattr(module, "__all__", ()):
            assert hasattr(module, public), f"{name}.{public}"


@pytest.mark.parametrize(
    "statement", ["import neuromoco", "import neuromoco.app.cli.main", "import neuromoco.runtime.load"]
)
def test_the_base_is_light(statement: str) -> None:
    code = f"{statement}, sys; print([m for m in {LIGHT} if m in sys.modules])"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"


def test_files_are_short() -> None:
    long = {name: lines for name, f in modules().items() if (lines := len(f.read_text().splitlines())) > 320}
    assert long == {}


def test_the_wheel_equals_the_tree(tmp_path: Path) -> None:
    copy = tmp_path / "tree"
    tracked = ["pyproject.toml", "README.md", "LICENSE"]
    for name in tracked:
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).write_bytes((ROOT / name).read_bytes())
    wanted = set()
    for package, folder in FOLDERS.items():
        for file in folder.rglob("*"):
            if file.is_file() and file.suffix != ".pyc":
                target = copy / file.relative_to(ROOT)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(file.read_bytes())
                wanted.add("/".join([*package.split("."), *file.relative_to(folder).parts]))
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(copy)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert held == wanted


def test_lower_bounds_are_met_by_what_is_installed() -> None:
    from importlib.metadata import version

    from packaging.requirements import Requirement

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    for text in [*project["dependencies"], *extras["train"], *extras["dev"]]:
        requirement = Requirement(text)
        assert requirement.specifier.contains(version(requirement.name)), text
