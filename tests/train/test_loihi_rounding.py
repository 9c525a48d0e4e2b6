"""Training with weights as Loihi rounds them: the rule, its gradient, what is saved, and what is refused."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from spikingjelly.activation_based import layer, neuron
from torch import Tensor, nn

from neuromoco import CheckpointError, ConfigError, UnsupportedLayerError
from neuromoco.app.cli.arguments import run_settings
from neuromoco.checkpoint import load_tensors
from neuromoco.classifier import Classifier
from neuromoco.config import EncoderConfig, NeuronConfig, RunConfig, load_config, with_values
from neuromoco.graph.nodes import LIF, Conv, Linear
from neuromoco.graph.trace import lower
from neuromoco.recipes import load_recipe
from neuromoco.runtime.checkpoint_file import TrainedClassifier
from neuromoco.snn.neurons import lif
from neuromoco.train import resume, train
from neuromoco.train.classify import ClassifyTask
from neuromoco.train.loihi_rounding import LoihiRounded, find_layers, loihi_scale, round_to_loihi
from neuromoco.train.run_folder import RunFolder
from tests.helpers.networks import alive, around, event_frames, live_classifier

STEPS, BATCH, SIDE = 3, 4, 16
NETWORKS = [
    EncoderConfig(name="chain_tiny", options={"width": 4}),
    EncoderConfig(options={"width": 4}, neuron=NeuronConfig(tau=3.0, v_threshold=0.7)),
    EncoderConfig(options={"width": 4, "connect": "IAND"}),
    EncoderConfig(name="spikformer_tiny"),
]
Folders = Callable[[int, int], Path]


def live(config: EncoderConfig) -> Classifier:
    return live_classifier(config, event_frames(STEPS, BATCH, SIDE))


def test_the_rule_in_closed_form() -> None:
    weight, bias = torch.tensor([[0.8, -0.301, 0.0]]), torch.tensor([1.2345])
    drive = 2.0 * 0.9  # tau 2 and a threshold of 0.9
    threshold = math.floor(min(127 / 0.8, 4095 / 1.2345) * drive - 1 / 64)
    assert threshold == 285
    s = (threshold + 1 / 64) / drive
    assert loihi_scale(weight, bias, drive) == pytest.approx(s, rel=1e-6)
    w, b = round_to_loihi(weight, bias, drive)
    assert (w * s).tolist()[0] == pytest.approx([127, -48, 0], abs=1e-3)
    assert float(b * s) == pytest.approx(195, abs=1e-3)


def test_the_scale_is_that_of_the_largest_bias_or_of_the_largest_threshold() -> None:
    weight = torch.tensor([0.01])
    assert loihi_scale(weight, torch.tensor([-2.0]), 1.0) == math.floor(4095 / 2 - 1 / 64) + 1 / 64
    assert loihi_scale(weight * 1e-4, torch.zeros(1), 1.0) == 131071 + 1 / 64
    assert loihi_scale(weight, torch.zeros(1), None) == pytest.approx(12700)  # a head has no threshold
    for drive in (1.0, None):  # nothing to scale by
        assert [part.tolist() for part in round_to_loihi(torch.zeros(2), torch.zeros(1), drive)] == [[0, 0], [0]]


def test_what_is_rounded_rounds_to_itself() -> None:
    generator = torch.Generator().manual_seed(0)
    for case in range(300):
        size = 10 ** float(torch.empty(1).uniform_(-3, 1.5, generator=generator))  # vThMant of some to 100,000
        weight, bias = torch.randn(2, 20, generator=generator) * size
        drive = None if case % 3 == 0 else 1.0 + case % 2
        once = round_to_loihi(weight, bias, drive)
        scale = loihi_scale(*once, drive)
        for part, before in zip(once, (weight, bias), strict=True):
            whole = part.double() * scale
            assert (whole - whole.round()).abs().max() < 5e-3
            assert (part - before).abs().max() * scale < 1.0 + 1.0 / 64  # half a step, met at most twice
        again = round_to_loihi(*once, drive)
        assert all(torch.allclose(a, b, rtol=3e-6) for a, b in zip(again, once, strict=True))
        assert loihi_scale(*again, drive) == pytest.approx(scale, rel=2e-6)


def test_gradients_pass_straight_through() -> None:
    weight, bias = torch.tensor([0.5, -0.25], requires_grad=True), torch.tensor([0.1], requires_grad=True)
    w, b = round_to_loihi(weight, bias, 2.0)
    (w @ torch.tensor([3.0, 5.0]) + 7.0 * b.sum()).backward()
    assert weight.grad is not None
    assert bias.grad is not None
    assert (weight.grad.tolist(), bias.grad.tolist()) == ([3.0, 5.0], [7.0])


def test_the_gradient_reaches_what_folds_as_if_nothing_were_rounded() -> None:
    """Where weights are whole numbers already, the rounded network and the float one have one gradient."""
    frames = event_frames(STEPS, BATCH, SIDE)
    network = LoihiRounded(live(NETWORKS[0]), SIDE, SIDE).baked()
    gradients: list[dict[str, Tensor]] = []
    for model in (network, LoihiRounded(network, SIDE, SIDE).eval()):
        network.zero_grad()
        model(frames).square().sum().backward()
        gradients.append({name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys() == dict(network.named_parameters()).keys()
    for name, value in gradients[0].items():
        assert gradients[1][name] == pytest.approx(value, rel=1e-3, abs=1e-4 * float(value.abs().max())), name


@pytest.mark.parametrize("config", NETWORKS, ids=lambda c: f"{c.name}-{c.options}")
def test_a_baked_network_folds_to_whole_numbers_and_answers_the_same(config: EncoderConfig) -> None:
    frames = event_frames(STEPS, BATCH, SIDE)
    network = live(config)
    rounded = LoihiRounded(network, SIDE, SIDE).eval()
    baked: Any = rounded.baked().eval()
    with torch.no_grad():
        assert torch.equal(baked(frames), rounded(frames))
        assert not torch.equal(baked(frames), network(frames))
    assert baked.state_dict().keys() == network.state_dict().keys()
    graph = lower(baked, SIDE, SIDE)
    layers = [node for node in graph.nodes if isinstance(node, Conv | Linear)]
    assert len(layers) == len(rounded.layers)
    for node in layers:
        (user,) = graph.users[node.name] or [None]
        drive = None
        if isinstance(user, LIF):
            drive = user.v_threshold * (user.tau if user.decay_input else 1.0)
        else:
            assert node is graph.output
        # the exporter's rule on what the file holds, without a tolerance
        weight, bias = node.weight.astype(float), node.bias.astype(float)
        finest = min(127 / abs(weight).max(), 4095 / max(abs(bias).max(), 1e-30))
        scale = (math.floor(finest * drive - 1 / 64) + 1 / 64) / drive if drive else finest
        assert abs(scale * weight - (scale * weight).round()).max() < 1e-3, node.name
        assert abs(scale * bias - (scale * bias).round()).max() < 1e-2, node.name
        assert abs(scale * weight).max() < 127.01


def test_batch_norm_that_is_silent_or_turned_round() -> None:
    network = live(NETWORKS[0])
    norm = network.encoder.body.layers[1]
    with torch.no_grad():
        norm.weight[0], norm.weight[1] = 0.0, -1.5
    model = LoihiRounded(network, SIDE, SIDE).train()
    assert not norm.training
    before = {name: value.clone() for name, value in network.named_buffers()}
    model(event_frames(STEPS, BATCH, SIDE)).sum().backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in network.parameters() if parameter.grad is not None)
    assert all(torch.equal(value, before[name]) for name, value in network.named_buffers())
    baked = model.baked()
    conv = network.get_submodule("encoder.body.layers.0")
    assert torch.equal(baked.get_submodule("encoder.body.layers.0").weight[0], conv.weight[0])


class Body(nn.Module):
    """[T, N, P, H, W] -> [T, N, D] through any layers."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x).flatten(3).mean(-1)


