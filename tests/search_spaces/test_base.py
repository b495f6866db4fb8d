from __future__ import annotations

import pytest

from search_spaces.base import NetworkSpec


@pytest.mark.parametrize("name", ["channels", "layers"])
def test_a_size_may_be_none_but_not_below_one(name: str) -> None:
    assert getattr(NetworkSpec(**{name: None}), name) is None
    with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
        NetworkSpec(**{name: 0})


def test_a_stack_of_cells_needs_both_sizes() -> None:
    assert NetworkSpec(channels=4, layers=3).stack == (4, 3)
    with pytest.raises(ValueError, match="a stack of cells needs channels and layers, got None and 3"):
        _ = NetworkSpec(channels=None, layers=3).stack
