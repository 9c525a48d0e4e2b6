"""Estimates parameters, memory and steps of a run without reading a recording or computing a value."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed._tools.mem_tracker import MemTracker

from neuromoco.checkpoint import FINE_TUNED, FROM_SCRATCH
from neuromoco.config import ClassifyConfig, OptimizerConfig, PretrainConfig, RunConfig
from neuromoco.datasets.sizes import training_sizes
from neuromoco.datasets.splits import COMPARED_FOLDS, divide_classes, folds_to_compare
from neuromoco.encoders import Encoder, build_encoder
from neuromoco.encoders.blocks import Blocks, recompute_blocks
from neuromoco.errors import ConfigError
from neuromoco.evaluation.accuracy import pass_size
from neuromoco.frames import POLARITIES
from neuromoco.moco import Projector
from neuromoco.snn.neurons import evaluation_mode
from neuromoco.train.compare import compared_settings
from neuromoco.train.pool import pool_batch_size
from neuromoco.train.processes import divide_batch
from neuromoco.train.rivals import build_rival
from neuromoco.train.start import resolve_init

FLOAT = 4  # bytes; weights, gradients and optimizers are float32 at any precision
LIVING = ("Activation", "Temp", "Other")  # of what the tracker tells apart, all but weights
HOW = (
    "memory is counted in the encoder's forward pass of one recording without values: the tensors saved for the "
    "backward pass, times the recordings per pass; with recomputed blocks their inputs, and the inside of the largest. "
    "Evaluation needs the largest sum of tensors that live at a time, times its own recordings per pass; the total has "
    "the larger of both. Temporary tensors and the device's libraries need memory in addition"
)


def dry_run(config: RunConfig) -> dict[str, Any]:
    """Estimates a run, as data for JSON.

    Returns:
        "data", "recordings" and "classes" (0 if unlabelled); "stages": for each stage its parameters, optimizer steps
        and "memory_bytes" by use, with a pool also its "recordings" and how many of them a pass takes in addition;
        "how": how memory is counted; "comparison", if stage "all" compares: "networks" that are trained with labels,
        and the "folds" in which (0: on validation recordings, or not at all).

    Raises:
        ConfigError: settings that cannot be run, or a missing folder.
        CheckpointError: `init` cannot be used.
    """
    config = resolve_init(config)
    sizes, classes = training_sizes(config.data, config.recordings)
    stages = _stages(config)
    with FakeTensorMode():
        encoder = build_encoder(config.encoder)
        if config.compute.recompute_blocks:
            recompute_blocks(build_encoder(config.encoder))  # only checks that it is possible
        activations, evaluation = _activations(encoder, config), _evaluation(encoder, config)
    held = config.held_out
    available = [size - (len(range(held.fold, size, held.folds)) if held else 0) for size in sizes]
    if not classes and config.stage != "pretrain":
        raise ConfigError(f"{config.data}: holds no class folders; training with labels needs one folder per class")
    estimates = {
        stage: _estimate(own, stage, encoder, activations, evaluation, available) for stage, own in stages.items()
    }
    comparison = (
        {"comparison": _comparison(config, available)} if FROM_SCRATCH in stages and FINE_TUNED in stages else {}
    )
    count = {"recordings": sum(sizes), "classes": len(sizes) if classes else 0}
    return {"data": config.data, **count, "stages": estimates, **comparison, "how": HOW}


def _stages(config: RunConfig) -> dict[str, RunConfig]:
    """The settings of each stage."""
    if config.stage != "all":
        return {config.stage: config}
    if not config.compare:
        return {"pretrain": config, FINE_TUNED: config}
    compared = compared_settings(config)
    return {"pretrain": config, **{name: compared[name] for name in (FINE_TUNED, FROM_SCRATCH)}}


def _comparison(config: RunConfig, sizes: Sequence[int]) -> dict[str, int]:
    settings = config.finetune
    parts = divide_classes(sizes, settings.validation, settings.labels_per_class)
    folds = folds_to_compare(parts, settings.calibration_folds or COMPARED_FOLDS)
    compares = folds or any(held for _, held in parts)
    return {"networks": 2 * folds + 2 if compares else 1, "folds": folds}


def _estimate(
    config: RunConfig, stage: str, encoder: Encoder, activations: int, evaluation: int, sizes: Sequence[int]
) -> dict[str, Any]:
    """Parameters, memory and steps of a stage on classes of these sizes.

    `activations` are bytes per recording, `evaluation` those of a pass without gradients.
    """
    settings: PretrainConfig | ClassifyConfig = getattr(config, stage)
    f, batch_size, views, groups = config.frames, settings.batch_size, 1, 1
    queue, queue_facts = {}, {}
    pool: dict[str, int] = {}
    if isinstance(settings, PretrainConfig):
        moco = settings.moco
        count = round(settings.share * sum(sizes))
        if count < max(2, batch_size):
            raise ConfigError(f"{count} recordings are fewer than a batch of {batch_size} (at least 2)")
        views, steps = 2, count // batch_size
        if settings.method == "moco":
            groups = moco.groups
            widths = (encoder.feature_dim, moco.hidden_dim, moco.embed_dim)
            learned = _size(encoder) + _size(Projector(*widths, moco.head == "batch_norm"))
            fixed = learned  # the key encoder
            queue = {"queue": FLOAT * moco.embed_dim * f.steps * moco.queue_size}
            queue_facts = {"queue_size": moco.queue_size, "queue_share": moco.queue_size / count}
        else:
            rival = build_rival(settings.method, build_encoder(config.encoder), settings.rival)
            learned = sum(parameter.numel() for parameter in rival.parameters() if parameter.requires_grad)
            fixed = _size(rival) - learned
    else:
        counts = divide_classes(sizes, settings.validation, settings.labels_per_class)
        count = sum(train for train, _ in counts)
        steps = math.ceil(count / batch_size)
        learned = (encoder.feature_dim + 1) * len(sizes)
        if settings.freeze_encoder:
            fixed, activations = _size(encoder), 0
        else:
            fixed, learned = 0, learned + _size(encoder)
        if pool := _pool(settings, sizes, sum(map(sum, counts))):
            fixed += fixed + learned  # the teacher
    per_pass = divide_batch(stage, batch_size, settings.accumulate, 1, groups)
    pooled = pool.get("recordings_a_pass", 0)
    # With a pool: the labelled batch, the pool's for teacher and student, and the joint batch of the student.
    frames = 2 * per_pass + 3 * pooled if pool else views * per_pass
    kept = {"weights_and_optimizer": _weights(learned, settings.optimizer) + FLOAT * fixed, **queue}
    passing = {
        "activations": activations * (per_pass + pooled),
        "frames": FLOAT * f.steps * POLARITIES * f.height * f.width * frames,
    }
    memory = {
        **kept,
        **passing,
        "evaluation": evaluation,
        "total": sum(kept.values()) + max(sum(passing.values()), evaluation),
    }
    return {
        "recordings": count,
        "parameters": {"encoder": _size(encoder), "learned": learned},
        "epochs": settings.epochs,
        "batch_size": batch_size,
        "recordings_a_pass": per_pass,
        "steps_an_epoch": steps,
        "steps": settings.epochs * steps,
        "memory_bytes": memory,
        **queue_facts,
        **({"pool": pool} if pool else {}),
        "activation_bytes_a_recording": activations,
    }


def _pool(settings: ClassifyConfig, sizes: Sequence[int], labelled: int) -> dict[str, int]:
    """The recordings of a stage's pool, and how many of them a pass takes; empty without one."""
    left = sum(sizes) - labelled
    if not settings.pool or not left:
        return {}
    return {"recordings": left, "recordings_a_pass": pool_batch_size(settings, settings.pool, 1)}


