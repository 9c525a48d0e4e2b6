"""Views: the same recordings seen differently, a whole batch at once.

A view of a recording is a path of steps, each of which says where a pixel of its result comes from: an affine map,
a roll that wraps around, an erased square. Steps are drawn for every recording from its own generator, so a view
depends on nothing else in the batch; then all paths are followed back to the pixels they begin at, and the frames
of the batch are read there once, all T steps alike. Reading is nearest neighbour and what moves in from outside is
0, so that counts stay counts.

Sources: NDA (Li et al. 2022, arXiv 2203.06145) and its M/N form; the set of NeuroMoCo's group is the one of the
public code that preceded the paper.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor

from neuromoco.config import ViewConfig
from neuromoco.errors import ConfigError


@dataclass(frozen=True)
class Step:
    """Where a pixel of the result comes from; rows and columns count from the centre.

    Attributes:
        row: (a, b, c) of `a * row + b * column + c`, the row that it comes from.
        column: the same for its column.
        wraps: what would come from outside comes from the other side; else it is empty.
        hole: row, column and side of a square that is empty, counted from the corner, or None.
    """

    row: tuple[float, float, float] = (1.0, 0.0, 0.0)
    column: tuple[float, float, float] = (0.0, 1.0, 0.0)
    wraps: bool = False
    hole: tuple[int, int, int] = (0, 0, 0)


Path = tuple[Step, ...]
# Draws the path of one recording of so many rows and columns.
Policy = Callable[[Generator, int, int], Path]


def flip() -> Step:
    """Left becomes right."""
    return Step(column=(0.0, -1.0, 0.0))


def roll(down: int, right: int) -> Step:
    """Moves rows down and columns right; what leaves on one side enters on the other."""
    return Step((1.0, 0.0, -down), (0.0, 1.0, -right), wraps=True)


def translate(down: int, right: int) -> Step:
    """Moves rows down and columns right; what leaves is lost, what enters is empty."""
    return affine(down=down, right=right)


def rotate(degrees: float) -> Step:
    """Turns clockwise around the centre."""
    return affine(degrees=degrees)


def shear(across: float, down: float) -> Step:
    """Shifts columns by `across` pixels per row, or rows by `down` pixels per column."""
    return Step((1.0, -down, 0.0), (-across, 1.0, 0.0))


def cutout(row: int, column: int, side: int) -> Step:
    """Empties the square of `side` pixels centred on (row, column), as far as it lies in the frame."""
    return Step(hole=(row, column, side))


def affine(
    degrees: float = 0.0, across: float = 0.0, scale: float = 1.0, down: float = 0.0, right: float = 0.0
) -> Step:
    """Shifts columns by `across` pixels per row, grows `scale` times, turns clockwise, then moves."""
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    # Backwards: the turn and the size first, then the shear.
    row = (cosine / scale, -sine / scale)
    column = (sine / scale - across * row[0], cosine / scale - across * row[1])
    return Step(
        (*row, -(row[0] * down + row[1] * right)),
        (*column, -(column[0] * down + column[1] * right)),
    )


def move(frames: Tensor, paths: Sequence[Path]) -> Tensor:
    """Frames after their paths, each of N recordings its own.

    Args:
        frames: [N, T, P, H, W], of any type.
        paths: N of them.

    Returns:
        A new tensor of the same shape and type.
    """
    height, width = frames.shape[-2:]
    row, column = torch.arange(height).view(1, -1, 1).float(), torch.arange(width).view(1, 1, -1).float()
    inside = torch.ones(1, 1, 1, dtype=torch.bool)
    for number in reversed(range(max(map(len, paths)))):
        steps = [path[number] if number < len(path) else Step() for path in paths]
        inside = inside & ~_holes(steps, row, column)
        row, column = _sources(steps, row - (height - 1) / 2, column - (width - 1) / 2)
        wraps = torch.tensor([step.wraps for step in steps]).view(-1, 1, 1)
        row, in_height = _bounded(row + (height - 1) / 2, height, wraps)
        column, in_width = _bounded(column + (width - 1) / 2, width, wraps)
        inside = inside & in_height & in_width
    places = row.round().clamp_(0, height - 1) * width + column.round().clamp_(0, width - 1)  # [N, H, W]
    places = places.long().expand(len(frames), height, width).reshape(len(frames), 1, -1)
    flat = frames.flatten(3).flatten(1, 2)  # [N, T * P, H * W]
    seen = flat.gather(2, places.expand(flat.shape)).view(frames.shape)
    return seen.masked_fill_(~inside[:, None, None], 0)


def _holes(steps: Sequence[Step], row: Tensor, column: Tensor) -> Tensor:
    """Which pixels lie in the steps' squares: bool [N, H, W]."""
    centre_row, centre_column, side = torch.tensor([step.hole for step in steps]).view(-1, 3, 1, 1).unbind(1)
    top, left = centre_row - side // 2 - 0.5, centre_column - side // 2 - 0.5
    return (row >= top) & (row < top + side) & (column >= left) & (column < left + side)


