"""Our neuron is spikingjelly's: the same spikes, the same gradient."""

from __future__ import annotations

import pytest
import torch
from spikingjelly.activation_based import neuron

from neuromoco.config import NeuronConfig
from neuromoco.snn.neurons import SURROGATES, lif, reset_state


def reference(config: NeuronConfig) -> neuron.LIFNode:
    return neuron.LIFNode(
        tau=config.tau,
        v_threshold=config.v_threshold,
        v_reset=0.0,
        surrogate_function=SURROGATES[config.surrogate](),
        detach_reset=True,
        step_mode="m",
    )


@pytest.mark.parametrize("surrogate", ["atan", "sigmoid"])
@pytest.mark.parametrize(("tau", "threshold", "steps"), [(2.0, 1.0, 6), (1.3, 0.5, 1), (5.0, 0.2, 16)])
def test_spikes_and_gradients_equal_spikingjellys(surrogate: str, tau: float, threshold: float, steps: int) -> None:
    config = NeuronConfig(tau=tau, v_threshold=threshold, surrogate=surrogate)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(steps, 3, 50, generator=generator) * 2
    weight = torch.randn(steps, 3, 50, generator=generator)
    results = []
    for node in (lif(config), reference(config)):
        drive = x.clone().requires_grad_()
        spikes = node(drive)
        (spikes * weight).sum().backward()
        results.append((spikes.detach(), drive.grad, node.v))
    actual, theirs = results
    assert 0.02 < float(actual[0].mean()) < 0.9
    assert torch.equal(actual[0], theirs[0])
    assert torch.equal(actual[2], theirs[2])
    assert torch.allclose(actual[1], theirs[1], atol=1e-6)


def test_the_equation_by_hand() -> None:
    node = lif(NeuronConfig(tau=2.0, v_threshold=1.0))
    spikes = node(torch.tensor([1.0, 1.5, 0.0, 2.0, 1.9]).view(5, 1))
    # h = 0.5, 1.0 (fires at the threshold itself), 0, 1.0 (fires), 0.95
    assert spikes.flatten().tolist() == [0.0, 1.0, 0.0, 1.0, 0.0]
    assert node.v.item() == pytest.approx(0.95)


def test_state_lasts_until_it_is_reset() -> None:
    node, other = lif(NeuronConfig()), reference(NeuronConfig())
    x = torch.full((3, 1), 0.9)
    first = node(x), other(x)
    second = node(x), other(x)
    assert torch.equal(*first)
    assert torch.equal(*second)
    reset_state(node)
    assert torch.equal(node(x), first[0])
