"""Every searcher passes the conformance suite. A new one is a row of ``TABLE``."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch

import searchers
from nas.testing import searchers as suite
from search_spaces import get_space
from search_spaces.base import SearchSpace
from searchers import get_searcher
from tests.searchers.learner import Learner
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
    "darts": ("darts", {"epochs": 3, "search_images": 24, "batch_size": 12}),
    "zero shot gradient": ("zero_shot_gradient", {"steps": 3, "supernet_images": 2}),
    "zero cost pruning": ("zero_cost_pruning", {"supernet_images": 2}),
}


def registered(name: str, **options: Any) -> suite.Make:
    kind = get_searcher(name)
    return partial(kind, options=kind.Options(**options))


#: The registered ones, and one of the tests' own with a state.
MAKES: dict[str, suite.Make] = {
    **{row: registered(name, **options) for row, (name, options) in TABLE.items()},
    "learner": Learner,
}


def space_of(make: suite.Make) -> SearchSpace[Any]:
    return get_space("nasbench201") if suite.kind_of(make).needs_material else ToySpace()


@pytest.mark.parametrize(
    ("row", "check"),
    [(row, check) for row, make in MAKES.items() for check in suite.checks_of(make)],
    ids=lambda each: getattr(each, "__name__", each),
)
def test_keeps_the_contract(row: str, check: Callable[[suite.Make, SearchSpace[Any]], None]) -> None:
    check(MAKES[row], space_of(MAKES[row]))


@pytest.mark.parametrize("row", [row for row, make in MAKES.items() if not suite.kind_of(make).needs_material])
def test_history_holds_trials_of_every_status(row: str) -> None:
    assert {trial.status for trial in suite.history_of(MAKES[row], ToySpace())} == {"ok", "failed", "infeasible"}


def test_every_name_of_the_registry_is_in_the_table() -> None:
    assert {name for name, _ in TABLE.values()} == set(searchers.SEARCHERS)


class Forgetful(Learner):
    """Keeps a part of what it has learned out of its state."""

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "weight": torch.zeros(2, dtype=torch.float64)}


def test_a_state_that_is_not_whole_is_found() -> None:
    with pytest.raises(AssertionError, match="the history of a search resumed after 4 trials"):
        suite.check_resume(Forgetful, ToySpace())


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"unknown searcher 'randon'; did you mean random.* expected one of .*evol"):
        get_searcher("randon")
