"""One NeuroMoCo step of this project compared with the same step written plainly with spikingjelly's modules.

    python -m benchmarks.step

Both have the same weights, batch and settings, each in a process of its own. Before anything is timed, losses and
gradients are compared with convolutions in torch's default layout, where they are rounded alike, so that no spike can
differ. As it is timed, this project lays channels last and convolves by spikes; that adds up in another order, a sum
that was at a threshold falls to the other side of it here and there, and what follows differs. By how much the loss
does is printed, compared with what weights changed by one unit in the last place do to spikingjelly's.

A third process takes spikingjelly's steps with freed memory kept, as this project trains, to show what that alone
is worth.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import torch
import torch.distributed
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.peer import ENCODERS, PlainStep
from benchmarks.timing import report, rounds
from neuromoco.config import EncoderConfig, MocoConfig, OptimizerConfig
from neuromoco.encoders import build_encoder
from neuromoco.moco import MoCo
from neuromoco.snn.memory import keep_freed_memory
from neuromoco.train.task import build_optimizer

STEPS, BATCH, SIDE = 10, 4, 128
LR = 1e-3
MOCO = MocoConfig(batch_norm="plain")  # spikingjelly has no other
ROUNDS = 9  # the first ones are slow: Linux hands out memory
# Relative; gradients by the norm of a parameter's.
LOSS_TOLERANCE, GRADIENT_TOLERANCE = 1e-5, 1e-3


def batch(seed: int = 0) -> tuple[Tensor, Tensor]:
    """Two views, float32 counts [T, N, P, H, W]."""
    generator = torch.Generator().manual_seed(seed)
    rates = torch.full((2, STEPS, BATCH, 2, SIDE, SIDE), 0.3)
    query, key = torch.poisson(rates, generator=generator)
    return query, key


def own_moco(name: str) -> MoCo:
    """This project's model, always with the same weights; no branch of a block is silent, as some are at first."""
    torch.manual_seed(0)
    moco = MoCo(build_encoder(EncoderConfig(name=name)), MOCO, STEPS)
    for module in moco.modules():
        if isinstance(module, _BatchNorm):
            nn.init.uniform_(module.weight, 1.5, 2.5)
    return moco


def own_step(moco: MoCo, forward: Callable[..., Any] | None = None) -> Callable[[Tensor, Tensor], Tensor]:
    """What training does with a batch.

    Args:
        moco: the model.
        forward: what to call instead of it: a wrapper around it.
    """
    optimizer = build_optimizer([{"params": list(moco.encoder_q.parameters()), "peak": LR}], OptimizerConfig(lr=LR))

    def step(query: Tensor, key: Tensor) -> Tensor:
        loss, keys = (forward or moco)(query, key)
        optimizer.zero_grad()
        loss.total.backward()
        optimizer.step()
        moco.update_key_encoder()
        moco.enqueue(keys)
        return loss.total.detach()

    return step


