from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from search_spaces.base import Cost, NetworkSpec


@pytest.mark.parametrize("name", ["channels", "layers"])
def test_a_size_may_be_none_but_not_below_one(name: str) -> None:
    assert getattr(NetworkSpec(**{name: None}), name) is None
    with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
        NetworkSpec(**{name: 0})


@pytest.mark.parametrize(
    ("size", "message"),
    [
        ({"channels": 10**12}, "channels must be at most 10000, got 1000000000000"),
        ({"channels": 10**5000}, "channels must be at most 10000, got one of 16610 bits"),
        ({"layers": 10**9}, "layers must be at most 1000"),
        ({"classes": 10**6}, "classes must be at most 100000"),
        ({"image_channels": 10**6}, "image_channels must be at most 1000"),
        ({"image_size": (10**9, 32)}, "image size must be at most 100000"),
        ({"image_size": 32}, "image_size must be height and width, got 32"),
        ({"channels": True}, "channels must be a whole number, got True"),
        ({"layers": 2.0}, "layers must be a whole number, got 2.0"),
        ({"classes": None}, "classes must be a whole number, got None"),
    ],
)
def test_a_size_out_of_bounds(size: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        NetworkSpec(**size)


def test_numbers_of_numpy_become_python_s() -> None:
    spec = NetworkSpec(channels=np.int64(4), layers=np.uint8(3), image_size=(np.int32(8), 9))  # type: ignore[arg-type]
    assert spec == NetworkSpec(channels=4, layers=3, image_size=(8, 9))
    assert {type(value) for value in (spec.channels, spec.layers, *spec.image_size)} == {int}


def test_networks_of_too_many_parameters_are_refused() -> None:
    Cost(2 * 10**9, 0).check()
    with pytest.raises(ValueError, match="at most 2,000,000,000 parameters, got one of 2,000,000,001"):
        Cost(2 * 10**9 + 1, 0).check()


def test_a_stack_of_cells_needs_both_sizes() -> None:
    assert NetworkSpec(channels=4, layers=3).stack == (4, 3)
    with pytest.raises(ValueError, match="a stack of cells needs channels and layers, got None and 3"):
        _ = NetworkSpec(channels=None, layers=3).stack
