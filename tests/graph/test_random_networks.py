"""Random networks of known layers lower to graphs that compute the same: none is refused, none is wrong."""

from __future__ import annotations

import pytest
import torch

from neuromoco.graph.nodes import Conv, Graph
from neuromoco.graph.trace import lower
from tests.graph.random_networks import Draw, compare, wrapped
from tests.helpers.networks import event_frames


@pytest.mark.parametrize("seed", range(24))
@pytest.mark.filterwarnings("ignore:Using padding='same'")
def test_a_random_network_lowers_to_the_same_network(seed: int) -> None:
    graph, parity = compare(seed)
    assert parity.problem is None
    assert len(graph.neurons) > 0


def test_a_batch_norm_of_large_statistics_is_no_false_alarm() -> None:
    """Its bias is a small difference of large numbers, which the network rounds before it subtracts them."""
    draw = Draw(10)
    torch.manual_seed(10)
    body = draw.body()
    network = wrapped(body, event_frames(max(2, draw.steps), 2, draw.first_side, 10))
    graph = lower(network, draw.first_side, draw.first_side, draw.steps)
    assert isinstance(graph, Graph)
    assert any(isinstance(node, Conv) and node.terms is not None for node in graph.nodes)
