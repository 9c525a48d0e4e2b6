"""The graph: shapes and windows as torch has them, folding, order."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from neuromoco.export.to_loihi import mapping as loihi_mapping
from neuromoco.export.to_onnx import operators as onnx_operators
from neuromoco.graph import nodes
from neuromoco.graph.folding import fold_affine
from neuromoco.graph.interpret import RULES
from neuromoco.graph.nodes import (
    Add,
    Affine,
    Conv,
    Graph,
    Input,
    Linear,
    Node,
    Weighted,
    adaptive_windows,
    strided_windows,
)
from neuromoco.runtime.loihi.blocks import conv_shape

RNG = np.random.default_rng(0)


def means(values: torch.Tensor, windows: tuple[tuple[int, int], ...]) -> torch.Tensor:
    return torch.stack([values[0, 0, first:end].mean() for first, end in windows])


@settings(deadline=None)
@given(side=st.integers(1, 40), parts=st.integers(1, 40))
def test_adaptive_windows_are_those_of_torch(side: int, parts: int) -> None:
    values = torch.arange(side, dtype=torch.float64).square()[None, None]
    assert torch.allclose(means(values, adaptive_windows(side, parts)), F.adaptive_avg_pool1d(values, parts)[0, 0])


@settings(deadline=None)
@given(side=st.integers(1, 40), kernel=st.integers(1, 8), stride=st.integers(1, 8))
def test_strided_windows_are_those_of_torch(side: int, kernel: int, stride: int) -> None:
    kernel = min(kernel, side)
    values = torch.arange(side, dtype=torch.float64).square()[None, None]
    assert torch.allclose(
        means(values, strided_windows(side, kernel, stride)), F.avg_pool1d(values, kernel, stride)[0, 0]
    )


@settings(deadline=None)
@given(
    side=st.integers(8, 20),
    kernel=st.integers(1, 4),
    stride=st.integers(1, 3),
    padding=st.integers(0, 2),
    dilation=st.integers(1, 2),
)
def test_conv_shape_is_that_of_torch(side: int, kernel: int, stride: int, padding: int, dilation: int) -> None:
    weight = torch.zeros(4, 2, kernel, kernel)
    found = F.conv2d(torch.zeros(1, 2, side, side + 1), weight, None, stride, padding, dilation)
    pairs = [(value, value) for value in (kernel, stride, padding, dilation)]
    assert conv_shape((2, side, side + 1), 4, *pairs) == tuple(found.shape[1:])


def array(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def small_nodes() -> tuple[Input, Conv, Affine]:
    frames = Input(name="frames", inputs=(), shape=(2, 1, 1))
    once = {"stride": (1, 1), "padding": (0, 0), "dilation": (1, 1), "groups": 1}
    conv = Conv(name="conv", inputs=("frames",), shape=(3, 1, 1), weight=array(3, 2, 1, 1), bias=array(3), **once)
    norm = Affine(name="norm", inputs=("conv",), shape=(3, 1, 1), weight=array(3), bias=array(3))
    return frames, conv, norm


def test_an_affine_folds_into_the_layer_before_it() -> None:
    frames, conv, norm = small_nodes()
    both = Add(name="both", inputs=("norm", "norm"), shape=(3, 1, 1))
    folded = Graph(fold_affine([frames, conv, norm, both]))
    assert [node.name for node in folded.nodes] == ["frames", "conv", "both"]
    assert folded["both"].inputs == ("conv", "conv")
    x = RNG.standard_normal(2)
    wanted = norm.weight * (conv.weight[:, :, 0, 0] @ x + conv.bias) + norm.bias
    found: Any = folded["conv"]
    assert found.weight[:, :, 0, 0] @ x + found.bias == pytest.approx(wanted, abs=1e-6)


def test_an_affine_stays_where_another_node_needs_the_layer_as_it_is() -> None:
    frames, conv, norm = small_nodes()
    both = Add(name="both", inputs=("conv", "norm"), shape=(3, 1, 1))
    assert fold_affine([frames, conv, norm, both])[2].name == "norm"


def test_two_affines_fold_after_one_another() -> None:
    layers: list[Any] = [
        Input(name="frames", inputs=(), shape=(2,)),
        Linear(name="linear", inputs=("frames",), shape=(1,), weight=array(1, 2), bias=np.zeros(1, np.float32)),
        Affine(name="twice", inputs=("linear",), shape=(1,), weight=np.full(1, 2.0), bias=np.full(1, 1.0)),
        Affine(name="thrice", inputs=("twice",), shape=(1,), weight=np.full(1, 3.0), bias=np.zeros(1)),
    ]
    linear: Any = fold_affine(layers)[1]
    assert linear.weight == pytest.approx(6 * layers[1].weight)
    assert linear.bias == pytest.approx([3.0])


def test_the_reference_and_the_targets_know_every_kind_of_node() -> None:
    kinds = {kind for kind in vars(nodes).values() if isinstance(kind, type) and issubclass(kind, Node)}
    kinds -= {Node, Weighted}
    assert set(RULES) == kinds - {Input}
    assert set(onnx_operators.WRITERS) == kinds - {Input}
    assert set(loihi_mapping.WRITERS) == kinds


def test_a_graph_refuses_a_name_twice_and_an_input_that_comes_later() -> None:
    frames, conv, norm = small_nodes()
    with pytest.raises(ValueError, match="node conv: its name is taken"):
        Graph((frames, conv, conv))
    with pytest.raises(ValueError, match=r"node norm: .* an input comes later"):
        Graph((frames, norm, conv))
