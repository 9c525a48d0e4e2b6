"""A module in a Python file, its weights in another, and an example of its input, as the command line names them."""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from neuromoco.errors import CheckpointError, ConfigError
from neuromoco.support.state_dicts import read_state_dict
from neuromoco.support.untrusted import one_line


def load_module(source: str, weights: Path | None = None, renames: Sequence[str] = ()) -> nn.Module:
    """The module that `file.py:name` builds or is, with weights; the file is executed. See `load_weights`.

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
        load_weights(module, weights, renames)
    return module


def load_weights(module: nn.Module, file: Path, renames: Sequence[str] = ()) -> None:
    """Loads a file of weights (`.safetensors`, or what `torch.save` wrote) into a module; all names must match.

    Each of `renames` is "OLD=NEW": names in the file that begin with OLD begin with NEW instead.
    """
    stored = _renamed(read_state_dict(file), renames, file)
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


def _renamed(stored: dict[str, Tensor], renames: Sequence[str], file: Path) -> dict[str, Tensor]:
    for rename in renames:
        old, equals, new = rename.partition("=")
        if not equals or not any(name.startswith(old) for name in stored):
            some = one_line(", ".join(stored))
            raise ConfigError(f"--rename {rename}: no name in {file} begins so; give OLD=NEW, of {some}")
        changed = {new + name.removeprefix(old) if name.startswith(old) else name: t for name, t in stored.items()}
        if len(changed) < len(stored):
            raise ConfigError(f"--rename {rename}: gives two tensors of {file} one name; name more of their beginning")
        stored = changed
    return stored


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
