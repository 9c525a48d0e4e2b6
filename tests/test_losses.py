"""The losses by closed forms, and against the same sums written out with loops."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from neuromoco.losses import info_nce, mac, mbc, mix_info_nce

READINGS = ["plain", "group"]


def random_case(steps: int, batch: int, width: int, queue: int, seed: int) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    z_q, z_k = (torch.randn(steps, batch, width, generator=generator, dtype=torch.float64) for _ in range(2))
    keys = torch.randn(width, steps, queue, generator=generator, dtype=torch.float64)
    return z_q, z_k, keys


def unit(vector: list[float]) -> list[float]:
    norm = math.sqrt(sum(v * v for v in vector))
    return [v / norm for v in vector]


def dot(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def nce(query: list[float], key: list[float], negatives: list[list[float]], temperature: float) -> float:
    exponents = [dot(query, other) / temperature for other in [key, *negatives]]
    return math.log(sum(math.exp(e) for e in exponents)) - exponents[0]


def straight_line(z_q: list, z_k: list, keys: list, temperature: float, reading: str) -> tuple[float, float]:
    """MBC and MAC in plain Python: lists [T][N][D], keys [D][T][K]."""
    steps, batch, width, queue = len(z_q), len(z_q[0]), len(z_q[0][0]), len(keys[0][0])
    mean = lambda z, n: [sum(z[t][n][d] for t in range(steps)) / steps for d in range(width)]  # noqa: E731
    averages = [[sum(keys[d][t][k] for t in range(steps)) / steps for d in range(width)] for k in range(queue)]
    by_step = [[unit([keys[d][t][k] for d in range(width)]) for k in range(queue)] for t in range(steps)]
    if reading == "plain":
        averages = [unit(a) for a in averages]
    else:
        averages = [[sum(by_step[t][k][d] for t in range(steps)) / steps for d in range(width)] for k in range(queue)]
    before = [nce(unit(mean(z_q, n)), unit(mean(z_k, n)), averages, temperature) for n in range(batch)]
    after = []
    for t in range(steps):
        steps_of_negatives = [t] if reading == "plain" else range(steps)
        negatives = [by_step[s][k] for s in steps_of_negatives for k in range(queue)]
        after += [nce(unit(z_q[t][n]), unit(z_k[t][n]), negatives, temperature) for n in range(batch)]
    return sum(before) / batch, sum(after) / len(after)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 4),
    st.integers(1, 4),
    st.integers(2, 6),
    st.integers(1, 7),
    st.integers(0, 99),
    st.sampled_from(READINGS),
)
def test_parity_with_a_straight_line_computation(
    steps: int, batch: int, width: int, queue: int, seed: int, reading: str
) -> None:
    z_q, z_k, keys = random_case(steps, batch, width, queue, seed)
    before, after = straight_line(z_q.tolist(), z_k.tolist(), keys.tolist(), 0.2, reading)
    loss = mix_info_nce(z_q, z_k, keys, 0.2, alpha=0.3, beta=0.9, negatives=reading)
    assert loss.mbc.item() == pytest.approx(before, rel=1e-9)
    assert loss.mac.item() == pytest.approx(after, rel=1e-9)
    assert loss.total.item() == pytest.approx(0.3 * before + 0.9 * after, rel=1e-9)


@pytest.mark.parametrize("queue", [1, 5, 4096])
@pytest.mark.parametrize("temperature", [0.07, 0.2, 1.0])
def test_identical_embeddings_give_log_of_the_number_of_keys(queue: int, temperature: float) -> None:
    one = F.normalize(torch.ones(1, 16, dtype=torch.float64))
    z = one.expand(4, 3, 16)
    keys = one.view(16, 1, 1).expand(16, 4, queue)
    for reading in READINGS:
        assert mbc(z, z, keys, temperature, reading).item() == pytest.approx(math.log(queue + 1))
    assert mac(z, z, keys, temperature, "plain").item() == pytest.approx(math.log(queue + 1))
    assert mac(z, z, keys, temperature, "group").item() == pytest.approx(math.log(4 * queue + 1))


@pytest.mark.parametrize("temperature", [0.07, 0.2, 1.0])
def test_orthogonal_negatives(temperature: float) -> None:
    steps, queue = 4, 6
    query = torch.eye(8, dtype=torch.float64)[:1].expand(steps, 3, 8)
    keys = torch.eye(8, dtype=torch.float64)[:, 1:7].unsqueeze(1).expand(8, steps, queue)
    expected = lambda count: math.log1p(count * math.exp(-1 / temperature))  # noqa: E731
    for reading in READINGS:
        assert mbc(query, query, keys, temperature, reading).item() == pytest.approx(expected(queue))
    assert mac(query, query, keys, temperature, "plain").item() == pytest.approx(expected(queue))
    assert mac(query, query, keys, temperature, "group").item() == pytest.approx(expected(steps * queue))


@pytest.mark.parametrize("reading", READINGS)
def test_with_one_step_both_criteria_are_one(reading: str) -> None:
    z_q, z_k, keys = random_case(1, 5, 16, 9, 0)
    assert mbc(z_q, z_k, keys, 0.2, reading).item() == pytest.approx(
        mac(z_q, z_k, keys, 0.2, reading).item(), rel=1e-12
    )


def test_the_readings_differ_where_steps_differ() -> None:
    z_q, z_k, keys = random_case(4, 5, 16, 9, 0)
    assert mbc(z_q, z_k, keys, 0.2, "plain").item() != pytest.approx(mbc(z_q, z_k, keys, 0.2, "group").item())
    # opposite keys at two steps cancel in the mean: in the group's reading that negative is a zero vector
    pair = F.normalize(torch.randn(16, 1, 1, dtype=torch.float64), dim=0)
    opposite = torch.cat([pair, -pair], dim=1)  # [D, 2, 1]
    z = torch.randn(2, 1, 16, dtype=torch.float64)
    assert mbc(z, z, opposite, 0.2, "group").item() == pytest.approx(math.log1p(math.exp(-5)))


def test_embeddings_that_are_the_same_for_all_recordings_gain_nothing_by_the_plain_reading() -> None:
    # Steps of different norm: the mean of raw steps and the mean of normalised steps point elsewhere.
    steps = torch.randn(4, 1, 16, dtype=torch.float64) * torch.tensor([0.01, 0.1, 1.0, 10.0]).view(4, 1, 1)
    z, keys = steps.expand(4, 5, 16), steps.permute(2, 0, 1).expand(16, 4, 9)
    assert mbc(z, z, keys, 0.1, "plain").item() == pytest.approx(math.log(10))
    assert mac(z, z, keys, 0.1, "plain").item() == pytest.approx(math.log(10))
    assert mbc(z, z, keys, 0.1, "group").item() < 0.9 * math.log(10)


def test_a_nearer_key_lowers_the_loss_and_scale_does_not_matter() -> None:
    z_q, z_k, keys = random_case(3, 4, 16, 9, 1)
    far, near = (mix_info_nce(z_q, k, keys, 0.2).total.item() for k in (z_k, z_k + z_q))
    assert near < far
    assert mix_info_nce(7 * z_q, 0.1 * z_k, keys, 0.2).total.item() == pytest.approx(far)


def test_info_nce_is_cross_entropy_of_the_first() -> None:
    z_q, z_k, keys = random_case(1, 4, 8, 5, 2)
    query, key = F.normalize(z_q[0], dim=1), F.normalize(z_k[0], dim=1)
    negatives = F.normalize(keys[:, 0], dim=0)
    others = torch.cat([(query * key).sum(1, keepdim=True), query @ negatives], 1) / 0.5
    assert info_nce(query, key, negatives, 0.5).item() == pytest.approx(-F.log_softmax(others, 1)[:, 0].mean().item())
