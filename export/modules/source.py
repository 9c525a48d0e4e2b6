"""A module in a Python file, its weights in another, and an example of its input, as the command line names them."""

from __future__ import annotations

import importlib.util
import pickle
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from neuromoco.errors import CheckpointError, ConfigError
from neuromoco.support.untrusted import one_line

NESTED = ("state_dict", "model", "net", "weights")  # under which other projects keep the weights in their files


def load_module(source: str, weights: Path | None = None) -> nn.Module:
    """The module that `file.py:name` builds or is, with weights; the file is executed.

    Raises:
        ConfigError: the file cannot be executed, or the name is no module and builds none.
        CheckpointError: the weights cannot be read, or are of another module.
    """
    file, _, name = source.rpartition(":")
    folder = str(Path(file).resolve().parent)  # whose other files it may import, as if it were run
    sys.path.insert(0, folder)
    try:
        spec = importlib.util.spec_from_file_location("neuromoco_exported_module", file)
        if spec is None or spec.loader is None or not Path(file).is_file():
            raise ConfigError(f"{file}: is no Python file; give file.py:name, where name is or builds a torch module")
        python = sys.modules[spec.name] = importlib.util.module_from_spec(spec)  # dataclasses look for it there
        spec.loader.exec_module(python)
        if not hasattr(python, name):
            raise ConfigError(f"{file}: has no {name}; give file.py:name, where name is or builds a torch module")
        found = getattr(python, name)
        module = found if isinstance(found, nn.Module) else found()
    except (ConfigError, CheckpointError):
        raise
    except (Exception, SystemExit) as error:  # of the user's code
        raise ConfigError(
            f"{source}: fails ({type(error).__name__}: {one_line(error)}); it must build a module"
        ) from None
    finally:
        sys.path.remove(folder)
    if not isinstance(module, nn.Module):
        raise ConfigError(f"{source}: builds a {type(module).__name__}; it must return a torch.nn.Module")
    if weights is not None:
        load_weights(module, weights)
    return module


def load_weights(module: nn.Module, file: Path) -> None:
    """Loads a file of weights (`.safetensors`, or what `torch.save` wrote) into a module; all names must match."""
    stored = _stored(file)
    own = module.state_dict()
    if missing := sorted(own.keys() - stored.keys()):
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise CheckpointError(f"{file}: lacks {missing[0]}{more} of the module; it has {one_line(', '.join(stored))}")
    if extra := sorted(stored.keys() - own.keys()):
        more = f" and {len(extra) - 1} more" if len(extra) > 1 else ""
        raise CheckpointError(f"{file}: has {one_line(extra[0])}{more}, which the module has not; is it another's?")
    for name, tensor in stored.items():
        if tensor.shape != own[name].shape:
            raise CheckpointError(f"{file}: {name} is {list(tensor.shape)}, and {list(own[name].shape)} in the module")
    module.load_state_dict(stored)


def _stored(file: Path) -> dict[str, Tensor]:
    if not file.is_file():
        raise CheckpointError(f"{file}: does not exist; --weights takes a file of the module's weights")
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
    if not isinstance(loaded, Mapping) or not all(isinstance(value, Tensor) for value in loaded.values()):
        raise CheckpointError(f"{file}: holds no weights by name; save module.state_dict()")
    return {str(name).removeprefix("module."): value for name, value in loaded.items()}


def load_example(words: str) -> Tensor:
    """An example of a module's input: noise of a shape "4,2,3,32,32", or a file of numbers, `.npy`.

    Raises:
        ConfigError: it is neither.
    """
    try:
        if re.fullmatch(r"\d+(,\d+)+", words):
            shape = tuple(map(int, words.split(",")))
            return torch.poisson(torch.full(shape, 0.5), generator=torch.Generator().manual_seed(0))
        numbers = np.load(words, allow_pickle=False)
        if not isinstance(numbers, np.ndarray):
            numbers.close()
            raise ValueError("holds several arrays")
        return torch.from_numpy(numbers.astype(np.float32))
    except (OSError, ValueError, TypeError, EOFError, MemoryError, RuntimeError) as error:
        reason = one_line(error)
        raise ConfigError(f"--example {words}: {reason}; give a shape, 4,2,3,32,32 of [T, N, ...], or a .npy") from None
