"""The integer network in C: its bytes, and the compiled runtime `spiking.c` that computes them."""

from pathlib import Path

SOURCES = tuple(Path(__file__).with_name(name) for name in ("spiking.h", "spiking.c"))
