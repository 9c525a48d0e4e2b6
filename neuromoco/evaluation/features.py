"""Features of recordings as a trained encoder gives them, nothing trained: everything in evaluation mode."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from neuromoco.checkpoint import CheckpointHeader, load_into, load_tensors, read_header
from neuromoco.datasets.cache import FrameStore
from neuromoco.encoders import Encoder, build_encoder
from neuromoco.snn.neurons import LIFNode

BATCH = 128
HEAD = "encoder."  # how a classifier's file names its encoder's tensors


def load_encoder(path: Path | str, device: torch.device) -> tuple[Encoder, CheckpointHeader]:
    """The encoder of a checkpoint, pre-trained or a classifier's, in evaluation mode, and the checkpoint's header.

    Raises:
        CheckpointError: no readable checkpoint.
    """
    header, tensors = read_header(path), load_tensors(path)
    if header.kind == "classifier":
        tensors = {name.removeprefix(HEAD): tensor for name, tensor in tensors.items() if name.startswith(HEAD)}
    encoder = build_encoder(header.encoder)
    load_into(encoder, tensors, path)
    return encoder.to(device).eval().requires_grad_(False), header


def features(
    encoder: Encoder, store: FrameStore, indices: Sequence[int], device: torch.device, per_step: bool = False
) -> NDArray[np.float32]:
    """Features of S recordings, without augmentation. No random number is drawn, no batch norm moves.

    Args:
        encoder: on `device`; trained on or not, it is in evaluation mode meanwhile.
        store: frames of a set.
        indices: S rows of it.
        device: where to compute.
        per_step: keep the time steps.

    Returns:
        float32 [S, D], the mean over time; per step [S, T, D].
    """
    starts = range(0, len(indices), BATCH)
    found = (features_by_step(encoder, store.frames[np.asarray(indices[at : at + BATCH])], device) for at in starts)
    return np.concatenate([batch if per_step else batch.mean(1) for batch in found])


@torch.inference_mode()
def features_by_step(
    encoder: Encoder, frames: NDArray[np.unsignedinteger[Any]], device: torch.device
) -> NDArray[np.float32]:
    """Features [N, T, D] of one batch of frames [N, T, P, H, W], as `features` makes them."""
    inputs = torch.from_numpy(np.ascontiguousarray(frames.swapaxes(0, 1), np.float32))  # [T, N, P, H, W]
    with evaluating(encoder):
        answer: Tensor = encoder(inputs.to(device))  # [T, N, D]
    return answer.float().transpose(0, 1).cpu().numpy()


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Evaluation mode for a while; every part then is as it was, the frozen ones too."""
    before = {part: part.training for part in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for part, training in before.items():
            part.training = training


@contextmanager
def spike_rates(encoder: Encoder) -> Iterator[dict[str, float]]:
    """Fills a dictionary with each layer's share of neurons and steps that spike, in what runs meanwhile, 0 to 1."""
    rates: dict[str, float] = {}
    totals: dict[str, tuple[Tensor, int]] = {}

    def count(name: str, spikes: Tensor) -> None:
        before, number = totals.get(name, (torch.zeros((), device=spikes.device), 0))
        totals[name] = before + spikes.sum(), number + spikes.numel()

    layers = [(name, part) for name, part in encoder.body.named_modules() if isinstance(part, LIFNode)]
    hooks = [
        part.register_forward_hook(lambda _, __, spikes, name=name: count(name, spikes.detach()))
        for name, part in layers
    ]
    try:
        yield rates
    finally:
        for hook in hooks:
            hook.remove()
        rates.update({name: float(spikes / number) for name, (spikes, number) in totals.items()})


def effective_rank(values: NDArray[np.floating[Any]]) -> float:
    """exp of the entropy of the singular values' shares (Roy and Vetterli 2007; RankMe, arXiv 2210.02885).

    Args:
        values: features [S, D].

    Returns:
        1 where all rows are multiples of one (collapse), at most min(S, D); 0 where all values are 0.
    """
    singular = np.linalg.svd(values.astype(np.float64), compute_uv=False)
    if not singular.sum():
        return 0.0
    shares = singular / singular.sum()
    shares = shares[shares > 0]
    return float(np.exp(-(shares * np.log(shares)).sum()))


def state_sha256(module: nn.Module) -> str:
    """A hash of all parameters and buffers, by name."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
