"""What every searcher promises. A new one is a row in ``SEARCHERS``."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import searchers
from searchers import get_searcher
from searchers.base import NoFeasibleCandidate, Searcher, Trial
from searchers.objectives import SingleScore
from tests.searchers.toy_space import Digits, ToySpace, make_trial, run, score

TRIALS = 40
BATCH = 4

#: Row -> name in the registry and options; what needs a population has one smaller than TRIALS.
TABLE: dict[str, tuple[str, dict[str, Any]]] = {
    "random": ("random", {}),
    "random published": ("random", {"sampler": "published"}),
    "regularized evolution": ("regularized_evolution", {"population": 10, "tournament": 3}),
}

Make = Callable[..., Searcher[Digits]]


@pytest.fixture(params=TABLE)
def make(request: pytest.FixtureRequest, space: ToySpace) -> Make:
    name, options = TABLE[request.param]

    def build(**changes: Any) -> Searcher[Digits]:
        kind = get_searcher(name)
        given = {"seed": 3, "objectives": SingleScore("sum", "maximize"), "options": kind.Options(**options), **changes}
        return kind(given.pop("space", space), **given)

    return build


@pytest.fixture
def history(make: Make, space: ToySpace) -> list[Trial[Digits]]:
    return run(make(), space, TRIALS, BATCH)


def test_every_name_of_the_registry_is_in_the_table() -> None:
    assert {name for name, _ in TABLE.values()} == set(searchers.SEARCHERS)


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"unknown searcher 'randon'; did you mean random.* expected one of .*evol"):
        get_searcher("randon")


def test_history_holds_trials_of_every_status(history: list[Trial[Digits]]) -> None:
    assert {trial.status for trial in history} == {"ok", "failed", "infeasible"}


def test_asked_again_it_returns_the_same_and_rejects_nothing_more(make: Make, history: list[Trial[Digits]]) -> None:
    searcher = make(feasible=lambda genotype: genotype[0] % 2 == 0)
    searcher.tell(history)
    first = searcher.ask(20)
    rejected = searcher.rejected
    assert searcher.ask(20) == first
    assert searcher.rejected == rejected > 0


@pytest.mark.parametrize("told", [0, BATCH, TRIALS])
def test_a_smaller_ask_is_a_prefix_of_a_larger(make: Make, history: list[Trial[Digits]], told: int) -> None:
    whole, grown, small = make(), make(), make()
    for searcher in (whole, grown, small):
        searcher.tell(history[:told])
    assert small.ask(3) == whole.ask(5)[:3] == grown.ask(3)
    assert grown.ask(5) == whole.ask(5)


def test_what_was_returned_may_be_changed(make: Make) -> None:
    searcher = make()
    asked = searcher.ask(5)
    kept = list(asked)
    asked.clear()
    assert searcher.ask(5) == kept


@pytest.mark.parametrize("size", [1, 3, BATCH, TRIALS])
def test_told_in_portions_of_any_size_it_goes_on_alike(
    make: Make, space: ToySpace, history: list[Trial[Digits]], size: int
) -> None:
    expected = run_on(make(), space, history)
    searcher = make()
    for start in range(0, TRIALS, size):
        searcher.tell(iter(history[start : start + size]))
    assert run_on(searcher, space, []) == expected


def run_on(searcher: Searcher[Digits], space: ToySpace, history: list[Trial[Digits]]) -> list[list[Digits]]:
    """What is asked in three batches after ``history``."""
    searcher.tell(history)
    asked = []
    for _ in range(3):
        first = searcher.told
        asked.append(searcher.ask(BATCH))
        searcher.tell(score(space, first + i, genotype) for i, genotype in enumerate(asked[-1]))
    return asked


def test_resumed_after_any_batch_it_continues_identically(
    make: Make, space: ToySpace, history: list[Trial[Digits]]
) -> None:
    for told in range(0, TRIALS, BATCH):
        searcher = make()
        searcher.tell(history[:told])
        rest: list[Trial[Digits]] = []
        while len(rest) < TRIALS - told:
            first = searcher.told
            batch = [score(space, first + i, genotype) for i, genotype in enumerate(searcher.ask(BATCH))]
            searcher.tell(batch)
            rest += batch
        assert rest == history[told:]


def test_resumed_in_the_middle_of_a_batch_it_asks_as_one_that_was_told_so(
    make: Make, history: list[Trial[Digits]]
) -> None:
    interrupted = make()
    for told in range(TRIALS):
        resumed = make()
        resumed.tell(history[:told])
        interrupted.ask(BATCH)
        assert interrupted.ask(BATCH) == resumed.ask(BATCH)
        interrupted.tell([history[told]])


def test_different_seeds_give_different_searches(make: Make, space: ToySpace) -> None:
    searches = [tuple(t.genotype for t in run(make(seed=seed), space, TRIALS, BATCH)) for seed in (0, 100, 200)]
    assert len(set(searches)) == 3


def test_global_random_states_are_neither_used_nor_changed(make: Make, space: ToySpace) -> None:
    random.seed(1)
    np.random.seed(1)
    before = random.getstate(), repr(np.random.get_state(legacy=False))
    first = run(make(), space, TRIALS, BATCH)
    assert (random.getstate(), repr(np.random.get_state(legacy=False))) == before
    random.seed(2)
    np.random.seed(2)
    assert run(make(), space, TRIALS, BATCH) == first


@pytest.mark.parametrize("status", ["failed", "infeasible"])
def test_goes_on_where_nothing_is_ever_ok(make: Make, space: ToySpace, status: str) -> None:
    searcher = make()
    for number in range(TRIALS):
        (genotype,) = searcher.ask(1)
        searcher.tell([make_trial(space, number, genotype, status=status, scores={}, error="as arranged")])
    assert len(searcher.ask(BATCH)) == BATCH


def test_every_proposal_is_feasible(make: Make, space: ToySpace) -> None:
    searcher = make(feasible=lambda genotype: sum(genotype) % 3 == 0)
    history = run(searcher, space, TRIALS, BATCH)
    assert all(sum(trial.genotype) % 3 == 0 for trial in history)
    assert searcher.rejected > TRIALS


def test_no_feasible_candidate_is_an_error_with_the_number_of_draws(make: Make, history: list[Trial[Digits]]) -> None:
    searcher = make(feasible=lambda genotype: False, max_draws=1234)
    for told in ([], history):
        searcher.tell(told)
        for _ in range(2):  # asking again does not get past it
            with pytest.raises(NoFeasibleCandidate, match="no candidate met the constraints in 1,234 draws"):
                searcher.ask(1)


def test_proposes_no_candidate_twice_in_a_large_space(history: list[Trial[Digits]]) -> None:
    assert len({trial.key for trial in history}) == TRIALS


def test_trials_out_of_order_are_refused(make: Make, history: list[Trial[Digits]]) -> None:
    searcher = make()
    searcher.tell(history[:2])
    with pytest.raises(ValueError, match="expected trial 2, got 3"):
        searcher.tell(history[3:])
    with pytest.raises(ValueError, match="expected trial 2, got 1"):
        searcher.tell(history[1:])


def test_a_negative_seed_is_refused(make: Make) -> None:
    with pytest.raises(ValueError, match="seed must be at least 0, got -1"):
        make(seed=-1)
