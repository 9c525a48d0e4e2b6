"""The C kernels in `kernels.c` and `spike_conv.c`, compiled at first use and kept in the cache folder.

Compiling needs a C compiler with OpenMP, such as gcc. Without one, `library` returns None, and callers use torch
operations that give the same results, up to rounding, more slowly. Where the cache folder cannot be used, each process
compiles its own.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import hashlib
import multiprocessing
import os
import platform
import shlex
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor

from neuromoco.errors import NeuromocoError
from neuromoco.support.cache import cache_folder, is_own_file
from neuromoco.support.console import is_first_here, say_once
from neuromoco.support.files import locked, writing

SOURCES = tuple(Path(__file__).with_name(name) for name in ("kernels.c", "spike_conv.c"))
# No contraction: the neuron's equation rounds as torch does. The norm calls its fused multiply-add explicitly.
FLAGS = ("-O3", "-march=native", "-ffp-contract=off", "-fno-math-errno", "-fopenmp", "-fPIC", "-shared")
DIGEST_BYTES = hashlib.sha256().digest_size


class Shape(ctypes.Structure):
    """Memory layout of an array, [steps, outer, channels, inner], and the neuron's constants; as in `kernels.c`."""

    _fields_ = (
        *((name, ctypes.c_long) for name in ("steps", "outer", "channels", "inner")),
        *((name, ctypes.c_float) for name in ("tau", "threshold", "alpha")),
        *((name, ctypes.c_int) for name in ("atan", "threads")),
    )


class _CompilerError(Exception):
    """The compiler is missing or fails."""


class Kernels(ctypes.CDLL):
    """The compiled kernels."""

    sha256: str  # of their code


@functools.cache
def library() -> Kernels | None:
    """The compiled kernels. None where they cannot be compiled: this is then reported on the console, once."""
    compiler = shlex.split(os.environ.get("CC", "cc"))
    try:
        try:
            return _cached(compiler)
        except (OSError, NeuromocoError) as error:
            _report(f"{error}; the kernels of this process are compiled in a temporary folder")
            with TemporaryDirectory() as folder:
                path = Path(folder) / "kernels.so"
                path.write_bytes(_compiled(compiler))
                return _load(path)
    except (OSError, _CompilerError):
        name = " ".join(compiler)
        _report(
            f"The C compiler {name!r} is missing or fails, so training on a CPU will be slower and its numbers rounded "
            "otherwise: install gcc (on Debian and Ubuntu: apt install gcc), or set CC to a C compiler with OpenMP"
        )
        return None


def _report(message: str) -> None:
    if is_first_here() and multiprocessing.parent_process() is None:  # workers keep silent
        say_once(message)


def _cached(compiler: list[str]) -> Kernels:
    """The kernels from the cache folder, compiled if they are missing there, damaged, or not this user's own."""
    content = b"".join(map(Path.read_bytes, SOURCES)) + repr((compiler, FLAGS, _processor())).encode()
    folder = cache_folder("kernels")
    path = folder / f"{hashlib.sha256(content).hexdigest()[:32]}.so"
    with locked(folder / ".lock"):
        try:
            return _load(path)
        except OSError:
            with writing(path) as part:
                part.write_bytes(_compiled(compiler))
            return _load(path)


def _load(path: Path) -> Kernels:
    """Loads what `_compiled` returned; OSError if the file is missing, cut, damaged, a link or another user's."""
    with open(path, "rb", opener=_open_no_link) as file:
        content = file.read()
        code, digest = content[:-DIGEST_BYTES], content[-DIGEST_BYTES:]
        if not is_own_file(file.fileno()) or hashlib.sha256(code).digest() != digest:
            raise OSError(errno.EINVAL, "is damaged or another user's", str(path))
        # The file that was just checked, whatever has its name by now.
        opened = Path(f"/proc/self/fd/{file.fileno()}")
        kernels = Kernels(str(opened if opened.exists() else path))
    kernels.sha256 = digest.hex()
    return kernels


def _open_no_link(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))


def _compiled(compiler: list[str]) -> bytes:
    """The shared library, and after its end, where loading ignores it, its SHA-256."""
    try:
        with TemporaryDirectory() as folder:
            path = Path(folder) / "kernels.so"
            command = [*compiler, *FLAGS, "-o", str(path), *map(str, SOURCES), "-lm"]
            subprocess.run(command, check=True, capture_output=True, timeout=60)
            code = path.read_bytes()
    except (OSError, subprocess.SubprocessError) as error:
        raise _CompilerError from error
    return code + hashlib.sha256(code).digest()


def call(name: str, shape: ctypes.Structure, *arrays: Tensor | None) -> None:
    """Calls a kernel by name with arrays laid out as `shape` says."""
    function = getattr(library(), name)
    function(*(ctypes.c_void_p(None if a is None else a.data_ptr()) for a in arrays), ctypes.byref(shape))


def is_supported(x: Tensor) -> bool:
    """Whether the kernels can take a tensor: float32, in CPU memory (`--dry-run` uses fake tensors), and compiled."""
    in_memory = x.device.type == "cpu" and not isinstance(x, FakeTensor)
    return in_memory and x.dtype == torch.float32 and library() is not None


def is_channels_last(x: Tensor) -> bool:
    """Whether [T, N, C, H, W] is laid out in memory as [T, N, H, W, C]."""
    return x.ndim == 5 and x.permute(0, 1, 3, 4, 2).is_contiguous()


def has_hooks(module: nn.Module) -> bool:
    """Whether forward or backward hooks need the module's own input or output."""
    return any((module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks))


def match_layout(x: Tensor, like: Tensor) -> Tensor:
    """`x` with the memory layout of `like`, copied only if it differs."""
    return x if x.stride() == like.stride() else torch.empty_like(like).copy_(x)


def identity() -> str | None:
    """What identifies the compiled kernels, by which results are rounded; None where torch does their work."""
    kernels = library()
    return None if kernels is None else kernels.sha256[:16]


def processor_name() -> str:
    """The processor's name, such as "Intel(R) Xeon(R) Processor"."""
    names = [line.partition(":")[2].strip() for line in _processor().splitlines() if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _processor() -> str:
    """What -march=native depends on: machines with different processors may share a cache folder."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return "\n".join(sorted({line for line in lines if line.startswith(("model name", "flags", "Features"))}))
