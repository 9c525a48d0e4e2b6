"""Any torch module of known layers exports, without a checkpoint, and the file computes what the module does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from spikingjelly.activation_based import functional, layer, neuron
from spikingjelly.activation_based.model import parametric_lif_net, sew_resnet, spikformer, spiking_resnet
from torch import Tensor, nn

import neuromoco
from benchmarks.foreign_zoo import NorseCells
from neuromoco.errors import ConfigError, MissingExtraError, UnsupportedLayerError
from neuromoco.snn.neurons import reset_state
from neuromoco.support import extras
from tests.helpers.networks import alive

STEPS, BATCH, SIDE = 3, 2, 32


def inputs(channels: int = 3, side: int = SIDE) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.poisson(torch.full((STEPS, BATCH, channels, side, side), 0.5), generator=generator)


def lively(network: nn.Module, example: Tensor) -> nn.Module:
    """A network in evaluation mode whose neurons spike."""
    torch.manual_seed(0)
    alive(network, example)
    functional.reset_net(network)
    return network


def answers(path: Path, frames: Tensor) -> dict[str, Any]:
    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_outputs()]
    return dict(zip(names, session.run(names, {"frames": frames.numpy()}), strict=True))


def multi_step(build: Callable[..., nn.Module], **options: Any) -> nn.Module:
    network = build(spiking_neuron=neuron.LIFNode, **options)
    functional.set_step_mode(network, "m")
    return network


ZOO: dict[str, tuple[Callable[[], nn.Module], Tensor]] = {
    "sew_resnet18": (lambda: multi_step(sew_resnet.sew_resnet18, cnf="ADD", num_classes=5), inputs(3, 16)),
    "spiking_resnet18": (lambda: multi_step(spiking_resnet.spiking_resnet18, num_classes=5), inputs(3, 16)),
    "parametric_lif_net": (lambda: multi_step(parametric_lif_net.NMNISTNet, channels=8), inputs(2, 34)),
    "spikformer": (
        lambda: spikformer.Spikformer(
            T=STEPS, img_size_h=16, img_size_w=16, patch_size=4, embed_dims=32, num_heads=4, depths=1, num_classes=5
        ),
        inputs(3, 16),
    ),
}


@pytest.mark.parametrize("name", ZOO)
@pytest.mark.filterwarnings("ignore")
def test_spikingjellys_models_export_without_a_flipped_spike(name: str, tmp_path: Path) -> None:
    build, example = ZOO[name]
    network = lively(build(), example)
    report = neuromoco.export(network, example, tmp_path / "m.onnx")
    layers = report["parity"]["layers"]
    assert sum(entry["flipped"] for entry in layers) == 0
    assert sum(entry["rate"] > 0.01 for entry in layers) >= len(layers) // 2
    onnx.checker.check_model(onnx.load(tmp_path / "m.onnx"), full_check=True)
    with torch.no_grad():
        wanted = network(example).numpy()
    functional.reset_net(network)
    found = answers(tmp_path / "m.onnx", example)
    key = "logits_per_step" if wanted.ndim == 3 else "logits"
    assert found[key] == pytest.approx(wanted, abs=1e-5)


class Small(nn.Module):
    """Analog channels, soft and hard reset; takes [T, N, ...], [N, T, ...] or one step."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind, mode = kind, "s" if kind == "step" else "m"
        self.conv = layer.Conv2d(3, 8, 3, padding=1, step_mode=mode)
        self.soft = neuron.LIFNode(v_reset=None, v_threshold=0.3, step_mode=mode)
        self.down = layer.Conv2d(8, 16, 3, 2, 1, step_mode=mode)
        self.fire = neuron.IFNode(v_reset=None, v_threshold=0.1, step_mode=mode)
        self.head = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = x.transpose(0, 1) if self.kind == "NT" else x
        x = self.fire(self.down(self.soft(self.conv(x)))).mean((-1, -2))
        x = self.head(x)
        return x.transpose(0, 1) if self.kind == "NT" else x.mean(0) if self.kind == "mean" else x


def stepped(network: nn.Module, frames: Tensor) -> np.ndarray:
    with torch.no_grad():
        result = torch.stack([network(frames) for _ in range(STEPS)]).numpy()
    functional.reset_net(network)
    return result


