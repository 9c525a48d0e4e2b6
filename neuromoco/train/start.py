"""The weights that training starts from: of this package, or of another project."""

from __future__ import annotations

import torch

from neuromoco.checkpoint import read_header
from neuromoco.classifier import check_network, check_size
from neuromoco.config import RunConfig
from neuromoco.encoders import Encoder, build_encoder
from neuromoco.encoders.foreign_names import Loaded, load_foreign
from neuromoco.errors import CheckpointError, ConfigError
from neuromoco.hub.names import shipped_checkpoints
from neuromoco.support.console import say_once
from neuromoco.support.state_dicts import read_state_dict


def resolve_init(config: RunConfig) -> RunConfig:
    """Settings with encoder and frames of the checkpoint to start from, if there is one; checks `init`."""
    if not config.init:
        if config.init_from:
            raise ConfigError(f"--from {config.init_from} without weights; give them with --init FILE")
        if config.stage == "finetune":
            raise ConfigError(
                "--stage finetune needs a pre-trained encoder: --init runs/.../weights/last.safetensors, or a name of "
                "neuromoco models (or --stage supervised to train from scratch)"
            )
        return config
    if config.stage == "supervised":
        raise ConfigError("--init with stage supervised, which trains from scratch; --stage finetune starts from it")
    if config.init_from:
        with torch.random.fork_rng(devices=[]):
            _load(build_encoder(config.encoder), config)  # says early what does not fit
        return config
    header = read_header(config.init)
    if header.kind != "encoder" and not config.finetune.quantize:
        raise CheckpointError(
            f"{config.init}: is a trained classifier; --init takes a pre-trained encoder (a classifier with --quantize)"
        )
    encoder = check_network(config.init, header)
    frames = config.frames if config.own_frames else header.frames
    check_size(config.init, frames, encoder)
    return config.model_copy(update={"encoder": header.encoder, "frames": frames})


def load_foreign_init(encoder: Encoder, config: RunConfig) -> None:
    """Loads the weights of another project that a run starts from, and says what of them found no place.

    Raises:
        CheckpointError: they cannot be read, or are of another network.
    """
    say_once(f"{config.init}: {_load(encoder, config)}")


def _load(encoder: Encoder, config: RunConfig) -> Loaded:
    assert config.init is not None, "or there is nothing to load"
    assert config.init_from is not None, "or they are this package's own"
    if config.init in shipped_checkpoints():
        raise ConfigError(f"--from {config.init_from}: {config.init} is this package's own; leave --from out")
    return load_foreign(encoder, read_state_dict(config.init), config.init_from, config.init)