def one_ulp_off(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same weights, each moved to the next float32."""
    above = torch.tensor(math.inf)
    return {name: value.nextafter(above) if value.ndim > 1 else value for name, value in state.items()}


def check(name: str) -> None:
    """Whether both compute the same."""
    views = batch()
    losses, gradients = [], []
    with (
        patch("neuromoco.encoders.sew_resnet.channels_last", lambda x: x),
        patch("neuromoco.encoders.spikformer.channels_last", lambda x: x),
    ):
        moco = own_moco(name)
        peer = PlainStep(name, moco.state_dict(), MOCO, LR)
        for step, net in ((own_step(moco), moco.encoder_q), (peer, peer.encoder_q)):
            losses.append(step(*views).item())
            gradients.append([parameter.grad for parameter in net.parameters()])
    apart = abs(losses[0] / losses[1] - 1.0)
    assert apart <= LOSS_TOLERANCE, f"losses {losses}"
    worst = max(float((a - b).norm() / b.norm().clamp(min=1e-12)) for a, b in zip(*gradients, strict=True))
    assert worst <= GRADIENT_TOLERANCE, f"gradients {worst:.1e} apart"
    timed = own_step(own_moco(name))(*views).item()
    nudged = PlainStep(name, one_ulp_off(own_moco(name).state_dict()), MOCO, LR)(*views).item()
    print(f"  same layout: loss {losses[0]:.6f} and {losses[1]:.6f}, gradients at most {worst:.0e} apart")
    print(f"  as timed:    loss {timed:.6f}, {abs(timed / losses[1] - 1.0):.0e} apart")
    print(f"  spikingjelly with weights one unit in the last place off: {abs(nudged / losses[1] - 1.0):.0e} apart")


def matrix_peak() -> float:
    """GFLOP/s of the faster of a matrix product and a wide convolution; which is, differs between processors."""
    a, images, kernel = torch.randn(2048, 2048), torch.randn(40, 512, 16, 16), torch.randn(512, 512, 3, 3)
    images = images.contiguous(memory_format=torch.channels_last)
    works = (
        (2 * 2048**3, lambda: a @ a),
        (2 * 40 * 14 * 14 * 9 * 512**2, lambda: torch.conv2d(images, kernel)),
    )
    return max(work / min(_seconds(run) for _ in range(8)) / 1e9 for work, run in works)


def _seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


class Worker:
    """A process that takes steps, this project's or the peer's, when it is told to.

    Args:
        name: of the encoder.
        ours: whether the step is this project's.
        kept: whether the process keeps memory that is freed, as it does while this project trains.
    """

    _step: Callable[[], Tensor]  # in the process
    _before: float
    _kept = ExitStack()

    def __init__(self, name: str, ours: bool, kept: bool) -> None:
        self.process = ProcessPoolExecutor(1, get_context("spawn"))
        self.process.submit(Worker._begin, name, ours, kept).result()

    def step(self) -> None:
        """One step."""
        self.process.submit(Worker._take).result()

    def end(self) -> float:
        """MB that its steps took at most."""
        with self.process as process:
            return process.submit(Worker._peak).result()

    @staticmethod
    def _begin(name: str, ours: bool, kept: bool) -> None:
        if kept:
            Worker._kept.enter_context(keep_freed_memory())
        moco, views = own_moco(name), batch()
        step = own_step(moco) if ours else PlainStep(name, moco.state_dict(), MOCO, LR)
        Worker._step, Worker._before = staticmethod(lambda: step(*views)), _memory("VmRSS")

    @staticmethod
    def _take() -> None:
        Worker._step()

    @staticmethod
    def _peak() -> float:
        return _memory("VmHWM") - Worker._before


def _memory(what: str) -> float:
    """MB of this process, by a line of Linux's /proc/self/status: VmRSS now, VmHWM at most until now."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(what))
    return int(line.split()[1]) / 1024


def distributed_rate(name: str, rank: int, processes: int, store: str) -> float:
    """Samples per second of all processes together, the threads divided among them. To be called in a new process."""
    torch.set_num_threads(max(1, torch.get_num_threads() // processes))
    torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=processes)
    moco, views = own_moco(name), batch(rank)
    step = own_step(moco, DistributedDataParallel(moco) if processes > 1 else None)
    with keep_freed_memory():
        step(*views)
        seconds = median(_seconds(lambda: step(*views)) for _ in range(ROUNDS))
    torch.distributed.destroy_process_group()
    return BATCH * processes / seconds


def rate(name: str, processes: int) -> float:
    """Samples per second of so many processes."""
    with TemporaryDirectory() as folder, ProcessPoolExecutor(processes, get_context("spawn")) as pool:
        jobs = [pool.submit(distributed_rate, name, rank, processes, f"{folder}/store") for rank in range(processes)]
        return min(job.result() for job in jobs)


def work(name: str) -> float:
    """GFLOP of a step, as torch counts the peer's."""
    with FlopCounterMode(display=False) as counter:
        PlainStep(name, own_moco(name).state_dict(), MOCO, LR)(*batch())
    return counter.get_total_flops() / 1e9


def measure(name: str, peak: float) -> None:
    """Prints everything about one backbone."""
    workers = [Worker(name, True, True), Worker(name, False, False), Worker(name, False, True)]
    own, plain, kept = rounds(*(worker.step for worker in workers), runs=ROUNDS)
    for peer, seconds in (("spikingjelly", plain), ("the same, freed memory kept", kept)):
        ratio = median(b / a for a, b in zip(own, seconds, strict=True))
        report("  step", peer, (median(own), median(seconds), ratio))
    gflop = work(name)
    shares = [gflop / median(seconds) / peak for seconds in (own, plain)]
    print(f"  {gflop:.0f} GFLOP: {shares[0]:.0%} of the matrix peak; spikingjelly {shares[1]:.0%}")
    ours, theirs, _ = (worker.end() for worker in workers)
    print(f"  peak memory {ours:.0f} MB; spikingjelly {theirs:.0f} MB", flush=True)
    one, two = (rate(name, processes) for processes in (1, 2))
    print(f"  {one:.2f} samples/s with 1 process, {two:.2f} with 2", flush=True)


def main() -> None:
    """Both backbones."""
    peak = matrix_peak()
    print(
        f"one NeuroMoCo step, T = {STEPS}, batch {BATCH}, {SIDE} x {SIDE}; matrix peak {peak:.0f} GFLOP/s", flush=True
    )
    for name in ENCODERS:
        print(name)
        check(name)
        measure(name, peak)


if __name__ == "__main__":
    main()
