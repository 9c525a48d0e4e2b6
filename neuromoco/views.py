"""Views: random transformations of recordings, a whole batch at once.

A view of a recording is a sequence of warps. Each says where a pixel of its result comes from: an affine map, a roll
that wraps around, an erased square. Every recording draws its warps from its own generator, so its view depends on
nothing else in the batch. All warps are then traced back to the pixels they start from, and the frames of the batch are
read there once, all T time steps alike. Reading is nearest neighbour and what moves in from outside is 0, so counts
stay counts.

Before that, a view may choose its time: recordings come in more and shorter slices than there are steps, and every step
adds up its slices of a random window, whose speed may change from one end to the other.

Sources: NDA (Li et al. 2022, arXiv 2203.06145) and its M/N form; the set of NeuroMoCo's group is the one in the public
code that preceded the paper.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import zip_longest

import numpy as np
import torch
import torch.nn.functional as F
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor

from neuromoco.config import ViewConfig
from neuromoco.errors import ConfigError


@dataclass(frozen=True)
class Warp:
    """Where a pixel of the result comes from; rows and columns count from the centre.

    Attributes:
        row: (a, b, c): the source's row is `a * row + b * column + c`.
        column: (a, b, c): the source's column is `a * row + b * column + c`.
        wraps: whether a source outside the frame wraps around to the other side; otherwise the pixel is empty.
        hole: row, column and side of an empty square, counted from the corner; a side of 0 is none.
    """

    row: tuple[float, float, float] = (1.0, 0.0, 0.0)
    column: tuple[float, float, float] = (0.0, 1.0, 0.0)
    wraps: bool = False
    hole: tuple[int, int, int] = (0, 0, 0)


Warps = tuple[Warp, ...]
# Draws the warps of one recording of H x W pixels.
Policy = Callable[[ViewConfig, Generator, int, int], Warps]


def flip() -> Warp:
    """Mirrors left and right."""
    return Warp(column=(0.0, -1.0, 0.0))


def roll(down: int, right: int) -> Warp:
    """Moves rows down and columns right; what leaves on one side enters on the opposite side."""
    return Warp((1.0, 0.0, -down), (0.0, 1.0, -right), wraps=True)


def translate(down: int, right: int) -> Warp:
    """Moves rows down and columns right; what leaves is lost and what enters is empty."""
    return affine(down=down, right=right)


def rotate(degrees: float) -> Warp:
    """Rotates clockwise around the centre."""
    return affine(degrees=degrees)


def shear(across: float, down: float) -> Warp:
    """Shifts columns by `across` pixels per row, or rows by `down` pixels per column."""
    return Warp((1.0, -down, 0.0), (-across, 1.0, 0.0))


def cutout(row: int, column: int, side: int) -> Warp:
    """Empties the square of `side` pixels centred on (row, column), as far as it is inside the frame."""
    return Warp(hole=(row, column, side))


def affine(
    degrees: float = 0.0, across: float = 0.0, scale: float = 1.0, down: float = 0.0, right: float = 0.0
) -> Warp:
    """Shears columns by `across` pixels per row, scales, rotates clockwise, then translates."""
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    # From the result back to its source: rotation and scale first, then the shear.
    row = (cosine / scale, -sine / scale)
    column = (sine / scale - across * row[0], cosine / scale - across * row[1])
    return Warp((*row, -(row[0] * down + row[1] * right)), (*column, -(column[0] * down + column[1] * right)))


def warp_frames(frames: Tensor, warps: Sequence[Warps]) -> Tensor:
    """Applies to each of N recordings its own warps.

    Args:
        frames: [N, T, P, H, W], of any type.
        warps: N sequences, of any length.

    Returns:
        A new tensor [N, T, P, H, W] of the same type.
    """
    height, width = frames.shape[-2:]
    row, column = torch.arange(height).view(1, -1, 1).float(), torch.arange(width).view(1, 1, -1).float()
    inside = torch.ones(1, 1, 1, dtype=torch.bool)
    for layer in reversed(list(zip_longest(*warps, fillvalue=Warp()))):  # one warp of each recording
        inside = inside & ~_holes(layer, row, column)
        row, column = _sources(layer, row - (height - 1) / 2, column - (width - 1) / 2)
        wraps = torch.tensor([warp.wraps for warp in layer]).view(-1, 1, 1)
        row, in_height = _bounded(row + (height - 1) / 2, height, wraps)
        column, in_width = _bounded(column + (width - 1) / 2, width, wraps)
        inside = inside & in_height & in_width
    places = row.round().clamp_(0, height - 1) * width + column.round().clamp_(0, width - 1)  # [N, H, W]
    places = places.long().expand(len(frames), height, width).reshape(len(frames), 1, -1)
    flat = frames.flatten(3).flatten(1, 2)  # [N, T * P, H * W]
    return flat.gather(2, places.expand(flat.shape)).view(frames.shape).masked_fill_(~inside[:, None, None], 0)


def _holes(warps: Sequence[Warp], row: Tensor, column: Tensor) -> Tensor:
    """Which pixels are inside the warps' empty squares: bool [N, H, W]."""
    centre_row, centre_column, side = torch.tensor([warp.hole for warp in warps]).view(-1, 3, 1, 1).unbind(1)
    top, left = centre_row - side // 2 - 0.5, centre_column - side // 2 - 0.5
    return (row >= top) & (row < top + side) & (column >= left) & (column < left + side)