def _size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _weights(learned: int, optimizer: OptimizerConfig) -> int:
    """Bytes of weights, gradients and the optimizer's state."""
    states = 2 if optimizer.name == "adamw" else int(optimizer.sgd_momentum > 0)
    return FLOAT * learned * (2 + states)


def _activations(encoder: Encoder, config: RunConfig) -> int:
    """Bytes saved for the backward pass of one recording, in a `FakeTensorMode`; the C kernels need less."""
    f = config.frames
    frames = torch.zeros(f.steps, 1, POLARITIES, f.height, f.width)
    saved = saved_tensor_bytes(encoder.train(), frames, half=config.compute.precision != "off")
    inside = saved.inputs + max(saved.inside) if config.compute.recompute_blocks else sum(saved.inside)
    return saved.outside + inside


def _evaluation(encoder: Encoder, config: RunConfig) -> int:
    """Bytes that live at most at a time in a pass without gradients, in a `FakeTensorMode`."""
    f = config.frames
    shape = POLARITIES, f.height, f.width
    half = config.compute.precision != "off"
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=half), evaluation_mode(encoder):
        two, three = (living_bytes(encoder, torch.zeros(steps, 1, *shape)) for steps in (2, 3))
    values = f.steps * math.prod(shape)
    return pass_size(values) * (FLOAT * values + max(two, two + (f.steps - 2) * (three - two)))


