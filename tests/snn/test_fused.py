"""Fused passes give what the modules give one after the other, with and without a compiler."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from spikingjelly.activation_based import layer
from torch import Tensor, nn

from neuromoco.config import EncoderConfig, NeuronConfig
from neuromoco.encoders import build_encoder
from neuromoco.snn import native
from neuromoco.snn.fused import SpikeSequential, channels_last
from neuromoco.snn.neurons import LIFNode, lif, reset_state
from neuromoco.support.console import say_once

compiled = pytest.mark.skipif(native.library() is None, reason="no C compiler")


def run(net: nn.Module, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """What a network gives, and the gradient of its input."""
    reset_state(net)
    drive = x.clone().requires_grad_()
    result = net(drive)
    (result * weight).sum().backward()
    assert drive.grad is not None
    return result.detach(), drive.grad


def without_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "library", lambda: None)


@compiled
@pytest.mark.parametrize("surrogate", ["atan", "sigmoid"])
@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize(("channels", "side"), [(16, 9), (3, 20), (300, 3), (5, 1)])
def test_norm_and_neurons_equal_the_two_modules(
    channels: int, side: int, last: bool, surrogate: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(layer.BatchNorm2d(channels, step_mode="m"), lif(NeuronConfig(tau=1.7, surrogate=surrogate)))
    nn.init.uniform_(net[0].weight, 1.0, 3.0)
    nn.init.normal_(net[0].bias)
    fused = SpikeSequential(*copy.deepcopy(net))
    x = torch.randn(5, 3, channels, side, side) * 2 + 0.3
    weight = torch.randn_like(x)
    actual, grad = run(fused, channels_last(x) if last else x, weight)
    without_kernels(monkeypatch)
    expected, expected_grad = run(net, x, weight)
    assert 0.1 < float(expected.mean()) < 0.9
    assert torch.equal(actual, expected)
    assert torch.allclose(fused[1].v, net[1].v, atol=1e-5)
    assert torch.allclose(grad, expected_grad, atol=1e-6)
    for own, other in zip(fused.parameters(), net.parameters(), strict=True):
        assert torch.allclose(own.grad, other.grad, rtol=1e-4, atol=1e-4)
    for own, other in zip(fused.buffers(), net.buffers(), strict=True):
        assert torch.allclose(own, other, rtol=1e-6, atol=1e-6)


@compiled
@pytest.mark.parametrize(("height", "width"), [(8, 8), (7, 10), (1, 5)])
def test_the_max_pool_equals_torchs(height: int, width: int) -> None:
    torch.manual_seed(0)
    pool = layer.MaxPool2d(3, 2, 1, step_mode="m")
    x = channels_last((torch.rand(3, 2, 20, height, width) < 0.4).float())  # many equals in a window
    weight = torch.randn_like(pool(x))
    for fused, theirs in zip(run(SpikeSequential(pool), x, weight), run(pool, x, weight), strict=True):
        assert torch.equal(fused, theirs)


@compiled
@pytest.mark.parametrize("name", ["sew_resnet_tiny", "spikformer_tiny", "chain_tiny"])
def test_encoders_equal_their_modules(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    encoder = build_encoder(EncoderConfig(name=name))
    other = copy.deepcopy(encoder)
    x = torch.poisson(torch.full((4, 3, 2, 34, 34), 0.3))
    with monkeypatch.context() as patch:
        # in one layout convolutions are rounded alike
        for module in ("sew_resnet", "spikformer"):
            patch.setattr(f"neuromoco.encoders.{module}.channels_last", lambda frames: frames)
        features = encoder(x)
        without_kernels(patch)
        expected = other(x)
    assert torch.equal(features, expected)
    for net, result in ((encoder, features), (other, expected)):
        result.square().sum().backward()
        assert all(parameter.grad is not None for parameter in net.parameters())
    for own, theirs in zip(encoder.parameters(), other.parameters(), strict=True):
        assert torch.allclose(own.grad, theirs.grad, rtol=1e-3, atol=1e-4 * float(theirs.grad.abs().max()))


def test_a_hook_sees_what_its_module_returns(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Tensor] = []
    net = SpikeSequential(layer.BatchNorm2d(4, step_mode="m"), lif(NeuronConfig()))
    x = torch.randn(3, 2, 4, 5, 5)
    spikes = net(x)
    net[1].register_forward_hook(lambda _, __, result: seen.append(result))
    reset_state(net)
    assert torch.equal(net(x), spikes)
    assert len(seen) == 1
    assert torch.equal(seen[0], spikes)


def test_a_norm_without_neurons_stays_itself() -> None:
    norm = layer.BatchNorm2d(4, step_mode="m")
    x = torch.randn(3, 2, 4, 5, 5)
    assert torch.equal(SpikeSequential(norm)(x), copy.deepcopy(norm)(x))


@pytest.fixture(params=["no-such-compiler", "false"])
def no_compiler(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    """The name of a compiler that is missing, and of one that fails."""
    native.library.cache_clear()
    say_once.cache_clear()
    monkeypatch.setenv("CC", request.param)
    monkeypatch.setenv("NEUROMOCO_CACHE", str(tmp_path))
    yield request.param
    native.library.cache_clear()


def test_without_a_compiler_torch_computes_the_same(no_compiler: str) -> None:
    assert native.library() is None
    node = lif(NeuronConfig())
    assert isinstance(node, LIFNode)
    assert node(torch.tensor([1.0, 1.5]).view(2, 1)).flatten().tolist() == [0.0, 1.0]


def test_a_missing_compiler_is_reported_once_in_one_line(no_compiler: str, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(3):
        assert native.library() is None
        reset_state(node := lif(NeuronConfig()))
        node(torch.ones(2, 3))
    printed = capsys.readouterr()
    assert printed.out == ""
    (line,) = printed.err.splitlines()
    assert line.startswith(f"The C compiler '{no_compiler}' is missing or fails, so training on a CPU will be slower")
    assert "install gcc" in line


@pytest.mark.parametrize("place", ["worker", "second process of a launcher"])
def test_workers_do_not_report_a_missing_compiler(
    place: str, no_compiler: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if place == "worker":
        monkeypatch.setattr(native.multiprocessing, "parent_process", object)
    else:
        monkeypatch.setenv("LOCAL_RANK", "1")
    assert native.library() is None
    assert capsys.readouterr().err == ""


@compiled
def test_two_threads_give_identical_gradients_every_time() -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        encoder = build_encoder(EncoderConfig(name="sew_resnet_tiny"))
        x = torch.poisson(torch.full((4, 8, 2, 34, 34), 0.3))
        seen = []
        for _ in range(8):
            encoder.zero_grad()
            encoder(x).square().sum().backward()
            seen.append([parameter.grad.clone() for parameter in encoder.parameters()])
        assert all(torch.equal(a, b) for other in seen[1:] for a, b in zip(seen[0], other, strict=True))
    finally:
        torch.set_num_threads(threads)


@compiled
@pytest.mark.parametrize(
    "make",
    [
        lambda: torch.randn(6, 4, 1, 5, 5).transpose(0, 1),
        lambda: torch.randn(8, 4, 16, 1, 1)[::2],
        lambda: torch.randn(4, 6, 16, 1, 1).transpose(0, 1),
        lambda: torch.randn(1, 2, 1, 8, 8).expand(5, 2, 1, 8, 8),
        lambda: torch.randn(1, 3, 4, 5, 5),
        lambda: torch.randn(4, 0, 3, 5, 5),
    ],
)
def test_however_the_input_lies_in_memory(make: Callable[[], Tensor]) -> None:
    torch.manual_seed(0)
    x = make() * 3
    for net in (nn.Sequential(lif(NeuronConfig())), nn.Sequential(layer.BatchNorm2d(x.shape[2], step_mode="m"))):
        if not x.numel() and isinstance(net[0], layer.BatchNorm2d):
            continue  # torch refuses an empty batch too
        fused = SpikeSequential(*net, lif(NeuronConfig())) if isinstance(net[0], layer.BatchNorm2d) else net
        plain = copy.deepcopy(fused)
        assert torch.equal(fused(x), plain(x.contiguous().clone()))


@compiled
def test_a_pool_takes_not_a_number_as_torch_does() -> None:
    pool = layer.MaxPool2d(3, 2, 1, step_mode="m").train()
    x = torch.rand(2, 1, 16, 6, 6)
    x[0, 0, 3, 2, 2] = float("nan")
    x[1, 0, 5] = -float("inf")
    actual = SpikeSequential(pool)(channels_last(x))
    assert torch.equal(actual.isnan(), pool(x).isnan())
    assert torch.equal(actual.nan_to_num(7.0), pool(x).nan_to_num(7.0))