@pytest.mark.parametrize("kind", ["TN", "NT", "mean", "step"])
def test_layouts_steps_and_soft_resets(kind: str, tmp_path: Path) -> None:
    torch.manual_seed(1)
    network, example = Small(kind).eval(), torch.rand(STEPS, BATCH, 3, 8, 8)
    options: dict[str, Any] = {"NT": {"layout": "NT"}, "step": {"steps": STEPS}}.get(kind, {})
    example = {"NT": example.transpose(0, 1).contiguous(), "step": example[0]}.get(kind, example)
    names = ("ant", "bee", "cow", "dog")
    report = neuromoco.export(network, example, tmp_path / "m.onnx", class_names=names, **options)
    assert report["parity"]["problem"] is None
    assert all(entry["rate"] > 0.01 for entry in report["parity"]["layers"])
    if kind == "step":
        wanted = stepped(network, example)
        example = torch.stack([example] * STEPS)
    else:
        with torch.no_grad():
            wanted = network(example).numpy()
        wanted = wanted.swapaxes(0, 1) if kind == "NT" else wanted
    found = answers(tmp_path / "m.onnx", example)
    assert found["logits" if kind == "mean" else "logits_per_step"] == pytest.approx(wanted, abs=1e-5)
    assert found["label"].tolist() == [names[i] for i in found["logits"].argmax(1)]


def test_the_files_input_has_any_batch(tmp_path: Path) -> None:
    network, example = Small("TN").eval(), torch.rand(STEPS, 1, 3, 8, 8)
    neuromoco.export(network, example, tmp_path / "m.onnx")
    assert answers(tmp_path / "m.onnx", torch.rand(STEPS, 5, 3, 8, 8))["logits"].shape == (5, 4)


def leaky(**options: Any) -> nn.Module:
    """Neurons of snnTorch's that hold their membranes."""
    snntorch = pytest.importorskip("snntorch")
    hidden = snntorch.Leaky(**{"beta": 0.9, "threshold": 0.3, "init_hidden": True, **options})
    last = snntorch.Leaky(beta=0.5, threshold=0.2, init_hidden=True)
    return nn.Sequential(nn.Conv2d(2, 8, 3), hidden, nn.Flatten(), nn.Linear(8 * 6 * 6, 10), last)


def synaptic(**options: Any) -> nn.Module:
    """Neurons of snnTorch's with a current, both held."""
    snntorch = pytest.importorskip("snntorch")
    options = {"alpha": 0.7, "beta": 0.8, "threshold": 0.6, "init_hidden": True, **options}
    last = snntorch.Synaptic(alpha=0.5, beta=0.9, threshold=0.3, init_hidden=True)
    return nn.Sequential(nn.Conv2d(2, 8, 3), snntorch.Synaptic(**options), nn.Flatten(), nn.Linear(8 * 6 * 6, 10), last)


class Handed(nn.Module):
    """Neurons of snnTorch's in a loop over time that hands membranes on, or something else."""

    def __init__(self, reset: str, hand: Callable[[Tensor], Tensor] = lambda x: x) -> None:
        super().__init__()
        snntorch = pytest.importorskip("snntorch")
        self.conv, self.head, self.hand = nn.Conv2d(2, 8, 3), nn.Linear(8 * 6 * 6, 10), hand
        self.one = snntorch.Leaky(beta=0.9, threshold=0.3, reset_mechanism=reset)
        self.two = snntorch.Leaky(beta=0.7, threshold=0.2, reset_mechanism=reset)

    def forward(self, x: Tensor) -> Tensor:
        first, second = self.one.init_leaky(), self.two.init_leaky()
        spikes, membranes = [], []
        for x_t in x:
            hidden, first = self.one(self.conv(x_t), self.hand(first))
            out, second = self.two(self.head(hidden.flatten(1)), second)
            spikes.append(out)
            membranes.append(second)
        torch.stack(membranes)  # used by a loss
        return torch.stack(spikes)


def leaky_input() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.poisson(torch.full((6, BATCH, 2, 8, 8), 0.8), generator=generator)


SNNTORCH: dict[str, Callable[[], nn.Module]] = {
    "subtract": leaky,
    "zero": lambda: leaky(reset_mechanism="zero"),
    "no leak": lambda: leaky(beta=1.0),
    "membranes handed on, subtract": lambda: Handed("subtract"),
    "membranes handed on, zero": lambda: Handed("zero"),
    "a current": lambda: synaptic(),
    "currents and membranes handed on": lambda: Currents(),
}


