"""Views: the same recording seen differently. Frozen transforms over pure functions.

Every function takes frames [T, P, H, W] and treats all T steps alike. A transform draws its
parameters once per recording from the generator it is given, so two calls give two different views
and the same generator state gives the same view. Interpolation is nearest neighbour and what moves
in from outside is 0, so that counts stay counts; a roll wraps around.

Sources: NDA (Li et al. 2022, arXiv 2203.06145) and its M/N form; the set of NeuroMoCo's group is the
one of the public code that preceded the paper.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Generator, Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.functional import affine

from neuromoco.config import ViewConfig
from neuromoco.errors import ConfigError

View = Callable[[Tensor, Generator], Tensor]


def flip(frames: Tensor) -> Tensor:
    """Left becomes right."""
    return frames.flip(-1)


def roll(frames: Tensor, down: int, right: int) -> Tensor:
    """Moves rows down and columns right; what leaves on one side enters on the other."""
    return frames.roll((down, right), (-2, -1))


def translate(frames: Tensor, down: int, right: int) -> Tensor:
    """Moves rows down and columns right; what leaves is lost, what enters is empty."""
    return _affine(frames, translate=[right, down])


def rotate(frames: Tensor, degrees: float) -> Tensor:
    """Turns clockwise around the centre."""
    return _affine(frames, angle=degrees)


def shear(frames: Tensor, across: float, down: float) -> Tensor:
    """Shifts columns by `across` pixels per row, and rows by `down` pixels per column."""
    # torchvision counts these angles the other way round.
    return _affine(frames, shear=[-math.degrees(math.atan(across)), -math.degrees(math.atan(down))])


def cutout(frames: Tensor, row: int, column: int, side: int) -> Tensor:
    """Empties the square of `side` pixels centred on (row, column), as far as it lies in the frame."""
    frames = frames.clone()
    top, left = row - side // 2, column - side // 2
    frames[..., max(0, top) : max(0, top + side), max(0, left) : max(0, left + side)] = 0
    return frames


def drop(frames: Tensor, share: float, generator: Generator) -> Tensor:
    """Leaves out every event with the given chance, independently."""
    return torch.binomial(frames, torch.full_like(frames, 1.0 - share), generator=generator)


@dataclass(frozen=True)
class NDA:
    """Exactly one of roll, rotate and shear, uniformly, as NDA was published.

    For CIFAR10-DVS: 5 px, 30 degrees, tan(30 degrees); for N-Caltech101: 3 px, 15, tan(15).
    """

    shift: int
    rotate: float
    shear: float

    def __call__(self, frames: Tensor, generator: Generator) -> Tensor:
        op = _index(3, generator)
        if op == 0:
            return roll(frames, _whole(self.shift, generator), _whole(self.shift, generator))
        if op == 1:
            return rotate(frames, _uniform(self.rotate, generator))
        return shear(frames, _uniform(self.shear, generator), 0.0)


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

    def __call__(self, frames: Tensor, generator: Generator) -> Tensor:
        for op in torch.randperm(4, generator=generator)[: self.ops].tolist():
            if op == 0:
                frames = roll(frames, _whole(self.shift, generator), _whole(self.shift, generator))
            elif op == 1:
                frames = rotate(frames, _uniform(self.rotate, generator))
            elif op == 2:
                frames = shear(frames, _uniform(self.shear, generator), 0.0)
            else:
                frames = _cutout_anywhere(frames, self.cutout, generator)
        return frames


@dataclass(frozen=True)
class GroupSet:
    """One of identity, shear x, shear y, translate x, translate y, rotate and cutout, uniformly."""

    shift: int
    rotate: float
    shear: float
    cutout: int

    def __call__(self, frames: Tensor, generator: Generator) -> Tensor:
        op = _index(7, generator)
        if op == 0:
            return frames
        if op <= 2:
            amount = _uniform(self.shear, generator)
            return shear(frames, amount, 0.0) if op == 1 else shear(frames, 0.0, amount)
        if op <= 4:
            pixels = _whole(self.shift, generator)
            return translate(frames, 0, pixels) if op == 3 else translate(frames, pixels, 0)
        if op == 5:
            return rotate(frames, _uniform(self.rotate, generator))
        return _cutout_anywhere(frames, self.cutout, generator)


@dataclass(frozen=True)
class Flipped:
    """A horizontal flip with the given chance, then another view."""

    chance: float
    view: View

    def __call__(self, frames: Tensor, generator: Generator) -> Tensor:
        if torch.rand((), generator=generator).item() < self.chance:
            frames = flip(frames)
        return self.view(frames, generator)


@dataclass(frozen=True)
class Thinned:
    """Another view, then events left out: a share drawn between 0 and `most`."""

    most: float
    view: View

    def __call__(self, frames: Tensor, generator: Generator) -> Tensor:
        share = self.most * torch.rand((), generator=generator).item()
        return drop(self.view(frames, generator), share, generator)


@dataclass(frozen=True)
class TwoViews:
    """Two independent views of the same frames: one for the query, one for the key."""

    view: View

    def __call__(self, frames: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        return self.view(frames, generator), self.view(frames, generator)


def build_view(config: ViewConfig) -> View:
    """The transform that the settings name.

    Raises:
        ConfigError: more operations than one asked of a policy that takes one.
    """
    if config.ops != 1 and config.policy != "nda-mn":
        raise ConfigError(f"ops={config.ops} with policy {config.policy!r}; only 'nda-mn' takes several")
    view: View
    if config.policy == "nda":
        view = NDA(config.shift, config.rotate, config.shear)
    elif config.policy == "nda-mn":
        view = NDAmn(config.ops, config.shift, config.rotate, config.shear, config.cutout)
    else:
        view = GroupSet(config.shift, config.rotate, config.shear, config.cutout)
    if config.flip:
        view = Flipped(config.flip, view)
    return Thinned(config.drop, view) if config.drop else view


def _affine(
    frames: Tensor,
    *,
    angle: float = 0.0,
    translate: list[int] | None = None,
    shear: list[float] | None = None,
) -> Tensor:
    return affine(
        frames,
        angle=angle,
        translate=translate or [0, 0],
        scale=1.0,
        shear=shear or [0.0, 0.0],
        interpolation=InterpolationMode.NEAREST,
    )


def _cutout_anywhere(frames: Tensor, side: int, generator: Generator) -> Tensor:
    rows, columns = frames.shape[-2:]
    return cutout(frames, _index(rows, generator), _index(columns, generator), side)


def _uniform(limit: float, generator: Generator) -> float:
    return (2.0 * torch.rand((), generator=generator).item() - 1.0) * limit


def _whole(limit: int, generator: Generator) -> int:
    return int(torch.randint(-limit, limit + 1, (), generator=generator).item())


def _index(count: int, generator: Generator) -> int:
    return int(torch.randint(count, (), generator=generator).item())