def conv(inputs: int = 2, **options: Any) -> nn.Module:
    return layer.Conv2d(inputs, 4, 3, padding=1, step_mode="m", **options)


def norm() -> nn.Module:
    return layer.BatchNorm2d(4, step_mode="m")


def node() -> nn.Module:
    return lif(NeuronConfig())


def test_layers_of_other_networks_are_found() -> None:
    integrate = neuron.IFNode(v_threshold=0.5, step_mode="m")
    plain = neuron.LIFNode(tau=3.0, decay_input=False, step_mode="m")
    contained = layer.SeqToANNContainer(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4))
    body = Body(conv(bias=True), integrate, contained, plain, conv(4, bias=False), norm(), node())
    network = around(body, event_frames(STEPS, BATCH, SIDE))
    found = [(part.name.removeprefix("encoder.body.layers."), part.drive) for part in find_layers(network, SIDE, SIDE)]
    assert found == [("0", 0.5), ("2.0", 1.0), ("4", 2.0), ("head", None)]
    rounded = LoihiRounded(network, SIDE, SIDE).eval()
    assert rounded.rounded().keys() >= {"encoder.body.layers.0.bias", "encoder.body.layers.2.1.bias", "head.bias"}
    frames = event_frames(STEPS, BATCH, SIDE)
    with torch.no_grad():
        assert torch.equal(rounded.baked().eval()(frames), rounded(frames))


