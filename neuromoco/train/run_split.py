"""The recordings that a run trains and validates on: drawn by rules, and checked when it is resumed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from accelerate import Accelerator

from neuromoco.config import ClassifyConfig, RunConfig
from neuromoco.datasets import Listing, Split
from neuromoco.datasets.splits import budget_split, describe_split, hold_out, split_by_class
from neuromoco.errors import ConfigError
from neuromoco.support.files import write_json
from neuromoco.train.run_folder import RunFolder


def split_of(run: RunFolder, listing: Listing, config: RunConfig) -> Split:
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


def split_line(split: Split) -> str:
    if split.validation:
        return f"{len(split.train)} recordings to train on, {len(split.validation)} to validate on"
    return (
        f"{len(split.train)} recordings to train on; without validation, the weights of the last epoch are the result"
    )


def write_or_check_split(run: RunFolder, split: dict[str, Any], accelerator: Accelerator) -> None:
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
