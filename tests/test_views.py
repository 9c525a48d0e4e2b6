"""Views: each operation by its geometry, one draw for all steps, and the generator decides."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from neuromoco import views
from neuromoco.config import ViewConfig
from neuromoco.errors import ConfigError

POLICIES = st.builds(
    lambda policy, flip, ops: ViewConfig(policy=policy, flip=flip, ops=ops if policy == "nda-mn" else 1),
    st.sampled_from(["nda", "nda-mn", "group"]),
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


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_geometry_of_each_operation() -> None:
    frames = point(4, 6)  # the centre is (10, 10)
    assert place(views.flip(frames)) == (4, 14)
    assert place(views.roll(frames, 3, -7)) == (7, 20)
    assert place(views.translate(frames, 3, 2)) == (7, 8)
    assert not views.translate(frames, -5, 0).any()
    assert place(views.rotate(frames, 90)) == (6, 16)  # clockwise
    assert place(views.rotate(frames, 180)) == (16, 14)
    assert place(views.shear(frames, 0.5, 0.0)) == (4, 3)  # 6 rows above the centre: 3 px to the left
    assert place(views.shear(frames, 0.0, 0.5)) == (2, 6)
    assert not views.cutout(frames, 5, 5, 4).any()
    assert views.cutout(frames, 0, 0, 4).any()
    assert views.cutout(torch.ones(1, 2, 9, 9), 0, 0, 4).sum() == 2 * (81 - 4)


@settings(max_examples=60, deadline=None)
@given(POLICIES, st.integers(0, 10_000))
def test_one_draw_serves_all_steps_and_polarities(config: ViewConfig, seed: int) -> None:
    image = torch.poisson(torch.full((19, 23), 0.7), generator=generator(3))
    frames = image.expand(4, 2, 19, 23).clone()
    seen = views.build_view(config)(frames, generator(seed))
    assert seen.shape == frames.shape
    assert torch.equal(seen, seen[:1, :1].expand_as(seen))
    assert set(seen.unique().tolist()) <= {0.0, *frames.unique().tolist()}  # counts stay counts
    assert torch.equal(frames, image.expand(4, 2, 19, 23))  # and the input stays as it was


@settings(max_examples=30, deadline=None)
@given(POLICIES, st.integers(0, 10_000))
def test_the_generator_decides(config: ViewConfig, seed: int) -> None:
    frames = torch.rand(2, 2, 20, 20, generator=generator(1))
    view = views.build_view(config)
    assert torch.equal(view(frames, generator(seed)), view(frames, generator(seed)))


@pytest.mark.parametrize("policy", ["nda", "nda-mn", "group"])
def test_the_two_views_differ(policy: str) -> None:
    frames = torch.rand(2, 2, 34, 34, generator=generator(1))
    two = views.TwoViews(views.build_view(ViewConfig(policy=policy, shift=5)))
    pairs = [two(frames, generator(seed)) for seed in range(40)]
    assert sum(torch.equal(query, key) for query, key in pairs) <= 4  # the identity may be drawn twice


def test_nda_is_one_of_three_and_the_group_set_one_of_seven() -> None:
    frames = torch.rand(1, 2, 34, 34, generator=generator(1))
    nda, group = views.NDA(5, 30.0, math.tan(math.radians(30))), views.GroupSet(5, 30.0, 0.3, 8)
    rolled = 0
    for seed in range(300):
        seen = nda(frames, generator(seed))
        rolled += torch.allclose(seen.sum(), frames.sum()) and torch.equal(
            seen.flatten().sort().values, frames.flatten().sort().values
        )
    assert 70 <= rolled <= 130  # a third, within 3.7 standard deviations
    same = sum(torch.equal(group(frames, generator(seed)), frames) for seed in range(700))
    assert 65 <= same <= 180  # a seventh, and the translations by 0 px


def test_mn_applies_different_operations() -> None:
    # With all four, the cutout is always among them.
    view = views.NDAmn(4, 0, 0.0, 0.0, 6)
    frames = torch.ones(1, 2, 34, 34)
    for seed in range(10):
        assert 18 <= 2 * 34 * 34 - view(frames, generator(seed)).sum() <= 72


def test_dropping_leaves_whole_events_out() -> None:
    frames = torch.full((4, 2, 50, 50), 10.0)
    left = views.drop(frames, 0.3, generator(0))
    assert torch.equal(left, left.round())
    assert left.max() <= 10
    # 200,000 events kept with chance 0.7: five standard deviations are 1,025
    assert abs(left.sum().item() - 140_000) < 1025
    assert torch.equal(views.drop(frames, 0.0, generator(0)), frames)
    view = views.build_view(ViewConfig(policy="nda", flip=0.0, drop=0.5))
    shares = [1 - view(frames, generator(seed)).sum().item() / frames.sum().item() for seed in range(60)]
    assert max(shares) > 0.4
    assert len({round(share, 4) for share in shares}) > 50


def test_several_operations_need_the_mn_form() -> None:
    with pytest.raises(ConfigError, match="only 'nda-mn' takes several"):
        views.build_view(ViewConfig(policy="nda", ops=2))