def test_other_structures_are_named() -> None:
    twice = conv(4, bias=False)
    parametric = neuron.ParametricLIFNode(step_mode="m")
    for layers, words in (
        ((conv(), norm()), r"layers\.0: its result drives no neurons"),
        ((conv(), layer.MaxPool2d(2, step_mode="m"), node()), r"layers\.0: its result drives no neurons"),
        ((conv(), norm(), norm(), node()), r"layers\.2: this batch norm follows no convolution"),
        ((conv(), node(), twice, node(), twice, node()), r"layers\.2: it is used twice"),
        ((conv(), parametric), r"layers\.1: ParametricLIFNode has weights too"),
    ):
        network = around(Body(*layers), event_frames(STEPS, BATCH, SIDE))
        with pytest.raises(ConfigError, match=words + ".*; rounding for Loihi needs convolutions") as error:
            LoihiRounded(network, SIDE, SIDE)
        assert "\n" not in str(error.value)


def test_a_layer_that_no_exporter_can_express_is_refused_before_training() -> None:
    network = around(Body(conv(), nn.ReLU(), conv(4), node()), event_frames(STEPS, BATCH, SIDE))
    with pytest.raises(UnsupportedLayerError, match=r"^layers\.1: ReLU: "):
        LoihiRounded(network, SIDE, SIDE)


def test_a_value_that_is_written_over_is_no_result_of_its_layer() -> None:
    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.fire = conv(), node()

        def forward(self, x: Tensor) -> Tensor:
            y = self.first(x)
            y += 1.0
            return self.fire(y).flatten(3).mean(-1)

    body = alive(Residual(), event_frames(STEPS, BATCH, SIDE))
    with pytest.raises(ConfigError, match="first: its result drives no neurons"):
        LoihiRounded(around(body, event_frames(STEPS, BATCH, SIDE)), SIDE, SIDE)


def settings(data: Path, stage: str, **values: Any) -> RunConfig:
    small = {
        "stage": stage,
        "data": str(data),
        "encoder.name": "chain_tiny",
        "encoder.options": {"width": 4},
        "frames": {"steps": 2, "height": SIDE, "width": SIDE},
        "pretrain.epochs": 20,  # until the running statistics fit
        "pretrain.batch_size": 6,
        "pretrain.moco.queue_size": 8,
        "finetune.epochs": 3,
        "finetune.batch_size": 4,
        "finetune.validation": 0.25,
        "finetune.optimizer.lr": 1e-3,
    }
    return with_values(load_recipe("tiny"), small | {name.replace("__", "."): v for name, v in values.items()})


@pytest.fixture
def tuning(class_folders: Folders, tmp_path: Path) -> RunConfig:
    """Settings of a quantised fine-tuning of an encoder that was pre-trained for a moment."""
    data = class_folders(2, 8)
    train(settings(data, "pretrain"), tmp_path / "pre", "cpu")
    init = str(tmp_path / "pre/weights/last.safetensors")
    return settings(data, "finetune", init=init, finetune__quantize="loihi")