@pytest.mark.parametrize("name", SNNTORCH)
def test_snntorchs_neurons_export_without_a_flipped_spike(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network, frames = SNNTORCH[name]().eval(), leaky_input()
    stepwise = isinstance(network, nn.Sequential)
    report = neuromoco.export(
        network, frames[0] if stepwise else frames, tmp_path / "m.onnx", steps=len(frames) if stepwise else None
    )
    layers = report["parity"]["layers"]
    assert [entry["flipped"] for entry in layers] == [0, 0]
    assert all(0.05 < entry["rate"] < 0.95 for entry in layers)
    with torch.no_grad():
        wanted = torch.stack([network(x) for x in frames]) if stepwise else network(frames)
    assert answers(tmp_path / "m.onnx", frames)["logits_per_step"].tolist() == wanted.tolist()


LEAKY_REFUSED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "no reset": (lambda: leaky(reset_mechanism="none"), "Leaky: reset_mechanism 'none'; use 'subtract' or 'zero'"),
    "reset at once": (lambda: leaky(reset_delay=False), "Leaky: reset_delay=False; use True"),
    "vector": (lambda: leaky(beta=torch.full((6,), 0.5)), r"Leaky: beta of shape \(6,\); use one number"),
    "graded": (lambda: leaky(graded_spikes_factor=2.0), "Leaky: a graded_spikes_factor; use 1"),
    "threshold": (lambda: leaky(threshold=-1.0), "Leaky: a threshold of -1; use a positive one"),
    "no memory": (lambda: leaky(beta=0.0), "Leaky: beta 0 with reset_mechanism 'subtract'"),
    "other membranes": (lambda: Handed("zero", lambda x: 0.5 * x), "one: snntorch Leaky: other membranes than it"),
    "not at rest": (
        lambda: Handed("zero", lambda x: x if x.numel() else torch.ones(BATCH, 8, 6, 6)),
        "begin with zeros",
    ),
    "a current and a reset to zero": (
        lambda: synaptic(reset_mechanism="zero"),
        "Synaptic: reset_mechanism 'zero' with a current; use 'subtract', or Leaky",
    ),
    "two currents": (
        lambda: nn.Sequential(pytest.importorskip("snntorch").Alpha(0.5, 0.4, init_hidden=True), nn.Flatten()),
        "0: snntorch Alpha: recurrent, or two currents; use snnTorch's Leaky or Synaptic",
    ),
}


@pytest.mark.parametrize(("build", "message"), LEAKY_REFUSED.values(), ids=LEAKY_REFUSED)
def test_other_neurons_of_snntorchs_are_refused(build: Callable[[], nn.Module], message: str, tmp_path: Path) -> None:
    network, frames = build().eval(), leaky_input()
    given: Any = (frames[0], len(frames)) if isinstance(network, nn.Sequential) else (frames, None)
    with pytest.raises(UnsupportedLayerError, match=message) as error:
        neuromoco.export(network, given[0], tmp_path / "m.onnx", steps=given[1])
    assert "\n" not in str(error.value)


class Currents(Handed):
    """The same with currents, whose two states are handed on together."""

    def __init__(self) -> None:
        super().__init__("subtract")
        snntorch = pytest.importorskip("snntorch")
        self.one = snntorch.Synaptic(alpha=0.6, beta=0.8, threshold=0.6)
        self.two = snntorch.Synaptic(alpha=0.3, beta=0.9, threshold=0.3)

    def forward(self, x: Tensor) -> Tensor:
        first, second, spikes = self.one.reset_mem(), self.two.reset_mem(), []
        for x_t in x:
            hidden, *first = self.one(self.conv(x_t), *first)
            out, *second = self.two(self.head(hidden.flatten(1)), *second)
            spikes.append(out)
        return torch.stack(spikes)


def test_norses_cells_export_without_a_flipped_spike(tmp_path: Path) -> None:
    pytest.importorskip("norse.torch")
    torch.manual_seed(0)
    network, frames = NorseCells(8).eval(), leaky_input()
    report = neuromoco.export(network, frames, tmp_path / "m.onnx")
    layers = report["parity"]["layers"]
    assert [entry["flipped"] for entry in layers] == [0, 0]
    assert all(0.02 < entry["rate"] < 0.95 for entry in layers)
    with torch.no_grad():
        wanted = network(frames)
    assert answers(tmp_path / "m.onnx", frames)["logits_per_step"].tolist() == wanted.tolist()


