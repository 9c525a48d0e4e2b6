"""Convolutions by spikes give torch's sums and gradients, whatever fires, with any number of threads."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from spikingjelly.activation_based import layer
from torch import Tensor

from neuromoco.config import EncoderConfig
from neuromoco.encoders import build_encoder
from neuromoco.encoders.blocks import recompute_blocks
from neuromoco.snn import native, spike_conv
from neuromoco.snn.fused import channels_last
from neuromoco.snn.spike_conv import convolve

pytestmark = pytest.mark.skipif(native.library() is None, reason="no C compiler")

SHAPES = [  # T, N, inputs, rows, columns, outputs
    (2, 3, 64, 8, 8, 64),
    (1, 5, 16, 13, 70, 64),  # a row longer than a strip
    (3, 1, 40, 1, 5, 128),  # channels that fill no span, one row
    (2, 2, 300, 3, 2, 64),  # more spans than are added at once
    (1, 1, 16, 2, 1, 64),
    (4, 40, 16, 9, 9, 64),  # more pixels than one partial sum takes
]


@pytest.fixture(autouse=True)
def no_layer_is_too_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spike_conv, "LEAST_PRODUCTS", 0)


@pytest.fixture
def used(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows whenever a convolution goes by spikes."""
    seen: list[int] = []
    apply = spike_conv._SpikeConv.apply

    def noted(*args: Any) -> Tensor:
        seen.append(len(seen))
        return apply(*args)

    monkeypatch.setattr(spike_conv._SpikeConv, "apply", noted)
    return seen