def test_a_run_saves_rounded_weights_and_resumes_to_the_same(
    tuning: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(tuning, tmp_path / "whole", "cpu")
    assert load_config(tmp_path / "whole/config.yaml").finetune.quantize == "loihi"
    whole_step, taken = ClassifyTask.after_step, []

    def stop(self: ClassifyTask, done: float) -> None:
        whole_step(self, done)
        taken.append(1)
        if len(taken) == 5:  # in the second of three epochs
            raise KeyboardInterrupt

    monkeypatch.setattr(ClassifyTask, "after_step", stop)
    with pytest.raises(KeyboardInterrupt):
        train(tuning, tmp_path / "cut", "cpu")
    resume(tmp_path / "cut", "cpu")
    files = [tmp_path / run / "weights/last.safetensors" for run in ("whole", "cut")]
    losses = [line["loss"] for line in RunFolder(tmp_path / "cut").history()]
    assert losses[-1] < losses[0] - 0.02
    left, right = map(load_tensors, files)
    assert left.keys() == right.keys()
    assert all(torch.equal(left[name], right[name]) for name in left)
    network = TrainedClassifier(files[0], "cpu").network  # as any other checkpoint
    for name, value in LoihiRounded(network, SIDE, SIDE).rounded().items():
        held = network.get_parameter(name).detach()
        assert torch.allclose(value, held, rtol=1e-5, atol=1e-6 * float(held.abs().max())), name
    before = load_tensors(str(tuning.init))
    assert all(torch.equal(left[f"encoder.{n}"], v) for n, v in before.items() if "running" in n)
    assert not torch.equal(left["encoder.body.layers.0.weight"], before["body.layers.0.weight"])


def test_a_trained_classifier_is_rounded_head_and_all(class_folders: Folders, tmp_path: Path) -> None:
    data = class_folders(2, 8)
    train(settings(data, "supervised", supervised__epochs=2), tmp_path / "trained", "cpu")
    init = tmp_path / "trained/weights/last.safetensors"
    values = {"init": str(init), "finetune__epochs": 1, "finetune__optimizer__lr": 1e-9}
    tuning = settings(data, "finetune", finetune__quantize="loihi", **values)
    train(tuning, tmp_path / "tuned", "cpu")
    expected: Any = LoihiRounded(TrainedClassifier(init, "cpu").network, SIDE, SIDE).baked()
    found = load_tensors(tmp_path / "tuned/weights/last.safetensors")
    assert all(torch.allclose(found[name], value, atol=1e-5) for name, value in expected.state_dict().items())
    with pytest.raises(CheckpointError, match=r"is a trained classifier; .* \(a classifier with --quantize\)"):
        train(settings(data, "finetune", **values), tmp_path / "x", "cpu")
    (data / "class1").rename(data / "other")
    with pytest.raises(ConfigError, match="is a classifier of class0, class1; the recordings are of class0, other"):
        train(tuning, tmp_path / "x", "cpu")


def test_other_stages_and_a_frozen_encoder_are_refused(tmp_path: Path) -> None:
    for stage, name in (("supervised", "supervised"), ("all", "finetune")):
        with pytest.raises(ConfigError, match=f"^settings: quantize with stage {stage}; train first"):
            settings(tmp_path, stage, **{f"{name}__quantize": "loihi"})
    with pytest.raises(ConfigError, match="quantize with a frozen encoder"):
        settings(tmp_path, "finetune", finetune__quantize="loihi", finetune__freeze_encoder=True)
    rest: dict[str, Any] = {"epochs": None, "labels_per_class": None, "freeze": False, "quantize": "loihi"}
    for stage in ("pretrain", "supervised", "all"):
        with pytest.raises(ConfigError, match=f"^--quantize with stage {stage}; train first"):
            run_settings(load_recipe("tiny"), {"stage": stage}, [], **rest)
    chosen = run_settings(load_recipe("tiny"), {"stage": "finetune", "init": "x"}, [], **rest)
    assert chosen.finetune.quantize == "loihi"
