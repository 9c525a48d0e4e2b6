"""Views: the geometry of each warp, one draw for all time steps, and nothing but the generator decides."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms.functional import affine

from neuromoco import views
from neuromoco.config import ViewConfig
from neuromoco.errors import ConfigError

POLICY_NAMES = ["nda", "nda-mn", "group", "affine"]
POLICIES = st.builds(
    lambda policy, flip, ops: ViewConfig(
        policy=policy, flip=flip, ops=ops if policy == "nda-mn" else 1, scale=0.3 if policy == "affine" else 0.0
    ),
    st.sampled_from(POLICY_NAMES),
    st.sampled_from([0.0, 0.5, 1.0]),
    st.integers(1, 4),
)


def point(row: int, column: int, side: int = 21) -> torch.Tensor:
    frames = torch.zeros(3, 2, side, side)
    frames[:, :, row, column] = torch.arange(1.0, 7.0).view(3, 2)
    return frames


def place(frames: torch.Tensor) -> tuple[int, int]:
    row, column = (frames[0, 0] == frames[0, 0].max()).nonzero()[0].tolist()
    return row, column


def generator(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def after(frames: torch.Tensor, *warps: views.Warp) -> torch.Tensor:
    """One recording [T, P, H, W] after its warps."""
    return views.warp_frames(frames[None], [warps])[0]


def seen(view: views.View, frames: torch.Tensor, seed: int) -> torch.Tensor:
    """One view of one recording [T, P, H, W]."""
    return view(frames[None], [generator(seed)])[0]


def noise(*shape: int, rate: float = 0.7) -> torch.Tensor:
    return torch.from_numpy(generator(1).poisson(rate, shape).astype(np.uint8))


def test_geometry_of_each_warp() -> None:
    frames = point(4, 6)  # the centre is (10, 10)
    assert place(after(frames, views.flip())) == (4, 14)
    assert place(after(frames, views.roll(3, -7))) == (7, 20)
    assert place(after(frames, views.translate(3, 2))) == (7, 8)
    assert not after(frames, views.translate(-5, 0)).any()
    assert place(after(frames, views.rotate(90))) == (6, 16)  # clockwise
    assert place(after(frames, views.rotate(180))) == (16, 14)
    assert place(after(frames, views.shear(0.5, 0.0))) == (4, 3)  # 6 rows above the centre: 3 px to the left
    assert place(after(frames, views.shear(0.0, 0.5))) == (2, 6)
    assert place(after(frames, views.affine(scale=0.5))) == (7, 8)
    assert after(frames, views.affine(scale=2.0)).sum() == 0  # 12 rows above the centre
    assert not after(frames, views.cutout(5, 5, 4)).any()
    assert after(frames, views.cutout(0, 0, 4)).any()
    assert after(torch.ones(1, 2, 9, 9), views.cutout(0, 0, 4)).sum() == 2 * (81 - 4)


def test_several_warps_equal_one_after_the_other() -> None:
    frames = point(4, 6)
    warps = (views.flip(), views.roll(-6, 0), views.rotate(90), views.cutout(0, 0, 6), views.translate(2, 1))
    stepwise = frames
    for warp in warps:
        stepwise = after(stepwise, warp)
    assert torch.equal(after(frames, *warps), stepwise)
    assert stepwise.any()
    lost = (views.translate(-5, 0), views.translate(5, 0))
    assert not after(frames, *lost).any()  # what left does not come back
    assert torch.equal(after(frames, views.roll(-5, 3), views.roll(5, -3)), frames)


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(["rotate", "shear", "all"]), st.integers(-40, 40), st.sampled_from([34, 35, 60]))
def test_affine_maps_equal_torchvisions(what: str, amount: int, width: int) -> None:
    # Of an irrational amount no pixel comes from half way between two, where rounding decides.
    degrees, slant = amount / math.sqrt(2), amount / math.sqrt(5000)
    frames = noise(2, 2, 34, width, rate=3.0)
    # torchvision counts the angle of a shear the other way round
    peer = {"angle": 0.0, "translate": [0, 0], "scale": 1.0, "shear": [0.0, 0.0]}
    if what == "rotate":
        step, peer["angle"] = views.rotate(degrees), degrees
    elif what == "shear":
        step, peer["shear"] = views.shear(slant, 0.0), [-math.degrees(math.atan(slant)), 0.0]
    else:
        step = views.affine(degrees, scale=1.0 + slant, down=-3, right=5)
        peer |= {"angle": degrees, "scale": 1.0 + slant, "translate": [5, -3]}
    ours, theirs = after(frames, step), affine(frames.float(), **peer)
    assert (ours == theirs).float().mean() > 0.995


@settings(max_examples=60, deadline=None)
@given(POLICIES, st.integers(0, 10_000))
def test_one_draw_serves_all_steps_and_polarities(config: ViewConfig, seed: int) -> None:
    image = noise(19, 23)
    frames = image.expand(4, 2, 19, 23).clone()
    result = seen(views.View(config), frames, seed)
    assert result.shape == frames.shape
    assert torch.equal(result, result[:1, :1].expand_as(result))
    assert set(result.unique().tolist()) <= {0, *frames.unique().tolist()}  # counts stay counts
    assert torch.equal(frames, image.expand(4, 2, 19, 23))  # and the input stays as it was


@settings(max_examples=30, deadline=None)
@given(POLICIES, st.lists(st.integers(0, 10_000), min_size=1, max_size=6), st.sampled_from([0.0, 0.5]))
def test_a_view_depends_on_its_generator_and_not_on_the_batch(
    config: ViewConfig, seeds: list[int], most: float
) -> None:
    frames = noise(len(seeds), 4, 2, 20, 20)
    time = {"window": 0.5, "speed": 0.5, "burst": 0.5, "slices": 2} if most else {}
    view = views.View(config.model_copy(update={"drop": most} | time))
    batch = view(frames, [generator(seed) for seed in seeds])
    for own, before, seed in zip(batch, frames, seeds, strict=True):
        assert torch.equal(own, seen(view, before, seed))


@pytest.mark.parametrize("policy", POLICY_NAMES)
def test_the_two_views_differ(policy: str) -> None:
    frames = noise(1, 2, 2, 34, 34)
    two = views.TwoViews(views.View(ViewConfig(policy=policy, shift=5)))
    pairs = [two(frames, [generator(seed)]) for seed in range(40)]
    assert sum(torch.equal(query, key) for query, key in pairs) <= 4  # the identity may be drawn twice


def test_nda_is_one_of_three_and_the_group_set_one_of_seven() -> None:
    frames = torch.rand(1, 2, 34, 34, generator=torch.Generator().manual_seed(1))
    nda = views.View(ViewConfig(policy="nda", flip=0.0, shear=math.tan(math.radians(30))))
    group = views.View(ViewConfig(policy="group", flip=0.0))
    ordered = frames.flatten().sort().values
    rolled = sum(torch.equal(seen(nda, frames, seed).flatten().sort().values, ordered) for seed in range(300))
    assert 70 <= rolled <= 130  # a third, within 3.7 standard deviations
    same = sum(torch.equal(seen(group, frames, seed), frames) for seed in range(700))
    assert 65 <= same <= 180  # a seventh, and the translations by 0 px


def test_mn_applies_different_operations() -> None:
    # With all four, the cutout is always among them.
    view = views.View(ViewConfig(policy="nda-mn", flip=0.0, ops=4, shift=0, rotate=0.0, shear=0.0, cutout=6))
    frames = torch.ones(1, 2, 34, 34)
    for seed in range(10):
        assert 18 <= 2 * 34 * 34 - seen(view, frames, seed).sum() <= 72


def test_the_affine_set_does_everything_every_time() -> None:
    frames = torch.ones(1, 1, 40, 40)

    def emptied(**limits: float) -> list[int]:
        settled = {"shift": 0, "rotate": 0.0, "shear": 0.0, "scale": 0.0, "cutout": 0} | limits
        view = views.View(ViewConfig(policy="affine", flip=0.0, **settled))
        return [int(1600 - seen(view, frames, seed).sum()) for seed in range(30)]

    assert max(emptied()) == 0
    assert min(emptied(cutout=6)) >= 9
    for name, limit in (("shift", 6), ("rotate", 30.0), ("shear", 0.4)):
        assert sum(left > 0 for left in emptied(**{name: limit})) >= 27, name
    smaller = sum(left > 0 for left in emptied(scale=0.3))
    assert 8 <= smaller <= 22  # the other half grows


def test_dropping_leaves_whole_events_out() -> None:
    frames = torch.full((4, 2, 50, 50), 10, dtype=torch.uint8)
    left = views.drop_events(frames[None], [0.3], [generator(0)])[0]
    assert left.dtype == torch.uint8
    assert left.max() <= 10
    # 200,000 events kept with chance 0.7: five standard deviations are 1,025
    assert abs(left.sum().item() - 140_000) < 1025
    # 20,000 pixels of Binomial(10, 0.7), variance 2.1
    assert left.float().var() == pytest.approx(2.1, abs=0.12)
    assert torch.equal(views.drop_events(frames[None], [0.0], [generator(0)])[0], frames)
    nothing = torch.zeros_like(frames[None])
    assert torch.equal(views.drop_events(nothing, [0.5], [generator(0)]), nothing)
    view = views.View(ViewConfig(policy="nda", flip=0.0, drop=0.5))
    shares = [1 - seen(view, frames, seed).sum().item() / frames.sum().item() for seed in range(60)]
    assert max(shares) > 0.4
    assert len({round(share, 4) for share in shares}) > 50


def still(**values: object) -> views.View:
    """A view that changes nothing but what is given."""
    unmoved = {"shift": 0, "rotate": 0.0, "shear": 0.0, "cutout": 0, "flip": 0.0}
    return views.View(ViewConfig(policy="affine", **unmoved | values))


def test_all_slices_of_a_step_add_up_to_the_step() -> None:
    frames = noise(3, 12, 2, 9, 11, rate=90.0)  # sums of three pass 255
    view = still(slices=3)(frames, [generator(seed) for seed in range(3)])
    assert torch.equal(view, frames.int().view(3, 4, 3, 2, 9, 11).sum(2))


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 9), st.integers(1, 6), st.floats(0.05, 1.0), st.floats(0.0, 0.9), st.integers(0, 10_000))
def test_a_window_is_a_stretch_of_slices_in_order(
    steps: int, slices: int, window: float, speed: float, seed: int
) -> None:
    config = ViewConfig(window=window, speed=speed, slices=slices)
    bounds = views.step_bounds(config, generator(seed), steps)
    assert bounds.shape == (steps + 1,)
    assert bounds[0] >= 0
    assert bounds[-1] <= steps * slices
    assert (np.diff(bounds) >= 0).all()
    assert bounds[-1] - bounds[0] >= window * steps * slices - 1  # rounding moves either end by half a slice
    frames = noise(1, steps * slices, 2, 3, 3)
    view = still(window=window, speed=speed, slices=slices)(frames, [generator(seed)])[0]
    for t in range(steps):
        assert torch.equal(view[t], frames[0, bounds[t] : bounds[t + 1]].sum(0, dtype=torch.int32))


def test_windows_and_speeds_take_the_values_that_they_may() -> None:
    def drawn(**values: float) -> list[np.ndarray]:
        return [views.step_bounds(ViewConfig(slices=50, **values), generator(seed), 4) for seed in range(300)]

    shares = np.array([(bounds[-1] - bounds[0]) / 200 for bounds in drawn(window=0.4)])
    assert 0.39 <= shares.min() < 0.45
    assert 0.95 < shares.max() <= 1.0
    firsts = [bounds[0] for bounds in drawn(window=0.4)]
    assert min(firsts) < 5
    assert max(firsts) > 70
    ratios = np.array([np.diff(bounds)[-1] / np.diff(bounds)[0] for bounds in drawn(speed=0.5)])
    assert 1 / 3 - 0.02 <= ratios.min() < 0.4
    assert 2.5 < ratios.max() <= 3.1
    assert 120 < (ratios > 1).sum() < 180  # slower and faster alike


def test_a_burst_empties_one_stretch_of_steps_and_never_all() -> None:
    frames = torch.ones(1, 8, 2, 6, 6, dtype=torch.uint8)
    lost = []
    for seed in range(200):
        full = seen(still(burst=0.5), frames[0], seed).flatten(1).sum(1) > 0
        lost.append(int((~full).sum()))
        stretch = (~full).nonzero().flatten()
        assert not len(stretch) or stretch[-1] - stretch[0] + 1 == len(stretch)
    assert set(lost) == {0, 1, 2, 3, 4}
    everything = still(burst=0.99)
    assert all(seen(everything, frames[0, :2], seed).any() for seed in range(50))
    assert frames.all()  # the input stays as it was


def test_views_without_time_are_what_they_were() -> None:
    frames = noise(2, 4, 2, 20, 20)
    draws = [[generator(seed) for seed in range(2)] for _ in range(2)]
    config = ViewConfig(policy="affine", drop=0.5)
    view = views.View(config)(frames, draws[0])
    warped = views.warp_frames(frames, [views.View(config)._draw(draw, 20, 20) for draw in draws[1]])
    assert torch.equal(view, views.drop_events(warped, [0.5 * draw.random() for draw in draws[1]], draws[1]))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"policy": "nda", "ops": 2}, "only 'nda-mn' takes several"),
        ({"policy": "group", "scale": 0.2}, "only 'affine' changes the size"),
    ],
)
def test_a_setting_that_the_policy_does_not_use(values: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        views.View(ViewConfig(**values))