def sinabs_layers(reset: str) -> nn.Module:
    """Neurons of sinabs', which take [N * T, ...] and [N, T, ...]."""
    layers = pytest.importorskip("sinabs.layers")
    from sinabs import activation

    options = {"spike_fn": activation.SingleSpike, "reset_fn": getattr(activation, reset)()}
    leaky = layers.LIFSqueeze(tau_mem=3.0, spike_threshold=0.2, num_timesteps=6, **options)
    head = (nn.Unflatten(0, (-1, 6)), layers.IAF(spike_threshold=0.3, **options))
    return nn.Sequential(nn.Flatten(0, 1), nn.Conv2d(2, 8, 3), leaky, nn.Flatten(), nn.Linear(8 * 6 * 6, 10), *head)


@pytest.mark.parametrize("reset", ["MembraneReset", "MembraneSubtract"])
def test_sinabs_layers_export_without_a_flipped_spike(reset: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network, frames = sinabs_layers(reset).eval(), leaky_input().transpose(0, 1)
    report = neuromoco.export(network, frames, tmp_path / "m.onnx", layout="NT")
    layers = report["parity"]["layers"]
    assert [entry["flipped"] for entry in layers] == [0, 0]
    assert all(0.02 < entry["rate"] < 0.95 for entry in layers)
    reset_state(network)
    with torch.no_grad():
        wanted = network(frames).transpose(0, 1)
    assert answers(tmp_path / "m.onnx", frames.contiguous())["logits_per_step"].tolist() == wanted.tolist()


def converted(**options: Any) -> nn.Module:
    """A small network with ReLUs that spikingjelly converts."""
    from spikingjelly.activation_based import ann2snn

    torch.manual_seed(0)
    ann = nn.Sequential(
        nn.Conv2d(2, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(72, 6), nn.ReLU()
    )
    data = [(x, torch.zeros(len(x))) for x in leaky_input()]
    recipe = ann2snn.RateCodingRecipe(dataloader=data, **options)
    return ann2snn.FXConverter(recipe).convert(ann.eval())


@pytest.mark.parametrize("options", [{"mode": "Max"}, {"mode": "99.9%", "channel_wise": True}])
@pytest.mark.filterwarnings("ignore")
def test_converted_networks_export_without_a_flipped_spike(options: dict[str, Any], tmp_path: Path) -> None:
    network, frames = converted(**options), leaky_input()
    report = neuromoco.export(network, frames[0], tmp_path / "m.onnx", steps=len(frames))
    layers = report["parity"]["layers"]
    assert [entry["flipped"] for entry in layers] == [0, 0]
    assert all(entry["rate"] > 0.02 for entry in layers)
    functional.reset_net(network)
    with torch.no_grad():
        wanted = torch.stack([network(x) for x in frames]).numpy()
    assert answers(tmp_path / "m.onnx", frames)["logits_per_step"] == pytest.approx(wanted, abs=1e-5)


class Summed(nn.Module):
    """A sum of spikes that reaches the threshold exactly."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fire = layer.Conv2d(3, 6, 3, padding=1, step_mode="m"), neuron.IFNode(step_mode="m")
        self.last = neuron.IFNode(v_reset=None, step_mode="m")

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.fire(self.conv(x)).sum((-1, -2)))


def test_a_sum_of_spikes_is_exact(tmp_path: Path) -> None:
    torch.manual_seed(0)
    example = torch.poisson(torch.full((4, BATCH, 3, 11, 11), 0.3))  # 121 * (1 / 121) is no 1 for every runtime
    report = neuromoco.export(Summed().eval(), example, tmp_path / "m.onnx")
    assert [entry["flipped"] for entry in report["parity"]["layers"]] == [0, 0]


class Named(nn.Module):
    """A layer of neurons of a given name, and a shortcut without layers."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.conv, self.shortcut = layer.Conv2d(3, 4, 3, padding=1, step_mode="m"), nn.Sequential()
        self.name = name
        self.add_module(name, neuron.IFNode(v_threshold=0.1, step_mode="m"))

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return (self.get_submodule(self.name)(x) + self.shortcut(x)).mean((-1, -2))


@pytest.mark.parametrize("name", ["frames", "logits", "logits_per_step", "label"])
def test_a_layer_may_be_called_like_an_output(name: str, tmp_path: Path) -> None:
    network, example = Named(name).eval(), torch.rand(STEPS, BATCH, 3, 8, 8)
    report = neuromoco.export(network, example, tmp_path / "m.onnx", class_names=("ant", "bee", "cow", "dog"))
    assert [entry["name"] for entry in report["parity"]["layers"]] == [f"{name}_2"]
    with torch.no_grad():
        wanted = network(example).numpy()
    assert answers(tmp_path / "m.onnx", example)["logits_per_step"] == pytest.approx(wanted, abs=1e-5)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "target": ({"target": "loihi"}, "target 'loihi' of a module; choose onnx or nir, or give"),
    "layout": ({"layout": "CN"}, "layout 'CN'; choose TN or NT"),
    "option": (
        {"quantize": "int8"},
        "quantize of a module; allowed are class_names, layout, steps, and with data or",
    ),
    "names": ({"class_names": ("ant",)}, r"1 class names for results of shape \(4,\)"),
    "numbers for names": ({"class_names": (1, 2, 3, 4)}, r"class names \(1, 2, 3, 4\); give a list of texts"),
    "data": ({"data": "recordings"}, "class names None; with recordings, name every class"),
    "crop": ({"crop": "activity"}, "crop of a module; allowed are class_names, layout, steps, and with data"),
    "steps as text": ({"steps": "3"}, "steps='3', layout='TN'; steps counts"),
    "steps": ({"steps": 0}, "steps=0, layout='TN'; steps counts"),
}


@pytest.mark.parametrize(("options", "message"), REFUSED.values(), ids=REFUSED)
def test_what_does_not_go_together_is_one_line(options: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        neuromoco.export(Small("TN").eval(), torch.rand(STEPS, BATCH, 3, 8, 8), tmp_path / "m.onnx", **options)
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_package_of_a_target_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(extras.PACKAGES, "nir", ("no_such_package",))
    with pytest.raises(MissingExtraError, match="--target nir"):
        neuromoco.export(Small("TN").eval(), torch.rand(STEPS, BATCH, 3, 8, 8), tmp_path / "m.nir", target="nir")


class Odd(nn.Module):
    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.conv, self.function = layer.Conv2d(3, 4, 1, step_mode="m"), function

    def forward(self, x: Tensor, *more: Any) -> Any:
        return self.function(self.conv(x), *more)


@pytest.mark.parametrize("what", ["Slice", "Concat", "MatMul"])
def test_nir_refuses_parts_and_products_of_values(what: str, tmp_path: Path) -> None:
    functions = {
        "Slice": lambda x: x[:, :, :2],
        "Concat": lambda x: torch.cat([x, x], 2),
        "MatMul": lambda x: x @ x,
    }
    network = Odd(lambda x: functions[what](x).flatten(2)).eval()
    with pytest.raises(UnsupportedLayerError, match=f": {what}: NIR ") as error:
        neuromoco.export(network, torch.rand(STEPS, BATCH, 3, 8, 8), tmp_path / "m.nir", target="nir")
    assert "\n" not in str(error.value)


RAISES: dict[str, tuple[Callable[..., Any], str]] = {
    "fixed T": (lambda x: x.view(4, BATCH, -1), r"view: view: splits time steps or recordings"),
    "fixed N": (lambda x: x.view(STEPS, BATCH, 4, 64), r"network: forward: fails on one recording \("),
    "fixed size": (lambda x: x.view(STEPS, BATCH, 7), r"network: forward: fails on frames .* 3 x 2 x 3 x 8 x 8"),
    "another argument": (lambda x, y: x + y, r"forward: fails on .* missing 1 required positional argument"),
    "a tuple": (lambda x: (x, x), r"network: result: is a tuple; return the logits"),
    "a constant": (lambda x: torch.zeros(3), r"network: result: is a tensor that no layer made"),
    "one number": (lambda x: x.mean(), r"mean: mean: a mean or sum over recordings"),
}


@pytest.mark.parametrize(("function", "message"), RAISES.values(), ids=RAISES)
def test_a_module_that_cannot_be_traced_is_refused_in_one_line(
    function: Callable[..., Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(UnsupportedLayerError, match=message) as error:
        neuromoco.export(Odd(function).eval(), torch.rand(STEPS, BATCH, 3, 8, 8), tmp_path / "m.onnx")
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []
