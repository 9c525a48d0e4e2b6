"""Weights in files of other projects: what `torch.save` or safetensors wrote of a module's state dict."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neuromoco.errors import CheckpointError
from neuromoco.support.untrusted import one_line

if TYPE_CHECKING:
    from torch import Tensor

NESTED = ("state_dict", "model", "net", "weights")  # under which other projects keep the weights in their files


def read_state_dict(file: Path | str) -> dict[str, Tensor]:
    """The tensors in a file by name, without the "module." that `DataParallel` puts before all names.

    No code in the file is executed.

    Raises:
        CheckpointError: it cannot be read, or holds no tensors by name.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    file = Path(file)
    if not file.is_file():
        raise CheckpointError(f"{file}: does not exist; give a file of weights, .safetensors or .pth")
    try:
        loaded: Any = (
            load_file(file)
            if file.suffix == ".safetensors"
            else torch.load(file, map_location="cpu", weights_only=True)
        )
    except (SafetensorError, RuntimeError, OSError, ValueError, EOFError, pickle.UnpicklingError) as error:
        reason = one_line(error).split(".")[0]
        raise CheckpointError(f"{file}: cannot be read as weights ({reason}); save module.state_dict()") from None
    for name in NESTED:
        if isinstance(loaded, Mapping) and isinstance(loaded.get(name), Mapping):
            loaded = loaded[name]
    if not isinstance(loaded, Mapping) or not all(isinstance(value, torch.Tensor) for value in loaded.values()):
        raise CheckpointError(f"{file}: holds no weights by name; save module.state_dict()")
    return {str(name).removeprefix("module."): value for name, value in loaded.items()}
