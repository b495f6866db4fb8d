from __future__ import annotations

import numpy as np
import pytest

from search_spaces.nasbench201.encoding import encoded
from search_spaces.nasbench201.genotype import parse
from search_spaces.nasbench201.space import NasBench201Space


@pytest.mark.parametrize(
    ("digits", "paths", "counts"),
    [
        ("000000", {}, {}),  # none everywhere
        ("000300", {"3": 1}, {"3": 1}),  # a convolution from input to output
        ("103031", {"1,3,1": 1, "1,3": 1}, {"1": 2, "3": 2}),  # 0-1 and 2-3 skip, 1-2 and 1-3 convolve
        ("220400", {"4": 1}, {"4": 1}),  # nothing leaves the nodes 1 and 2
        ("330011", {"3,1": 2}, {"3": 2, "1": 2}),  # two paths of one kind
    ],
)
def test_paths_and_operations_by_hand(digits: str, paths: dict[str, int], counts: dict[str, int]) -> None:
    expected = np.zeros(88)
    for names, times in paths.items():
        places = [int(name) - 1 for name in names.split(",")]
        start = (0, 4, 20)[len(places) - 1]  # 4 sequences of one operation, then 16 of two and 64 of three
        expected[start + sum(place * 4**i for i, place in enumerate(reversed(places)))] = times
    for name, times in counts.items():
        expected[84 + int(name) - 1] = times
    assert (encoded(parse(digits)) == expected).all()


def test_cells_of_one_network_have_one_encoding() -> None:
    space = NasBench201Space()
    cells = [parse(digits) for digits in ("111444", "144441", "441411")]
    assert len({space.canonical(cell) for cell in cells}) == 1
    assert len({encoded(cell).tobytes() for cell in cells}) == 3
    assert len({space.encode(cell).tobytes() for cell in cells}) == 1
