"""The C of `kernels.c` and `spike_conv.c`, compiled once for this machine and kept in the cache folder.

It needs a C compiler with OpenMP (gcc). Where there is none, or it fails, `library` gives None and whoever asks goes
the slower way with the same results.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import shlex
import subprocess
from pathlib import Path

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor

from neuromoco.support.files import cache_folder, locked, writing

SOURCES = tuple(Path(__file__).with_name(name) for name in ("kernels.c", "spike_conv.c"))
# No contraction: the neuron's equation is rounded as torch rounds it. The norm asks for its fused operation by name.
FLAGS = ("-O3", "-march=native", "-ffp-contract=off", "-fno-math-errno", "-fopenmp", "-fPIC", "-shared")
TIMEOUT_S = 60


class Shape(ctypes.Structure):
    """How numbers lie in memory, [steps, outer, channels, inner], and the neuron's constants."""

    _fields_ = (
        *((name, ctypes.c_long) for name in ("steps", "outer", "channels", "inner")),
        *((name, ctypes.c_float) for name in ("tau", "threshold", "alpha")),
        *((name, ctypes.c_int) for name in ("atan", "threads")),
    )


@functools.cache
def library() -> ctypes.CDLL | None:
    """The compiled functions, or None."""
    compiler = shlex.split(os.environ.get("CC", "cc"))
    content = b"".join(map(Path.read_bytes, SOURCES)) + repr((compiler, FLAGS, _processor())).encode()
    try:
        path = cache_folder() / "kernels" / f"{hashlib.sha256(content).hexdigest()[:32]}.so"
        with locked(path.with_name(".lock")):
            if not path.is_file():
                _compile(compiler, path)
            try:
                return ctypes.CDLL(str(path))
            except OSError:  # damaged, or of another machine
                _compile(compiler, path)
                return ctypes.CDLL(str(path))
    except (OSError, ImportError, RuntimeError, subprocess.SubprocessError):
        return None


def _compile(compiler: list[str], path: Path) -> None:
    with writing(path) as part:
        command = [*compiler, *FLAGS, "-o", str(part), *map(str, SOURCES), "-lm"]
        subprocess.run(command, check=True, capture_output=True, timeout=TIMEOUT_S)


def call(name: str, shape: ctypes.Structure, *arrays: Tensor | None) -> None:
    """Calls a function of the library with arrays that lie as the shape says."""
    function = getattr(library(), name)
    function(*(ctypes.c_void_p(None if a is None else a.data_ptr()) for a in arrays), ctypes.byref(shape))


def serves(x: Tensor) -> bool:
    """Whether the library is there, and the tensor in memory (`--dry-run` makes some that are not)."""
    in_memory = x.device.type == "cpu" and not isinstance(x, FakeTensor)
    return in_memory and x.dtype == torch.float32 and library() is not None


def is_channels_last(x: Tensor) -> bool:
    """Whether [T, N, C, H, W] lies in memory as [T, N, H, W, C]; a flattened copy of it would not tell."""
    return x.ndim == 5 and x.permute(0, 1, 3, 4, 2).is_contiguous()


def watched(module: nn.Module) -> bool:
    """Whether somebody wants to see what goes in or comes out."""
    hooks = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks)
    return any(hooks)


def as_laid(x: Tensor, like: Tensor) -> Tensor:
    """A tensor that lies in memory as another does."""
    return x if x.stride() == like.stride() else torch.empty_like(like).copy_(x)


def _processor() -> str:
    """What a compiler makes of "native" here: a cache folder may be shared by different machines."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return "".join(sorted({line for line in lines if line.startswith(("model name", "flags", "Features"))}))
