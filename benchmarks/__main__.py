"""Speed compared with peers, in one run. Every pair is first checked to give the same result."""

from __future__ import annotations

import os

import torch
from spikingjelly.activation_based import neuron

from benchmarks import loading, step
from benchmarks.timing import paired, report
from neuromoco.config import NeuronConfig
from neuromoco.datasets.digits import DIGIT_MOTION, DIGIT_SENSOR, digit_images
from neuromoco.simulate import record
from neuromoco.snn.neurons import SURROGATES, lif, reset_state

DIGITS = 60


def neurons() -> None:
    """Forward and backward of a layer of a million neurons over 10 steps."""
    config = NeuronConfig()
    peer = neuron.LIFNode(
        tau=config.tau,
        v_reset=0.0,
        surrogate_function=SURROGATES[config.surrogate](),
        detach_reset=True,
        step_mode="m",
    )
    x = torch.randn(10, 1_000_000).mul_(2).requires_grad_()

    def run(node: neuron.LIFNode) -> torch.Tensor:
        reset_state(node)
        x.grad = None
        node(x).sum().backward()
        assert x.grad is not None
        return x.grad

    own = lif(config)
    assert torch.allclose(run(own), run(peer), atol=1e-6)
    report("LIF forward + backward, [10, 1 M]", "spikingjelly", paired(lambda: run(own), lambda: run(peer)))


def camera() -> None:
    """The simulated camera has no peer installed: milliseconds a digit, and all digits at that rate."""
    images, _ = digit_images()

    def work() -> None:
        for index in range(DIGITS):
            record(images[index], sensor=DIGIT_SENSOR, motion=DIGIT_MOTION, seed=index)

    seconds, again, _ = paired(work, work, runs=3)
    digit = (seconds + again) / 2 / DIGITS
    print(f"simulated camera: {digit * 1e3:.1f} ms a digit, {digit * 1800:.1f} s for 1,800")


if __name__ == "__main__":
    print(f"{torch.get_num_threads()} torch threads, {os.cpu_count()} cores; medians, ratio peer / ours")
    neurons()
    camera()
    loading.main()
    step.main()
