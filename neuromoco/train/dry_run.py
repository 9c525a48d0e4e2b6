"""What a run would take: parameters, memory and steps, with no recording read and no value computed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from neuromoco.config import ClassifyConfig, OptimizerConfig, PretrainConfig, RunConfig
from neuromoco.datasets.sizes import training_sizes
from neuromoco.encoders import Encoder, build_encoder
from neuromoco.encoders.blocks import Blocks, recompute_blocks
from neuromoco.errors import ConfigError
from neuromoco.frames import POLARITIES
from neuromoco.moco import Projector
from neuromoco.train.processes import divide_batch
from neuromoco.train.stages import settled

FLOAT = 4  # bytes; weights, gradients and optimizers are float32 at any precision
HOW = (
    "memory is counted in the encoder's forward pass of one recording without values: the tensors that the way back "
    "needs, times the recordings of a pass; with recomputed blocks what enters each, and the inside of the largest. "
    "Temporary tensors, and the device's own libraries, come on top"
)


def dry_run(config: RunConfig) -> dict[str, Any]:
    """Plain data for JSON: what is trained on, and for each stage parameters, memory and steps.

    Raises:
        ConfigError: settings that cannot be run, or a folder that is not there.
        CheckpointError: `init` cannot be used.
    """
    config = settled(config)
    sizes, classes = training_sizes(config.data)
    stages = ("pretrain", "finetune") if config.stage == "all" else (config.stage,)
    with FakeTensorMode():
        encoder = build_encoder(config.encoder)
        if config.compute.recompute_blocks:
            recompute_blocks(build_encoder(config.encoder))  # for its refusal alone: what is counted is not recomputed
        activations = _activations(encoder, config)
    seen = [size - _held_out(size, config) for size in sizes]
    found = {}
    for stage in stages:
        if stage == "pretrain":
            found[stage] = _pretrain(config, config.pretrain, encoder, activations, sum(seen))
            continue
        if not classes:
            raise ConfigError(f"{config.data}: holds no class folders; training with labels needs one folder a class")
        settings = config.finetune if stage == "finetune" else config.supervised
        found[stage] = _classify(config, settings, encoder, activations, seen)
    count = {"recordings": sum(sizes), "classes": len(sizes) if classes else 0}
    return {"data": config.data, **count, "stages": found, "how": HOW}


def _held_out(size: int, config: RunConfig) -> int:
    held = config.held_out
    return len(range(held.fold, size, held.folds)) if held else 0


def _pretrain(
    config: RunConfig, settings: PretrainConfig, encoder: Encoder, activations: int, count: int
) -> dict[str, Any]:
    moco = settings.moco
    count = round(settings.share * count)
    if count < max(2, settings.batch_size):
        raise ConfigError(f"{count} recordings are fewer than a batch of {settings.batch_size} (at least 2)")
    a_pass = divide_batch("pretrain", settings.batch_size, settings.accumulate, 1, moco.groups)
    projector = Projector(encoder.feature_dim, moco.hidden_dim, moco.embed_dim)
    learned = _size(encoder) + _size(projector)
    memory = {
        "weights_and_optimizer": _weights(learned, settings.optimizer) + FLOAT * learned,  # of the key encoder
        "queue": FLOAT * moco.embed_dim * config.frames.steps * moco.queue_size,
        "activations": activations * a_pass,
    }
    return {
        **_facts(config, settings, encoder, learned, memory, count, count // settings.batch_size, views=2),
        "queue_size": moco.queue_size,
        "queue_share": moco.queue_size / count,
        "activation_bytes_a_recording": activations,
    }


def _classify(
    config: RunConfig, settings: ClassifyConfig, encoder: Encoder, activations: int, sizes: Sequence[int]
) -> dict[str, Any]:
    count = 0
    for size in sizes:
        left = size - (max(1, round(settings.validation * size)) if settings.validation else 0)
        count += left if settings.labels_per_class is None else min(left, settings.labels_per_class)
    head = (encoder.feature_dim + 1) * len(sizes)
    learned = head + (0 if settings.freeze_encoder else _size(encoder))
    activations = 0 if settings.freeze_encoder else activations
    memory = {
        "weights_and_optimizer": _weights(learned, settings.optimizer) + FLOAT * (_size(encoder) + head - learned),
        "activations": activations * divide_batch(config.stage, settings.batch_size, settings.accumulate, 1),
    }
    steps = math.ceil(count / settings.batch_size)
    facts = _facts(config, settings, encoder, learned, memory, count, steps, views=1)
    return facts | {"activation_bytes_a_recording": activations}


def _facts(
    config: RunConfig,
    settings: PretrainConfig | ClassifyConfig,
    encoder: Encoder,
    learned: int,
    memory: dict[str, int],
    count: int,
    steps: int,
    views: int,
) -> dict[str, Any]:
    f, a_pass = config.frames, settings.batch_size // settings.accumulate
    memory = memory | {"frames": FLOAT * f.steps * POLARITIES * f.height * f.width * a_pass * views}
    return {
        "recordings": count,
        "parameters": {"encoder": _size(encoder), "learned": learned},
        "epochs": settings.epochs,
        "batch_size": settings.batch_size,
        "recordings_a_pass": a_pass,
        "steps_an_epoch": steps,
        "steps": settings.epochs * steps,
        "memory_bytes": memory | {"total": sum(memory.values())},
    }


def _size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _weights(learned: int, optimizer: OptimizerConfig) -> int:
    """Weights, gradients, and what the optimizer keeps of each weight."""
    kept = 2 if optimizer.name == "adamw" else int(optimizer.sgd_momentum > 0)
    return FLOAT * learned * (2 + kept)


def _activations(encoder: Encoder, config: RunConfig) -> int:
    """Bytes that the way back needs of one recording's forward pass; to be called in a `FakeTensorMode`.

    With the compiled pass of `neuromoco.snn.fused`, which CPUs take, it is less.
    """
    f = config.frames
    frames = torch.zeros(f.steps, 1, POLARITIES, f.height, f.width)
    kept = kept_bytes(encoder.train(), frames, half=config.compute.precision != "off")
    if not config.compute.recompute_blocks:
        return sum(kept.inside) + kept.outside
    return kept.entering + kept.outside + max(kept.inside)


class Kept(NamedTuple):
    """Bytes of the tensors that the way back needs, without weights and without the frames themselves.

    Attributes:
        inside: of each block, see `neuromoco.encoders.blocks`.
        outside: of none.
        entering: of what enters the blocks; if they are computed again, this is kept instead of `inside`.
    """

    inside: tuple[int, ...]
    outside: int
    entering: int


def kept_bytes(encoder: Encoder, frames: Tensor, half: bool) -> Kept:
    """What autograd keeps of a forward pass.

    Args:
        encoder: in training mode.
        frames: float [T, N, P, H, W].
        half: compute in 16 bits where that is allowed, as precision "bf16" does.
    """
    blocks = [block for chain in encoder.modules() if isinstance(chain, Blocks) for block in chain.blocks()]
    inside, outside, entering = [0] * len(blocks), 0, 0
    current: int | None = None
    known = {_storage_id(weight): weight.untyped_storage() for weight in (*encoder.parameters(), frames)}
    entered = dict(known)  # holding each storage keeps its address from being used again

    def pack(tensor: Tensor) -> Tensor:
        nonlocal outside
        if _storage_id(tensor) not in known:
            known[_storage_id(tensor)] = tensor.untyped_storage()
            if current is None:
                outside += tensor.untyped_storage().nbytes()
            else:
                inside[current] += tensor.untyped_storage().nbytes()
        return tensor

    def begin(number: int, _: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        nonlocal current, entering
        current = number
        if _storage_id(inputs[0]) not in entered:
            entered[_storage_id(inputs[0])] = inputs[0].untyped_storage()
            entering += inputs[0].untyped_storage().nbytes()

    def end(*_: Any) -> None:
        nonlocal current
        current = None

    hooks = []
    for number, block in enumerate(blocks):
        hooks += [block[0].register_forward_pre_hook(partial(begin, number)), block[-1].register_forward_hook(end)]
    keeping = torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor)
    with keeping, torch.autocast("cpu", torch.bfloat16, enabled=half):
        encoder(frames)
    for hook in hooks:
        hook.remove()
    return Kept(tuple(inside), outside, entering)


def _storage_id(tensor: Tensor) -> int:
    """Tells storages apart, also those without memory."""
    return tensor.untyped_storage()._cdata
