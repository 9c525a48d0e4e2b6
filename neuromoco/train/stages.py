"""Training by stage: settings in, a finished run folder out."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
from accelerate import Accelerator
from accelerate.utils import set_seed

from neuromoco.checkpoint import read_header
from neuromoco.classifier import check_network
from neuromoco.config import ClassifyConfig, RunConfig
from neuromoco.datasets import Listing, Reader, Recordings, Split, list_data, read_recordings
from neuromoco.datasets.splits import budget_split, describe_split, hold_out, split_by_class
from neuromoco.encoders import build_encoder
from neuromoco.encoders.blocks import recompute_blocks
from neuromoco.errors import CheckpointError, ConfigError, NeuromocoError
from neuromoco.support.console import console, escape
from neuromoco.support.files import write_json
from neuromoco.train import folds
from neuromoco.train.classify import ClassifyTask
from neuromoco.train.loop import fit
from neuromoco.train.pretrain import PretrainTask
from neuromoco.train.processes import build_accelerator, divide_batch, main_process_first
from neuromoco.train.rival_task import RivalTask
from neuromoco.train.run_folder import RunFolder
from neuromoco.train.task import Task
from neuromoco.train.trackers import check_trackers


def train(config: RunConfig, out: Path | str, device: str = "auto", read: Reader = read_recordings) -> dict[str, Any]:
    """Trains an encoder or a classifier and writes everything about the run to a folder.

    The folder receives `config.yaml` (the settings), `environment.json` (versions and machine), `split.json` (training
    and validation recordings), `left_out.json` (files that could not be read, if these are skipped), `metrics.jsonl`
    (one line per epoch), `curves.png`, `metrics.json` (last and chosen epoch), `weights/last.safetensors`,
    `weights/best.safetensors` if there is a validation set, and `state/`, from which `resume` continues after an
    interruption. If training cannot start, no folder is left behind.

    Args:
        config: complete settings, for example of `neuromoco.recipes.load_recipe`. `config.stage` is "pretrain" (without
            labels), "finetune" (needs `config.init`), "supervised" (from scratch), or "all" (pretrain, then finetune).
        out: the run folder, new or empty. Stage "all" writes its two runs to `out/pretrain` and `out/finetune`.
        device: "auto" (CUDA if there is one), "cpu" or "cuda".
        read: returns the recordings and their frames; the default reads from disk and caches the frames.

    Returns:
        The content of `metrics.json`: "last" and "best" (None without validation), each the metrics of an epoch by
        name. Rates of metrics are 0 to 1, "seconds" are of the epoch. Of the last stage if there are two.

    Raises:
        ConfigError: settings, data or folder cannot be used, or the loss became infinite or NaN.
        EventFileError: a recording cannot be read.
        CheckpointError: `config.init` cannot be used.
        MissingExtraError: the data set "digits" needs scikit-learn.

    Examples:
        >>> import neuromoco
        >>> from neuromoco.config import with_values
        >>> changes = {"stage": "pretrain", "data": "models/examples", "pretrain.epochs": 2, "pretrain.batch_size": 8}
        >>> config = with_values(neuromoco.load_recipe("tiny"), changes)
        >>> summary = neuromoco.train(config, "runs/digits", device="cpu")
        >>> summary["last"]["epoch"]
        2
    """
    run = RunFolder(out)
    accelerator = build_accelerator(device, config.seed, config.compute)

    def check() -> RunConfig:
        run.check_free()
        check_trackers(config.watch.trackers)
        return resolve_init(config)

    config = main_process_first(accelerator, check)
    try:
        _begin(run, config, accelerator)
        if config.stage == "all":  # fails before the pre-training rather than after it
            main_process_first(accelerator, lambda: _check_finetuning(config, accelerator))
        return _run_stages(run, config, accelerator, read)
    except NeuromocoError:
        # Without an epoch, or a state within one, there is nothing to resume.
        if accelerator.is_main_process and not any(any(run.path.rglob(name)) for name in ("metrics.jsonl", "step-*")):
            shutil.rmtree(run.path, ignore_errors=True)
        raise


def resume(out: Path | str, device: str = "auto", read: Reader = read_recordings) -> dict[str, Any]:
    """Continues an interrupted run with the settings in its folder.

    The run ends with the same weights and metrics as without the interruption, on the same machine and with the same
    number of processes.

    Args:
        out: the run folder that `train` has started. It is completed as `train` describes.
        device: "auto" (CUDA if there is one), "cpu" or "cuda".
        read: returns the recordings and their frames; the default reads from disk and caches the frames.

    Returns:
        The content of `metrics.json`, as `train` returns it.

    Raises:
        ConfigError: the folder holds no run or a complete one, the recordings have changed, or another number of
            processes started it.
        EventFileError: a recording cannot be read.
        CheckpointError: the checkpoint to start from cannot be used.

    Examples:
        >>> from neuromoco.train import resume
        >>> summary = resume("runs/digits")  # doctest: +SKIP
        >>> summary["last"]["epoch"]  # doctest: +SKIP
        100
    """
    run, config = RunFolder.open(out)
    if run.is_complete:
        raise ConfigError(f"{out}: is complete; its weights are in {run.last.parent}")
    accelerator = build_accelerator(device, config.seed, config.compute)
    accelerator.wait_for_everyone()  # before the main process writes
    _begin(run, config, accelerator)
    return _run_stages(run, config, accelerator, read)


def resolve_init(config: RunConfig) -> RunConfig:
    """Settings with encoder and frames of the checkpoint to start from, if there is one; checks `init`."""
    if config.stage != "finetune":
        if config.init:
            raise ConfigError(f"--init is for --stage finetune, not {config.stage}")
        return config
    if not config.init:
        raise ConfigError(
            "--stage finetune needs a pre-trained encoder: --init runs/.../weights/last.safetensors "
            "(or --stage supervised to train from scratch)"
        )
    header = read_header(config.init)
    if header.kind != "encoder" and not config.finetune.quantize:
        raise CheckpointError(
            f"{config.init}: is a trained classifier; --init takes a pre-trained encoder (a classifier with --quantize)"
        )
    check_network(config.init, header)
    return config.model_copy(update={"encoder": header.encoder, "frames": header.frames})


def _begin(run: RunFolder, config: RunConfig, accelerator: Accelerator) -> None:
    if accelerator.is_main_process:
        run.remove_partial_files()
        run.begin(config, accelerator.device.type)


def _run_stages(run: RunFolder, config: RunConfig, accelerator: Accelerator, read: Reader) -> dict[str, Any]:
    if config.stage != "all":
        return _run_stage(run, config, accelerator, read)
    pretrained, tuned = RunFolder(run.path / "pretrain"), RunFolder(run.path / "finetune")
    if not pretrained.is_complete:
        _run_stage(pretrained, config.model_copy(update={"stage": "pretrain"}), accelerator, read)
    tuning = resolve_init(config.model_copy(update={"stage": "finetune", "init": str(pretrained.last)}))
    summary = _run_stage(tuned, tuning, accelerator, read)
    if accelerator.is_main_process:
        write_json(run.summary, summary)
    return summary


def _run_stage(run: RunFolder, config: RunConfig, accelerator: Accelerator, read: Reader) -> dict[str, Any]:
    if accelerator.is_main_process:
        run.begin(config, accelerator.device.type)
    task = _seeded_task(run, config, accelerator, read)
    if isinstance(task, ClassifyTask) and task.settings.calibration_folds and not task.split.validation:
        folded = _fold_logits(task, run, accelerator)
        task = cast(ClassifyTask, _seeded_task(run, config, accelerator, read))
        task.folded = folded
    size = sum(parameter.numel() for parameter in task.model.parameters() if parameter.requires_grad)
    what = f"[bold]{config.stage}[/] {config.encoder.name}, {size / 1e3:.0f} k trainable parameters"
    console.print(f"{what}, in {escape(str(run.path))}", soft_wrap=True)
    summary = fit(task, run, accelerator, config.compute)
    if accelerator.is_main_process:
        shutil.rmtree(run.path / folds.FOLDER, ignore_errors=True)
    return summary


def _seeded_task(run: RunFolder, config: RunConfig, accelerator: Accelerator, read: Reader) -> Task:
    set_seed(config.seed)
    return main_process_first(accelerator, lambda: _build_task(run, config, accelerator, read))


def _fold_logits(task: ClassifyTask, run: RunFolder, accelerator: Accelerator) -> folds.Folded | None:
    """Logits of the training recordings by networks that were trained without them."""
    config = task.config.model_copy(update={"watch": task.config.watch.model_copy(update={"trackers": ()})})
    recordings = Recordings(task.listing, task.store, config.frames)

    def build(split: Split) -> ClassifyTask:
        return folds.FoldTask(config, build_encoder(config.encoder), recordings, split, accelerator)

    return folds.train_in_folds(task, build, run.path, accelerator)


def _build_task(run: RunFolder, config: RunConfig, accelerator: Accelerator, read: Reader) -> Task:
    if not run.is_begun:
        raise ConfigError(f"{run.path}: not visible on this machine; --out must be on a disk that all machines share")
    encoder = build_encoder(config.encoder)
    if config.compute.recompute_blocks:
        recompute_blocks(encoder)
    pretraining = config.stage == "pretrain"
    recordings = read(config.data, config.frames, "train", not pretraining, config.recordings)
    config, listing = config.model_copy(update={"frames": recordings.frames}), recordings.listing
    if accelerator.is_main_process and recordings.left_out:
        write_json(run.left_out, {problem.file: problem.reason for problem in recordings.left_out})
    split = _split_of(run, listing, config)
    if pretraining:
        kind = PretrainTask if config.pretrain.method == "moco" else RivalTask
        task: Task = kind(config, encoder, recordings, split, accelerator)
    else:
        _check_classes(listing)
        task = ClassifyTask(config, encoder, recordings, split, accelerator)
        console.print(_split_line(split))
    content = describe_split(listing, split, config.seed, recordings.store.keys)
    _write_or_check_split(run, content, accelerator)
    return task


def _split_of(run: RunFolder, listing: Listing, config: RunConfig) -> Split:
    """The split of a run: of one that was begun, that in its folder; else a new one."""
    if (begun := _stored_split(run, listing, config)) is not None:
        return begun
    if config.stage == "pretrain":
        return Split(_pretraining_members(listing, config), ())
    return labelled_split(listing, config, getattr(config, config.stage))


def _stored_split(run: RunFolder, listing: Listing, config: RunConfig) -> Split | None:
    """The split that a run was begun with, by whatever rule; None if there is none, or it is of other recordings."""
    before = run.split()
    if before is None:
        return None
    rows = {name: row for row, name in enumerate(listing.names)}
    parts = [before.get("train"), before.get("validation")]
    if not all(isinstance(part, list) and rows.keys() >= set(part) for part in parts):
        return None
    split = Split(*(tuple(sorted(rows[name] for name in part or ())) for part in parts))
    now = describe_split(listing, split, config.seed, np.zeros((len(listing), 2), np.uint64))
    if "recordings_sha256" in before:
        return split if before["recordings_sha256"] == now["recordings_sha256"] else None
    # Versions before that did not write it: the rule that they split by tells whether recordings have been added.
    earlier = None if config.stage == "pretrain" else _earlier_split(listing, config, getattr(config, config.stage))
    return split if split == earlier else None


def _earlier_split(listing: Listing, config: RunConfig, settings: ClassifyConfig) -> Split:
    """As `labelled_split` before a budget of labels included those to validate on."""
    members = _members(replace(listing, groups=(), spans=()), config)
    labels = [listing.labels[i] for i in members]
    split = split_by_class(labels, settings.validation, settings.labels_per_class, config.seed, listing.class_names)
    return Split(*(tuple(members[i] for i in part) for part in (split.train, split.validation)))


def _split_line(split: Split) -> str:
    if split.validation:
        return f"{len(split.train)} recordings to train on, {len(split.validation)} to validate on"
    return (
        f"{len(split.train)} recordings to train on; without validation, the weights of the last epoch are the result"
    )


def _check_finetuning(config: RunConfig, accelerator: Accelerator) -> None:
    listing = list_data(config.labelled_data, "train", recordings=config.recordings)
    _check_classes(listing)
    labelled_split(listing, config, config.finetune)
    divide_batch("finetune", config.finetune.batch_size, config.finetune.accumulate, accelerator.num_processes)


def _check_classes(listing: Listing) -> None:
    if len(listing.class_names) < 2:
        raise ConfigError(f"{listing.root}: holds one class, {listing.class_names[0]}; a classifier needs two or more")


def _write_or_check_split(run: RunFolder, split: dict[str, Any], accelerator: Accelerator) -> None:
    """Writes the split of a new run; a resumed run must have the split that it started with."""
    before = run.split()
    if before is None:
        if accelerator.is_main_process:
            write_json(run.path / "split.json", split)
        return
    advice = "restore those that its split.json lists, or start a new run"
    if before.get("sha256") != split["sha256"]:
        raise ConfigError(f"{split['data']}: holds other recordings than when {run.path} was started; {advice}")
    known = before.get("content_sha256", split["content_sha256"])  # older versions did not write it
    if known != split["content_sha256"]:
        raise ConfigError(
            f"{split['data']}: the content of recordings has changed since {run.path} was started; {advice}"
        )


def _members(listing: Listing, config: RunConfig) -> tuple[int, ...]:
    """Recordings that are not held out."""
    held = config.held_out
    return hold_out(listing, held.folds, held.fold).train if held else tuple(range(len(listing)))


def _pretraining_members(listing: Listing, config: RunConfig) -> tuple[int, ...]:
    members = np.random.default_rng(config.seed).permutation(_members(listing, config))
    return tuple(sorted(members[: round(config.pretrain.share * len(members))].tolist()))


def labelled_split(listing: Listing, config: RunConfig, settings: ClassifyConfig) -> Split:
    """The training and validation recordings of a run with labels; `settings` is the stage's section of `config`."""
    members = _members(listing, config)
    labels = [listing.labels[i] for i in members]
    names = listing.class_names
    groups = [listing.group_of[i] for i in members] if listing.spans or listing.groups else []
    split = budget_split(labels, settings.validation, settings.labels_per_class, config.seed, names, groups)
    return Split(tuple(members[i] for i in split.train), tuple(members[i] for i in split.validation))