def _sources(warps: Sequence[Warp], row: Tensor, column: Tensor) -> tuple[Tensor, Tensor]:
    """Rows and columns that pixels come from, counted from the centre: two float [N, H, W]."""
    maps = torch.tensor([[*warp.row, *warp.column] for warp in warps]).view(-1, 6, 1, 1).unbind(1)
    return maps[0] * row + maps[1] * column + maps[2], maps[3] * row + maps[4] * column + maps[5]


def _bounded(place: Tensor, size: int, wraps: Tensor) -> tuple[Tensor, Tensor]:
    """Places along an axis, wrapped where `wraps` says so, and whether they are inside it."""
    place = torch.where(wraps, (place + 0.5).remainder(size) - 0.5, place)
    return place, (place >= -0.5) & (place < size - 0.5)


def drop_events(frames: Tensor, shares: Sequence[float], generators: Sequence[Generator]) -> Tensor:
    """Drops each event of recording n with probability `shares[n]`, independently.

    Args:
        frames: event counts [N, ...], integers.
        shares: N probabilities.
        generators: one for each recording.

    Returns:
        A new tensor of the same shape and type.
    """
    counts = frames.numpy().reshape(len(frames), -1)
    events = counts.sum(1, dtype=np.int64).tolist()
    draws = zip(generators, events, shares, strict=True)
    stays = np.concatenate([generator.random(n, np.float32) >= share for generator, n, share in draws])  # [events]
    places = np.flatnonzero(counts != 0)  # of bool, ten times faster
    before = counts.ravel()[places].astype(np.int64)
    after = np.zeros_like(counts)
    if len(places):
        after.ravel()[places] = np.add.reduceat(stays, np.cumsum(before) - before, dtype=np.int64)
    return torch.from_numpy(after).view(frames.shape)


def add_slices(frames: Tensor, bounds: Sequence[NDArray[np.int64]]) -> Tensor:
    """Adds up slices to steps.

    Args:
        frames: event counts [N, S, ...] of S slices, integers.
        bounds: N times T + 1 ascending numbers from 0 to S; step t of recording n adds up the slices from
            `bounds[n][t]` to before `bounds[n][t + 1]`.

    Returns:
        int32 [N, T, ...].
    """
    before = F.pad(frames.flatten(2).cumsum(1, dtype=torch.int32), (0, 0, 1, 0))  # [N, S + 1, cells]
    edges = torch.from_numpy(np.stack(bounds))[:, :, None].expand(-1, -1, before.shape[2])
    steps = before.gather(1, edges).diff(dim=1)
    return steps.view(len(frames), -1, *frames.shape[2:])


def step_bounds(config: ViewConfig, draw: Generator, steps: int) -> NDArray[np.int64]:
    """Draws a window of the slices, and how its speed changes: bounds [T + 1] for `add_slices`."""
    slices = steps * config.slices
    length = draw.uniform(config.window, 1.0) * slices
    first = draw.uniform(0.0, slices - length)
    change = draw.uniform(-config.speed, config.speed)
    lengths = np.linspace(1.0 - change, 1.0 + change, steps)
    edges = first + length * np.append(0.0, lengths.cumsum()) / lengths.sum()
    bounds: NDArray[np.int64] = np.rint(edges).astype(np.int64).clip(0, slices)
    return bounds


def lose_stretches(frames: Tensor, config: ViewConfig, generators: Sequence[Generator]) -> Tensor:
    """Empties one stretch of steps of each recording, of up to the share `burst`, in place: frames [N, T, ...]."""
    steps = frames.shape[1]
    for recording, draw in zip(frames, generators, strict=True):
        lost = min(steps - 1, int(draw.integers(round(config.burst * steps) + 1)))
        first = int(draw.integers(steps - lost + 1))
        recording[first : first + lost] = 0
    return frames


