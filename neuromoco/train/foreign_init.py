"""Training that starts from weights of another project."""

from __future__ import annotations

from neuromoco.config import RunConfig
from neuromoco.encoders import Encoder
from neuromoco.encoders.foreign_names import Loaded, load_foreign
from neuromoco.support.state_dicts import read_state_dict


def load_foreign_init(encoder: Encoder, config: RunConfig) -> Loaded:
    """Loads the weights in `config.init`, whose names are those of `config.init_from`, into an encoder.

    Raises:
        CheckpointError: they cannot be read, or are of another network.
    """
    assert config.init is not None, "or there is nothing to load"
    assert config.init_from is not None, "or they are this package's own"
    return load_foreign(encoder, read_state_dict(config.init), config.init_from, config.init)
