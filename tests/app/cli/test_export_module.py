"""The command export on a torch module of the user's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from spikingjelly.activation_based import layer, neuron
from torch import nn

from tests.helpers.cli import error_line, run

NET = """
from spikingjelly.activation_based import layer, neuron
from torch import nn

def build():
    conv = layer.Conv2d(3, 4, 3, padding=1, step_mode="m")
    return nn.Sequential(conv, neuron.LIFNode(step_mode="m"), layer.Flatten(step_mode="m"), nn.Linear(4 * 6 * 6, 5))

def leaves():
    raise SystemExit(3)

def fails():
    raise KeyError("nothing")

odd = nn.Sequential(layer.Conv2d(3, 4, 3, step_mode="m"), nn.ReLU(), nn.GELU())
number = 3
"""
SHAPE = ["--example", "3,2,3,6,6"]


@pytest.fixture
def net(tmp_path: Path) -> Path:
    (tmp_path / "net.py").write_text(NET)
    return tmp_path / "net.py"


def built() -> nn.Module:
    torch.manual_seed(3)
    conv = layer.Conv2d(3, 4, 3, padding=1, step_mode="m")
    return nn.Sequential(conv, neuron.LIFNode(step_mode="m"), layer.Flatten(step_mode="m"), nn.Linear(4 * 6 * 6, 5))


def test_a_module_in_a_file_exports_with_weights_of_another(net: Path, tmp_path: Path) -> None:
    module = built()
    torch.save(
        {"state_dict": {f"module.{name}": value for name, value in module.state_dict().items()}}, tmp_path / "w.pth"
    )
    out = tmp_path / "net.onnx"
    result = run("export", f"{net}:build", "--weights", tmp_path / "w.pth", *SHAPE, "--out", out)
    assert result.exit_code == 0, result.stderr
    assert "compared with torch on 6 inputs" in result.stdout
    frames = torch.rand(3, 2, 3, 6, 6) * 4
    session = onnxruntime.InferenceSession(out.read_bytes(), providers=["CPUExecutionProvider"])
    with torch.no_grad():
        wanted = module(frames).numpy()
    assert session.run(["logits_per_step"], {"frames": frames.numpy()})[0] == pytest.approx(wanted, abs=1e-5)


def test_an_example_may_be_a_file(net: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.ones((2, 1, 3, 6, 6)))
    assert run("export", f"{net}:build", "--example", tmp_path / "x.npy").exit_code == 0
    assert (tmp_path / "net.onnx").is_file()


def test_check_lists_all_that_cannot_be_exported(net: Path) -> None:
    result = run("export", f"{net}:odd", *SHAPE, "--check")
    assert result.exit_code == 6
    assert [word in result.stderr for word in ("1: ReLU", "2: GELU")] == [True, True]


def test_a_file_may_import_its_neighbours_and_define_dataclasses(tmp_path: Path) -> None:
    (tmp_path / "neighbour_of_net.py").write_text("CHANNELS = 4")
    lines = ["from __future__ import annotations", "from dataclasses import dataclass", "import neighbour_of_net"]
    settings = ["@dataclass", "class Settings:", "    channels: int = neighbour_of_net.CHANNELS"]
    (tmp_path / "net.py").write_text(
        "\n".join([*lines, *settings, NET.replace("Conv2d(3, 4", "Conv2d(3, Settings().channels")])
    )
    result = run("export", f"{tmp_path / 'net.py'}:build", *SHAPE)
    assert result.exit_code == 0, result.stderr


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["net.py:leaves", *SHAPE], 2, "net.py:leaves: fails (SystemExit: 3)"),
        (["net.py:build", "--example", "empty.npy"], 2, "--example empty.npy: "),
        (["net.py:build", "--example", "x.npz"], 2, "--example x.npz: holds several arrays; give a shape"),
        (["net.py:build", "--example", "999999,99999,3,999,999"], 2, "--example 999999,99999,3,999,999: "),
        (
            ["net.py:build", *SHAPE, "--quantize", "int8"],
            2,
            "--quantize of a module; omit it, or give --data",
        ),
        (["net.py:build", *SHAPE, "--opset", "13"], 2, "--opset of a module; omit it"),
        (["net.py:build", *SHAPE, "--data", "."], 2, "class names None; with recordings, name every class"),
        (["net.py:build", *SHAPE, "--time-unit", "ms"], 2, "reading recordings of a module; omit it"),
        (["net.py:nothing", *SHAPE], 2, "net.py: has no nothing; give file.py:name"),
        (["net.py:number", *SHAPE], 2, "net.py:number: fails (TypeError: 'int' object is not callable)"),
        (["net.py:fails", *SHAPE], 2, "net.py:fails: fails (KeyError: 'nothing')"),
        (["other.py:build", *SHAPE], 2, "other.py: is no Python file"),
        (["net.py:build"], 2, "give the shape of its input, --example T,N,C,H,W"),
        (["net.py:build", "--example", "x.npy"], 2, "--example x.npy: "),
        (["net.py:build", *SHAPE, "--weights", "w.pth"], 4, "w.pth: does not exist"),
        (["net.py:build", *SHAPE, "--weights", "net.py"], 4, "net.py: cannot be read as weights"),
        (["net.py:build", *SHAPE, "--weights", "other.pth"], 4, "other.pth: lacks 0.bias and 3 more of the module"),
        (["net.py:build", *SHAPE, "--target", "loihi"], 2, "target 'loihi' of a module; choose onnx or nir"),
        (["runs", "--weights", "w.pth"], 2, "--weights, --example, --layout and --steps go with file.py:name"),
    ],
)
def test_mistakes_are_one_line(
    words: list[str], code: int, message: str, net: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"weight": torch.zeros(3)}, "other.pth")
    Path("empty.npy").touch()
    np.savez("x.npz", x=np.ones((2, 1, 3, 6, 6)))
    result = run("export", *words)
    assert result.exit_code == code, result.stderr
    assert message in error_line(result)
    assert not list(tmp_path.glob("*.onnx"))
