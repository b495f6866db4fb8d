"""The suite of searchers refuses what breaks the contract."""

from __future__ import annotations

import numpy as np
import pytest

from nas.testing import check_searcher
from searchers import get_searcher
from searchers.base import Searcher, Trial
from tests.searchers.toy_space import Digits, ToySpace


def test_the_suite_runs_as_one_call() -> None:
    check_searcher(get_searcher("random"))


class Forgetful(Searcher[Digits]):
    """Asks by a generator that is not made anew for each proposal."""

    def ask(self, n: int) -> list[Digits]:
        if not hasattr(self, "rng"):
            self.rng = np.random.default_rng(self.seed)
        return [self.draw(lambda: self.space.sample(self.rng)) for _ in range(n)]

    def observe(self, trial: Trial[Digits]) -> None:
        return


def test_the_suite_names_the_check_that_fails() -> None:
    with pytest.raises(AssertionError, match="check_repeated_ask, space 'toy': candidates asked for again: got"):
        check_searcher(Forgetful, ToySpace())