def _sources(steps: Sequence[Step], row: Tensor, column: Tensor) -> tuple[Tensor, Tensor]:
    """Where pixels come from, counted from the centre: two float [N, H, W]."""
    maps = torch.tensor([[*step.row, *step.column] for step in steps]).view(-1, 6, 1, 1).unbind(1)
    return maps[0] * row + maps[1] * column + maps[2], maps[3] * row + maps[4] * column + maps[5]


def _bounded(place: Tensor, size: int, wraps: Tensor) -> tuple[Tensor, Tensor]:
    """Places along an axis, wrapped where wanted, and whether they are inside of it."""
    place = torch.where(wraps, (place + 0.5).remainder(size) - 0.5, place)
    return place, (place >= -0.5) & (place < size - 0.5)


def drop(frames: Tensor, shares: Sequence[float], generators: Sequence[Generator]) -> Tensor:
    """Leaves out every event of recording n with the chance `shares[n]`, independently.

    Args:
        frames: whole counts [N, ...].
        shares: N chances.
        generators: N of them.
    """
    counts = frames.numpy().reshape(len(frames), -1)
    events = counts.sum(1, dtype=np.int64).tolist()
    draws = zip(generators, events, shares, strict=True)
    stays = np.concatenate([generator.random(n, np.float32) >= share for generator, n, share in draws])  # [events]
    places = np.flatnonzero(counts != 0)  # of bool, ten times faster
    held = counts.ravel()[places].astype(np.int64)
    left = np.zeros_like(counts)
    if len(places):
        left.ravel()[places] = np.add.reduceat(stays, np.cumsum(held) - held, dtype=np.int64)
    return torch.from_numpy(left).view(frames.shape)


@dataclass(frozen=True)
class NDA:
    """Exactly one of roll, rotate and shear, uniformly, as NDA was published.

    For CIFAR10-DVS: 5 px, 30 degrees, tan(30 degrees); for N-Caltech101: 3 px, 15, tan(15).
    """

    shift: int
    rotate: float
    shear: float

    def __call__(self, draw: Generator, height: int, width: int) -> Path:
        op = draw.integers(3)
        if op == 0:
            return (roll(_whole(self.shift, draw), _whole(self.shift, draw)),)
        if op == 1:
            return (rotate(_uniform(self.rotate, draw)),)
        return (shear(_uniform(self.shear, draw), 0.0),)


@dataclass(frozen=True)
class NDAmn:
    """`ops` different ones of roll, rotate, shear and cutout: the M/N form of NDA.

    With magnitude n its authors take shift 1 + 2n px, 15n degrees, shear 0.15n and a cutout of 8n px.
    """

    ops: int
    shift: int
    rotate: float
    shear: float
    cutout: int

    def __call__(self, draw: Generator, height: int, width: int) -> Path:
        drawn = (
            roll(_whole(self.shift, draw), _whole(self.shift, draw)),
            rotate(_uniform(self.rotate, draw)),
            shear(_uniform(self.shear, draw), 0.0),
            _cutout_anywhere(self.cutout, draw, height, width),
        )
        return tuple(drawn[op] for op in draw.permutation(4)[: self.ops])


