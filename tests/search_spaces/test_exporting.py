"""While a graph is traced for other programs, an operation computes the same with torch's own operations."""

from __future__ import annotations

import pytest
import torch

from search_spaces import operations
from search_spaces.kernels import exporting
from search_spaces.operations import OPERATIONS


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("name", OPERATIONS)
def test_values_are_those_of_the_kernels(name: str, stride: int, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    module = OPERATIONS[name](4, stride).double().eval()
    images = torch.rand(3, 4, 8, 8, dtype=torch.float64).contiguous(memory_format=torch.channels_last)
    expected = module(images)
    monkeypatch.setattr(operations, "exporting", lambda: True)
    assert not exporting()
    torch.testing.assert_close(module(images), expected)


def test_a_traced_average_pooling_leaves_no_tensor_of_the_tracer_behind() -> None:
    module, images = OPERATIONS["avg_pool_3x3"](5, 1), torch.rand(2, 5, 9, 9)
    program = torch.export.export(module, (images,))
    assert {str(node.target) for node in program.graph.nodes if node.op == "call_function"} == {
        "aten.avg_pool2d.default"
    }
    torch.testing.assert_close(module(images), program.module()(images))
