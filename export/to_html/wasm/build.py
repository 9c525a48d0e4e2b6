"""Compiles `spiking.c` to WebAssembly: `make wasm`, after each change of it. Needs clang and lld, and no C library.

The file ends in a section of its own that says what it was made of. Of the same sources, a version of clang makes the
same bytes.
"""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

from neuromoco.runtime.spiking import SOURCES
from neuromoco.support.files import writing

FOLDER = Path(__file__).parent
WASM = FOLDER / "spiking.wasm"
SECTION = b"sources"
MAGIC = b"\0asm\1\0\0\0"
EXPORTS = ("size", "memory", "open", "reset", "push_counts", "step", "logits", "steps", "classes")
COMPILE = [
    "--target=wasm32",
    "-std=c99",
    "-O3",
    "-msimd128",
    "-mbulk-memory",
    "-nostdlib",
    "-fno-ident",
    "-ffile-prefix-map=/=",
]
LINK = ("--no-entry", "--strip-all", "--export=__heap_base", *(f"--export=spiking_{name}" for name in EXPORTS))
FLAGS = (*COMPILE, *(f"-Wl,{word}" for word in LINK))


def fingerprint() -> str:
    """SHA-256 of everything that the file depends on but the compiler."""
    digest = hashlib.sha256(" ".join(FLAGS).encode())
    for source in (*SOURCES, FOLDER / "string.h"):
        digest.update(source.read_bytes())
    return digest.hexdigest()


def compiler_version(compiler: str = "clang") -> str:
    """The first line of what the compiler says about itself; OSError without one."""
    said = subprocess.run([compiler, "--version"], check=True, capture_output=True, text=True)
    return said.stdout.partition("\n")[0]


def compile_wasm(compiler: str = "clang") -> bytes:
    """The file; OSError or CalledProcessError where it cannot be compiled."""
    made_of = f"{fingerprint()}\n{compiler_version(compiler)}".encode()
    with TemporaryDirectory() as folder:
        out = Path(folder) / WASM.name
        names = [str(source) for source in SOURCES if source.suffix == ".c"]
        subprocess.run([compiler, *FLAGS, "-I", str(FOLDER), "-o", str(out), *names], check=True, capture_output=True)
        return out.read_bytes() + _section(made_of)


def made_of(content: bytes) -> tuple[str, str]:
    """Fingerprint and version of the compiler that a file was made of."""
    assert content.startswith(MAGIC)
    _, _, last = content.rpartition(bytes([len(SECTION)]) + SECTION)
    fingerprint, _, compiler = last.decode().partition("\n")
    return fingerprint, compiler


def _section(content: bytes) -> bytes:
    """A custom section, which runtimes pass over: its kind 0, its size in LEB128, its name, its content."""
    body = bytes([len(SECTION)]) + SECTION + content
    size, length = b"", len(body)
    while length >= 0x80:
        size += bytes([length & 0x7F | 0x80])
        length >>= 7
    return b"\0" + size + bytes([length]) + body


if __name__ == "__main__":
    with writing(WASM) as part:
        part.write_bytes(compile_wasm())
    print(f"{WASM}: {WASM.stat().st_size:,} bytes")