def living_bytes(encoder: Encoder, frames: Tensor) -> int:
    """Bytes of the tensors that live at most at a time when an encoder takes frames, without weights and frames."""
    tracker = MemTracker()
    with tracker:
        encoder(frames)
    peaks: dict[Any, dict[Any, int]] = tracker.get_tracker_snapshot("peak")
    return sum(size for parts in peaks.values() for kind, size in parts.items() if kind in LIVING)


class SavedBytes(NamedTuple):
    """Bytes of the tensors that autograd saves for the backward pass, without weights and frames."""

    inside: tuple[int, ...]  # in each of the `neuromoco.encoders.blocks`
    outside: int
    inputs: int  # of the blocks, saved instead of `inside` if blocks are recomputed


def saved_tensor_bytes(encoder: Encoder, frames: Tensor, half: bool) -> SavedBytes:
    """Measures what autograd saves when an encoder in training mode takes frames; `half` autocasts to bfloat16."""
    blocks = [block for chain in encoder.modules() if isinstance(chain, Blocks) for block in chain.blocks()]
    inside, outside = [0] * len(blocks), 0
    current: int | None = None
    external = {_storage_id(tensor): tensor.untyped_storage() for tensor in (*encoder.parameters(), frames)}
    counted = dict(external)  # references keep an address from being reused
    inputs: dict[int, torch.UntypedStorage] = {}

    def pack(tensor: Tensor) -> Tensor:
        nonlocal outside
        if _storage_id(tensor) not in counted:
            counted[_storage_id(tensor)] = tensor.untyped_storage()
            if current is None:
                outside += tensor.untyped_storage().nbytes()
            else:
                inside[current] += tensor.untyped_storage().nbytes()
        return tensor

    def enter(number: int, _: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        nonlocal current
        current = number
        inputs.setdefault(_storage_id(arguments[0]), arguments[0].untyped_storage())

    def leave(*_: Any) -> None:
        nonlocal current
        current = None

    hooks = []
    for number, block in enumerate(blocks):
        hooks += [block[0].register_forward_pre_hook(partial(enter, number)), block[-1].register_forward_hook(leave)]
    with (
        torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor),
        torch.autocast("cpu", torch.bfloat16, enabled=half),
    ):
        encoder(frames)
    for hook in hooks:
        hook.remove()
    size = sum(storage.nbytes() for key, storage in inputs.items() if key not in external)
    return SavedBytes(tuple(inside), outside, size)


def _storage_id(tensor: Tensor) -> int:
    """Identifies storages, even those without memory."""
    address: int = tensor.untyped_storage()._cdata
    return address
