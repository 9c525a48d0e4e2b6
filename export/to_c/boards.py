"""Boards by name, and what of them a network needs."""

from __future__ import annotations

from typing import NamedTuple

KB = 1024
CODE = 10 * KB  # bytes of spiking.c and the functions of network.c: at most 9,400 for a Cortex-M4 and M7, at -O3
STACK = 4 * KB  # bytes that are left for everything else


class Board(NamedTuple):
    """A board with a processor that the runtime was tried on."""

    name: str
    core: str
    megahertz: int
    flash: int  # bytes
    ram: int  # bytes of the largest piece
    source: str


BOARDS = (
    Board("Nucleo-F446ZE", "Cortex-M4", 180, 512 * KB, 128 * KB, "https://doc.riot-os.org/boards/nucleo-f446ze"),
    Board(
        "STM32F4 Discovery", "Cortex-M4", 168, 1024 * KB, 128 * KB,
        "https://docs.zephyrproject.org/3.0.0/boards/arm/stm32f4_disco/doc/index.html",
    ),
    Board("Nucleo-F439ZI", "Cortex-M4", 180, 2048 * KB, 192 * KB, "https://doc.riot-os.org/boards/nucleo-f439zi"),
    Board("Arduino Nano 33 BLE", "Cortex-M4", 64, 1024 * KB, 256 * KB, "https://docs.arduino.cc/hardware/nano-33-ble"),
    Board("Nucleo-L4R5ZI", "Cortex-M4", 120, 2048 * KB, 640 * KB, "https://doc.riot-os.org/boards/nucleo-l4r5zi"),
    Board(
        "STM32F746G Discovery", "Cortex-M7", 216, 1024 * KB, 320 * KB,
        "https://doc.riot-os.org/group__boards__stm32f746g-disco.html",
    ),
    Board("Teensy 4.1", "Cortex-M7", 600, 7936 * KB, 512 * KB, "https://www.pjrc.com/store/teensy41.html"),
)  # fmt: skip


def code_bytes() -> int:
    """Bytes of flash that the runtime's code needs."""
    return CODE


def fits(board: Board, ram: int, flash: int) -> bool:
    """Whether a board holds so many bytes, and what a program around them needs."""
    return ram + STACK <= board.ram and flash <= board.flash


def boards_for(ram: int, flash: int) -> list[str]:
    """Names of the boards that hold so many bytes."""
    return [board.name for board in BOARDS if fits(board, ram, flash)]