@pytest.fixture
def threads() -> Iterator[None]:
    """Puts the number of threads back."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def conv(inputs: int, outputs: int, **others: Any) -> layer.Conv2d:
    settings = {"kernel_size": 3, "padding": 1, "bias": False, "step_mode": "m", **others}
    return layer.Conv2d(inputs, outputs, **settings)


def counts(shape: tuple[int, ...], rate: float) -> Tensor:
    """Counts of spikes, as a residual sum has them."""
    fires = torch.rand(shape) < rate
    return channels_last(fires.float() * torch.randint(1, 4, shape))


def gradients(module: layer.Conv2d, x: Tensor, weight: Tensor, run: Any) -> tuple[Tensor, Tensor, Tensor]:
    """The result, the input's gradient and the weights'."""
    module.zero_grad()
    drive = x.clone(memory_format=torch.preserve_format).requires_grad_()
    result = run(module, drive)
    (result * weight).sum().backward()
    assert drive.grad is not None
    assert module.weight.grad is not None
    return result.detach(), drive.grad, module.weight.grad.clone()


@pytest.mark.parametrize("rate", [0.0, 0.002, 0.14, 0.34])
@pytest.mark.parametrize("shape", SHAPES)
def test_sums_and_gradients_are_those_of_double_precision(shape: tuple[int, ...], rate: float, used: list[int]) -> None:
    torch.manual_seed(0)
    *sizes, outputs = shape
    module, x = conv(sizes[2], outputs), counts(tuple(sizes), rate)
    weight = torch.randn(*sizes[:2], outputs, *sizes[3:])
    actual = gradients(module, x, weight, convolve)
    exact = copy.deepcopy(module).double()
    expected = gradients(exact, x.double(), weight.double(), lambda net, y: net(y))
    if (x != 0).float().mean() <= spike_conv.MOST_FIRING:
        assert used
    for ours, theirs in zip(actual, expected, strict=True):
        assert ours.shape == theirs.shape
        assert torch.allclose(ours.double(), theirs, rtol=1e-5, atol=3e-6 * max(1.0, float(theirs.abs().max())))


@pytest.mark.usefixtures("threads")
def test_every_number_of_threads_gives_the_same_bits(used: list[int]) -> None:
    torch.manual_seed(0)
    module, x = conv(48, 128), counts((2, 9, 48, 11, 6), 0.2)
    weight = torch.randn(2, 9, 128, 11, 6)
    seen = []
    for number in (1, 2, 3, 1):
        torch.set_num_threads(number)
        seen.append(gradients(module, x, weight, convolve))
    assert len(used) == 4
    assert all(torch.equal(a, b) for other in seen[1:] for a, b in zip(seen[0], other, strict=True))


@pytest.mark.parametrize(
    "others",
    [
        {"stride": 2},
        {"padding": 0},
        {"kernel_size": 1, "padding": 0},
        {"dilation": 2, "padding": 2},
        {"groups": 2},
        {"bias": True},
        {"padding_mode": "circular"},
    ],
)
def test_other_convolutions_stay_torchs(others: dict[str, Any], used: list[int]) -> None:
    torch.manual_seed(0)
    module, x = conv(16, 64, **others), counts((2, 2, 16, 6, 6), 0.1)
    assert torch.equal(convolve(module, x), module(x))
    assert not used


@pytest.mark.parametrize(
    "case", ["evaluation", "many fire", "layout", "hooks", "autocast", "64 bits", "outputs", "inputs"]
)
def test_torch_does_what_spikes_would_not_do_better_or_not_at_all(case: str, used: list[int]) -> None:
    torch.manual_seed(0)
    module = conv(8 if case == "inputs" else 16, 60 if case == "outputs" else 64)
    x = counts((2, 2, module.in_channels, 6, 6), 0.6 if case == "many fire" else 0.1)
    seen: list[Tensor] = []
    if case == "evaluation":
        module.eval()
    elif case == "layout":
        x = x.contiguous()
    elif case == "hooks":
        module.register_forward_hook(lambda _, __, result: seen.append(result))
    elif case == "64 bits":
        module, x = module.double(), x.double()
    with torch.autocast("cpu", torch.bfloat16, enabled=case == "autocast"):
        assert torch.equal(convolve(module, x), module(x))
    assert not used
    assert len(seen) == 2 * (case == "hooks")


def test_small_layers_stay_torchs(monkeypatch: pytest.MonkeyPatch, used: list[int]) -> None:
    monkeypatch.undo()
    module = conv(16, 64)
    convolve(module, counts((2, 2, 16, 6, 6), 0.1))
    assert not used


def test_only_the_gradients_that_are_wanted_are_computed(used: list[int]) -> None:
    torch.manual_seed(0)
    module, x = conv(16, 64), counts((2, 2, 16, 6, 6), 0.1)
    both = gradients(module, x, torch.ones(2, 2, 64, 6, 6), convolve)
    module.zero_grad()
    convolve(module, x).sum().backward()  # the input wants none
    assert module.weight.grad is not None
    assert torch.equal(module.weight.grad, both[2])
    module.weight.requires_grad_(False)
    drive = x.clone(memory_format=torch.preserve_format).requires_grad_()
    convolve(module, drive).sum().backward()
    assert drive.grad is not None
    assert torch.equal(drive.grad, both[1])
    assert not convolve(module, x).requires_grad
    assert len(used) == 4


def test_the_result_may_be_changed_in_place() -> None:
    module, x = conv(16, 64), counts((2, 2, 16, 6, 6), 0.1)
    torch.relu_(convolve(module, x)).sum().backward()
    actual, module.weight.grad = module.weight.grad, None
    torch.relu(module(x)).sum().backward()
    assert torch.allclose(actual, module.weight.grad, rtol=1e-4, atol=1e-4)


def test_another_default_type_changes_nothing() -> None:
    torch.manual_seed(0)
    module, x, weight = conv(16, 64), counts((2, 2, 16, 6, 6), 0.1), torch.randn(2, 2, 64, 6, 6)
    expected = gradients(module, x, weight, convolve)
    torch.set_default_dtype(torch.float64)
    try:
        actual = gradients(module, x, weight, convolve)
    finally:
        torch.set_default_dtype(torch.float32)
    assert all(torch.equal(a, b) for a, b in zip(actual, expected, strict=True))


def test_a_wrong_number_of_channels_is_torchs_error(used: list[int]) -> None:
    with pytest.raises(RuntimeError, match="to have 64 channels"):
        convolve(conv(64, 64), counts((2, 2, 16, 6, 6), 0.1))
    assert not used


class Doubled(layer.Conv2d):
    """A convolution with a way of its own."""

    def forward(self, x: Tensor) -> Tensor:
        return 2.0 * super().forward(x)


def test_a_convolution_with_a_way_of_its_own_keeps_it(used: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    module = Doubled(16, 64, 3, padding=1, bias=False, step_mode="m")
    x = counts((2, 2, 16, 6, 6), 0.1)
    assert torch.equal(convolve(module, x), module(x))
    patched = conv(16, 64)
    monkeypatch.setattr(patched, "forward", lambda y: y.sum())
    assert torch.equal(convolve(patched, x), x.sum())
    assert not used


@pytest.mark.parametrize("recompute", [False, True])
def test_an_encoder_learns_the_same_by_spikes(
    recompute: bool, used: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    encoder = build_encoder(EncoderConfig(name="sew_resnet18"))
    other = copy.deepcopy(encoder)
    if recompute:
        recompute_blocks(encoder)
    x = torch.poisson(torch.full((3, 2, 2, 32, 32), 0.3))
    encoder(x).square().sum().backward()
    assert len(used) >= 8
    monkeypatch.setattr(spike_conv, "MOST_FIRING", -1.0)
    other(x).square().sum().backward()
    # A sum at a threshold may fall to its other side: most of the gradient is the same, not all.
    ours, theirs = (torch.cat([p.grad.flatten() for p in net.parameters()]) for net in (encoder, other))
    assert float(torch.cosine_similarity(ours, theirs, dim=0)) > 0.98
