"""The suite of search spaces refuses what breaks the contract."""

from __future__ import annotations

import pytest

from nas.testing import check_space
from search_spaces import get_space
from tests.searchers.toy_space import ToySpace


def test_the_suite_names_the_check_that_fails() -> None:
    """The toy space reads any text of numbers, and builds nothing."""
    with pytest.raises(AssertionError, match="check_canonical, space 'toy': the key of the genotype read from a key"):
        check_space(Unsorted(), path="digit.1")


class Unsorted(ToySpace):
    """Its keys are not read as a genotype of the same key."""

    def canonical(self, genotype: tuple[int, ...]) -> str:
        return self.format(genotype[::-1])


def test_the_suite_runs_as_one_call() -> None:
    check_space(get_space("nasbench201"), path="cell.nor_conv_3x3", stages=3)
