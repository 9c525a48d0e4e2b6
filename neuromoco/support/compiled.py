"""C code of this package, compiled at first use and kept in the cache folder.

Where the cache folder cannot be used, each process compiles its own. The same code, compiler, flags and processor give
the same file.
"""

from __future__ import annotations

import ctypes
import errno
import hashlib
import os
import platform
import shlex
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from neuromoco.errors import NeuromocoError
from neuromoco.support.cache import cache_folder, is_own_file
from neuromoco.support.files import locked, writing

DIGEST_BYTES = hashlib.sha256().digest_size


class CompilerError(Exception):
    """The compiler is missing or fails."""


class Compiled(ctypes.CDLL):
    """Compiled code."""

    sha256: str  # of the code


def compiler_words() -> list[str]:
    """The C compiler: $CC, or cc."""
    return shlex.split(os.environ.get("CC", "cc"))


def compiled_library(
    name: str, sources: Sequence[Path], flags: Sequence[str], report: Callable[[str], None]
) -> Compiled:
    """The code of some sources, from the cache or compiled; `report` is told why the cache cannot be used.

    Raises:
        CompilerError: the compiler is missing or fails.
        OSError: there is no place for temporary files.
    """
    compiler = compiler_words()
    try:
        return _cached(name, compiler, sources, flags)
    except (OSError, NeuromocoError) as error:
        report(f"{error}; the {name} of this process are compiled in a temporary folder")
        with TemporaryDirectory() as folder:
            path = Path(folder) / f"{name}.so"
            path.write_bytes(compile_code(compiler, sources, flags))
            return _load(path)


def _cached(name: str, compiler: list[str], sources: Sequence[Path], flags: Sequence[str]) -> Compiled:
    """The code from the cache folder, compiled if it is missing there, damaged, or not this user's own."""
    content = b"".join(map(Path.read_bytes, sources)) + repr((compiler, tuple(flags), processor())).encode()
    folder = cache_folder(name)
    path = folder / f"{hashlib.sha256(content).hexdigest()[:32]}.so"
    with locked(folder / ".lock"):
        try:
            return _load(path)
        except OSError:
            with writing(path) as part:
                part.write_bytes(compile_code(compiler, sources, flags))
            return _load(path)


def _load(path: Path) -> Compiled:
    """Loads what `compile_code` returned; OSError if the file is missing, cut, damaged, a link or another user's."""
    number = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    try:
        with open(number, "rb", closefd=False) as file:
            content = file.read()
        code, digest = content[:-DIGEST_BYTES], content[-DIGEST_BYTES:]
        if not is_own_file(number) or hashlib.sha256(code).digest() != digest:
            raise OSError(errno.EINVAL, "is damaged or another user's", str(path))
        # The file that was just checked, whatever has its name by now.
        opened = Path(f"/proc/self/fd/{number}")
        library = Compiled(str(opened if opened.exists() else path))
    except BaseException:
        os.close(number)
        raise
    library.sha256 = digest.hex()
    return library  # The file stays open: the loader would take another one of this number for the same library.


def compile_code(compiler: Sequence[str], sources: Sequence[Path], flags: Sequence[str]) -> bytes:
    """The shared library, and after its end, where loading ignores it, its SHA-256.

    Raises:
        CompilerError: the compiler is missing or fails.
    """
    try:
        with TemporaryDirectory() as folder:
            path = Path(folder) / "code.so"
            units = [str(source) for source in sources if source.suffix == ".c"]
            command = [*compiler, *flags, "-o", str(path), *units, "-lm"]
            subprocess.run(command, check=True, capture_output=True, timeout=60)
            code = path.read_bytes()
    except (OSError, subprocess.SubprocessError) as error:
        raise CompilerError from error
    return code + hashlib.sha256(code).digest()


def processor() -> str:
    """What -march=native depends on: machines with different processors may share a cache folder."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return "\n".join(sorted({line for line in lines if line.startswith(("model name", "flags", "Features"))}))