def nda(config: ViewConfig, draw: Generator, height: int, width: int) -> Warps:
    """Exactly one of roll, rotate and shear, uniformly, as NDA was published.

    For CIFAR10-DVS: 5 px, 30 degrees, tan(30 degrees); for N-Caltech101: 3 px, 15 degrees, tan(15 degrees).
    """
    op = draw.integers(3)
    if op == 0:
        return (roll(_pixels(config, draw), _pixels(config, draw)),)
    return (rotate(_uniform(config.rotate, draw)) if op == 1 else shear(_uniform(config.shear, draw), 0.0),)


def nda_mn(config: ViewConfig, draw: Generator, height: int, width: int) -> Warps:
    """`ops` different ones of roll, rotate, shear and cutout: the M/N form of NDA.

    For magnitude n its authors take a shift of 1 + 2n px, 15n degrees, a shear of 0.15n and a cutout of 8n px.
    """
    warps = (
        roll(_pixels(config, draw), _pixels(config, draw)),
        rotate(_uniform(config.rotate, draw)),
        shear(_uniform(config.shear, draw), 0.0),
        _random_cutout(config, draw, height, width),
    )
    return tuple(warps[op] for op in draw.permutation(4)[: config.ops])


def group_set(config: ViewConfig, draw: Generator, height: int, width: int) -> Warps:
    """One of identity, shear x, shear y, translate x, translate y, rotate and cutout, uniformly."""
    op = draw.integers(7)
    if op == 0:
        return ()
    if op <= 2:
        amount = _uniform(config.shear, draw)
        return (shear(amount, 0.0) if op == 1 else shear(0.0, amount),)
    if op <= 4:
        pixels = _pixels(config, draw)
        return (translate(0, pixels) if op == 3 else translate(pixels, 0),)
    if op == 5:
        return (rotate(_uniform(config.rotate, draw)),)
    return (_random_cutout(config, draw, height, width),)


def affine_set(config: ViewConfig, draw: Generator, height: int, width: int) -> Warps:
    """Shear, scale, rotation and shift in one map, then a cutout: all of them, every time."""
    limits = (config.rotate, config.shear, config.scale, config.shift, config.shift)
    degrees, across, growth, down, right = (_uniform(limit, draw) for limit in limits)
    return affine(degrees, across, 1.0 + growth, down, right), _random_cutout(config, draw, height, width)


POLICIES: dict[str, Policy] = {"nda": nda, "nda-mn": nda_mn, "group": group_set, "affine": affine_set}


@dataclass(frozen=True)
class View:
    """The random transformation that the settings describe: time, a horizontal flip, warps, then dropped events.

    Attributes:
        config: policy, limits and probabilities.

    Raises:
        ConfigError: a setting that the policy does not use.
    """

    config: ViewConfig

    def __post_init__(self) -> None:
        config = self.config
        if config.ops != 1 and config.policy != "nda-mn":
            raise ConfigError(f"ops={config.ops} with policy {config.policy!r}; only 'nda-mn' takes several")
        if config.scale and config.policy != "affine":
            raise ConfigError(f"scale={config.scale} with policy {config.policy!r}; only 'affine' changes the size")

    def __call__(self, frames: Tensor, generators: Sequence[Generator]) -> Tensor:
        """One view of each of N recordings.

        Args:
            frames: event counts [N, T * slices, P, H, W], integers.
            generators: one for each recording.

        Returns:
            A new tensor [N, T, P, H, W], of the same type unless slices were added up.
        """
        if self.config.slices > 1 or self.config.moves_in_time:
            steps = frames.shape[1] // self.config.slices
            frames = add_slices(frames, [step_bounds(self.config, draw, steps) for draw in generators])
        view = warp_frames(frames, [self._draw(draw, *frames.shape[-2:]) for draw in generators])
        if self.config.burst:
            view = lose_stretches(view, self.config, generators)
        if not self.config.drop:
            return view
        return drop_events(view, [self.config.drop * draw.random() for draw in generators], generators)

    def _draw(self, draw: Generator, height: int, width: int) -> Warps:
        mirrored = (flip(),) if draw.random() < self.config.flip else ()
        return mirrored + POLICIES[self.config.policy](self.config, draw, height, width)


@dataclass(frozen=True)
class TwoViews:
    """Two independent views of the same frames, or of pairs: for the query and for the key, perhaps of another kind."""

    view: View
    other: View | None = None

    def __call__(self, frames: Tensor, draws: Sequence[Generator], key: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self.view(frames, draws), (self.other or self.view)(frames if key is None else key, draws)


def _random_cutout(config: ViewConfig, draw: Generator, height: int, width: int) -> Warp:
    return cutout(int(draw.integers(height)), int(draw.integers(width)), config.cutout)


def _uniform(limit: float, draw: Generator) -> float:
    return draw.uniform(-limit, limit)


def _pixels(config: ViewConfig, draw: Generator) -> int:
    return int(draw.integers(-config.shift, config.shift + 1))
