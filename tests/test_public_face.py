"""What `import neuromoco` offers: every name, without torch, with documentation whose examples run."""

from __future__ import annotations

import doctest
import inspect
import pydoc
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import FunctionType
from typing import Any

import pytest

import neuromoco

ROOT = Path(__file__).parent.parent
NAMES = [name for name in neuromoco.__all__ if name != "__version__"]
WITHOUT_TORCH = ["Prediction", "Recording", "StreamClassifier", "load_classifier", "load_recipe", "read_recording"]


def definition(name: str) -> Any:
    """The class or function; `train` and `export` are packages that can be called."""
    homes = {"train": "neuromoco.train.stages", "export": "neuromoco.export.targets"}
    return getattr(import_module(homes.get(name, "neuromoco")), name)


def described(name: str) -> Iterator[tuple[str, Any]]:
    """A public name and, of a class, its public methods."""
    value = definition(name)
    yield name, value
    if inspect.isclass(value) and not issubclass(value, Exception):
        for method, function in vars(value).items():
            function = getattr(function, "__func__", function)
            if isinstance(function, FunctionType) and not method.startswith("_"):
                yield f"{name}.{method}", function


def outcome(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT).stdout


def test_names_are_listed_and_resolve() -> None:
    assert set(dir(neuromoco)) == set(neuromoco.__all__)
    assert sorted(neuromoco.__all__) == neuromoco.__all__
    assert all(callable(getattr(neuromoco, name)) for name in NAMES)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        neuromoco.nothing  # noqa: B018


def test_classifying_with_an_export_loads_no_torch() -> None:
    code = f"""
import sys, neuromoco
assert not {{"torch", "numpy", "onnxruntime"}} & sys.modules.keys()
for name in {WITHOUT_TORCH}: getattr(neuromoco, name)
answer = neuromoco.load_classifier("models/sew_resnet_tiny-digits.onnx").predict(
    [neuromoco.read_recording("models/examples/3.bin")])[0]
print(answer.label, "torch" in sys.modules)
"""
    assert outcome(code).split() == ["3", "False"]


@pytest.mark.parametrize("name", ["train", "export", "list_encoders"])
def test_without_torch_the_extra_is_named(name: str) -> None:
    code = f"""
import importlib.util
real = importlib.util.find_spec
importlib.util.find_spec = lambda name, *more: None if name == "torch" else real(name, *more)
import neuromoco
assert "{name}" not in dir(neuromoco) and "read_recording" in dir(neuromoco)
try: neuromoco.{name}
except neuromoco.MissingExtraError as error: print(error)
"""
    assert outcome(code).startswith(f"neuromoco.{name} needs packages that are not installed: pip install")


def test_train_is_called_whatever_was_imported_before() -> None:
    code = """
import neuromoco.train.loop, neuromoco.train.stages
neuromoco.train.stages.train = lambda *arguments, **options: print(arguments, options)
neuromoco.train(1, device="cpu")
from neuromoco.train import train
print(train.__module__)
"""
    assert outcome(code).splitlines() == ["(1,) {'device': 'cpu'}", "neuromoco.train.stages"]


@pytest.mark.parametrize("name", ["train", "export"])
def test_help_on_a_callable_package_is_that_of_its_function(name: str) -> None:
    package, function = getattr(neuromoco, name), definition(name)
    assert inspect.signature(package) == inspect.signature(function)
    text = pydoc.render_doc(package, renderer=pydoc.plaintext)
    assert all(
        f"{parameter}:" in text for parameter in inspect.signature(function).parameters if parameter != "options"
    )
    assert "Raises:" in text


@pytest.mark.parametrize("name", NAMES)
def test_documentation_stands_alone(name: str) -> None:
    for where, value in described(name):
        text = inspect.getdoc(value) or ""
        assert len(text.split()) >= 5, where
        parameters = set(inspect.signature(value).parameters) - {"self", "cls"} if inspect.isroutine(value) else set()
        missing = [parameter for parameter in parameters if f"{parameter}:" not in text]
        assert not missing or len(parameters) == 0, f"{where} does not say what {missing} are"


@pytest.mark.parametrize("name", ["neuromoco", *NAMES])
def test_examples_run(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """From a folder in which `models/` is that of the repository and everything else may be written."""
    (tmp_path / "models").symlink_to(ROOT / "models", target_is_directory=True)
    monkeypatch.chdir(tmp_path)
    subjects = [(name, neuromoco)] if name == "neuromoco" else list(described(name))
    examples = 0
    for where, value in subjects:
        for test in doctest.DocTestFinder(recurse=False).find(value, where, module=False, globs={}):
            result = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test)
            assert result.failed == 0, where
            examples += len(test.examples)
    value = neuromoco if name == "neuromoco" else definition(name)
    assert examples or (inspect.isclass(value) and issubclass(value, Exception)), f"{name} shows no example"