@dataclass(frozen=True)
class GroupSet:
    """One of identity, shear x, shear y, translate x, translate y, rotate and cutout, uniformly."""

    shift: int
    rotate: float
    shear: float
    cutout: int

    def __call__(self, draw: Generator, height: int, width: int) -> Path:
        op = draw.integers(7)
        if op == 0:
            return ()
        if op <= 2:
            amount = _uniform(self.shear, draw)
            return (shear(amount, 0.0) if op == 1 else shear(0.0, amount),)
        if op <= 4:
            pixels = _whole(self.shift, draw)
            return (translate(0, pixels) if op == 3 else translate(pixels, 0),)
        if op == 5:
            return (rotate(_uniform(self.rotate, draw)),)
        return (_cutout_anywhere(self.cutout, draw, height, width),)


@dataclass(frozen=True)
class Affine:
    """A shear, a change of size, a rotation and a shift in one map, then a cutout: all of them, every time."""

    shift: int
    rotate: float
    shear: float
    scale: float
    cutout: int

    def __call__(self, draw: Generator, height: int, width: int) -> Path:
        moved = affine(
            _uniform(self.rotate, draw),
            _uniform(self.shear, draw),
            1.0 + _uniform(self.scale, draw),
            _uniform(self.shift, draw),
            _uniform(self.shift, draw),
        )
        return moved, _cutout_anywhere(self.cutout, draw, height, width)


@dataclass(frozen=True)
class View:
    """A horizontal flip with the given chance, a path, then events left out: a share between 0 and `drop`."""

    policy: Policy
    flip: float = 0.0
    drop: float = 0.0

    def __call__(self, frames: Tensor, generators: Sequence[Generator]) -> Tensor:
        """One view of each of N recordings.

        Args:
            frames: whole counts [N, T, P, H, W].
            generators: N of them.

        Returns:
            A new tensor of the same shape and type.
        """
        seen = move(frames, [self._path(draw, *frames.shape[-2:]) for draw in generators])
        if not self.drop:
            return seen
        return drop(seen, [self.drop * draw.random() for draw in generators], generators)

    def _path(self, draw: Generator, height: int, width: int) -> Path:
        first = (flip(),) if draw.random() < self.flip else ()
        return first + self.policy(draw, height, width)


@dataclass(frozen=True)
class TwoViews:
    """Two independent views of the same frames: one for the query, one for the key."""

    view: View

    def __call__(self, frames: Tensor, generators: Sequence[Generator]) -> tuple[Tensor, Tensor]:
        return self.view(frames, generators), self.view(frames, generators)


def build_view(config: ViewConfig) -> View:
    """The transform that the settings name.

    Raises:
        ConfigError: a setting that the policy does not use.
    """
    if config.ops != 1 and config.policy != "nda-mn":
        raise ConfigError(f"ops={config.ops} with policy {config.policy!r}; only 'nda-mn' takes several")
    if config.scale and config.policy != "affine":
        raise ConfigError(f"scale={config.scale} with policy {config.policy!r}; only 'affine' changes the size")
    shift, turn, slant = config.shift, config.rotate, config.shear
    policies: dict[str, Policy] = {
        "nda": NDA(shift, turn, slant),
        "nda-mn": NDAmn(config.ops, shift, turn, slant, config.cutout),
        "group": GroupSet(shift, turn, slant, config.cutout),
        "affine": Affine(shift, turn, slant, config.scale, config.cutout),
    }
    return View(policies[config.policy], config.flip, config.drop)


def _cutout_anywhere(side: int, draw: Generator, height: int, width: int) -> Step:
    return cutout(int(draw.integers(height)), int(draw.integers(width)), side)


def _uniform(limit: float, draw: Generator) -> float:
    return draw.uniform(-limit, limit)


def _whole(limit: int, draw: Generator) -> int:
    return int(draw.integers(-limit, limit + 1))
