"""Every searcher passes the conformance suite. A new one is a row of ``TABLE``."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

import searchers
from nas.testing import searchers as suite
from searchers import get_searcher
from tests.searchers.toy_space import ToySpace

#: Row -> name in the registry and options; what needs a population has one smaller than the suite's TRIALS.
TABLE: dict[str, tuple[str, dict[str, Any]]] = {
    "random": ("random", {}),
    "random published": ("random", {"sampler": "published"}),
    "regularized evolution": ("regularized_evolution", {"population": 10, "tournament": 3}),
    "nsga2": ("nsga2", {"population": 10}),
    "bananas": ("bananas", {"initial": 10, "ensemble": 5, "mutants": 20, "drawn": 5}),
    "successive halving": ("successive_halving", {"eta": 2}),
    "local search": ("local_search", {"initial": 3}),
    "local search, first move": ("local_search", {"move": "first"}),
}


@pytest.fixture(params=TABLE)
def make(request: pytest.FixtureRequest) -> suite.Make:
    name, options = TABLE[request.param]
    kind = get_searcher(name)
    return partial(kind, options=kind.Options(**options))


@pytest.mark.parametrize("check", suite.CHECKS, ids=lambda check: check.__name__)
def test_keeps_the_contract(make: suite.Make, space: ToySpace, check: Callable[[suite.Make, ToySpace], None]) -> None:
    check(make, space)


def test_history_holds_trials_of_every_status(make: suite.Make, space: ToySpace) -> None:
    assert {trial.status for trial in suite.history_of(make, space)} == {"ok", "failed", "infeasible"}


def test_every_name_of_the_registry_is_in_the_table() -> None:
    """But for the searchers with a supernet, which the toy space does not have: test_darts.py tests theirs."""
    expected = {name for name in searchers.SEARCHERS if not get_searcher(name).needs_material}
    assert {name for name, _ in TABLE.values()} == expected


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"unknown searcher 'randon'; did you mean random.* expected one of .*evol"):
        get_searcher("randon")
