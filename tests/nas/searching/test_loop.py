"""The loop, on a space of digits that nothing is built in."""

from __future__ import annotations

import dataclasses
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import torch

from nas.errors import SearchStopped, UserError
from nas.executors.base import Executor
from nas.searching.loop import FAILURE_WINDOW, Loop
from nas.searching.scoring import Candidate, Scorer
from proxies.base import Probe, Proxy
from search_spaces.base import NetworkSpec
from searchers.base import Trial
from searchers.objectives import SingleScore
from searchers.random_search import RandomSearch
from searchers.regularized_evolution import RegularizedEvolution
from tests.searchers.toy_space import Digits, ToySpace

BUDGET, STEP = 47, 10
OBJECTIVES = SingleScore("fussy", "maximize")

Reorder = Callable[[list[Candidate[Digits]]], Sequence[Candidate[Digits]]]


class Fussy(Proxy):
    """The parameters; every seventh number of them raises."""

    name = "fussy"
    direction = "maximize"
    cost = "count"

    def score(self, probe: Probe) -> float:
        if probe.params % 7 == 0:
            raise RuntimeError(f"{probe.params} divides by seven")
        return float(probe.params)


class Always(Fussy):
    """Raises for the candidates listed by their number of scoring."""

    def __init__(self, failing: set[int]):
        self.failing = failing
        self.asked = 0

    def score(self, probe: Probe) -> float:
        self.asked += 1
        if self.asked - 1 in self.failing:
            raise RuntimeError(f"failure {self.asked - 1}")
        return float(probe.params)


class CountingExecutor(Executor):
    """Scores in the order that ``reorder`` makes of the candidates, and counts them by key."""

    def __init__(self, reorder: Reorder = lambda todo: todo):
        self.reorder = reorder
        self.scored: Counter[str] = Counter()

    def run(self, scorer: Scorer[Any], candidates: Sequence[Candidate[Any]]) -> Iterator[Trial[Any]]:
        for candidate in self.reorder(list(candidates)):
            self.scored[candidate.key] += 1
            yield scorer(candidate)


def keep_nothing(state: dict[str, Any], trials: int) -> None:
    raise AssertionError(f"a searcher without a state was asked to keep {state}")


def make_loop(
    executor: Executor | None = None,
    searcher: str = "evolution",
    proxy: Proxy | None = None,
    space: ToySpace | None = None,
    budget: int = BUDGET,
    step: int = STEP,
    feasible: Callable[[Digits], bool] | None = None,
    max_draws: int = 50,
    violation: Callable[[Digits], str | None] = lambda genotype: None,
    seed: int = 1,
) -> tuple[Loop[Digits], list[Trial[Digits]]]:
    """A loop, and the list that it records in; by default on a space so small that keys are met again."""
    space = space or ToySpace(length=3, base=4)
    options: dict[str, Any] = {"seed": seed, "objectives": OBJECTIVES, "feasible": feasible, "max_draws": max_draws}
    made = (
        RegularizedEvolution(space, options=RegularizedEvolution.Options(population=10, tournament=3), **options)
        if searcher == "evolution"
        else RandomSearch(space, **options)
    )
    scorer = Scorer(
        space, NetworkSpec(channels=1), [proxy or Fussy()], torch.zeros(1, 3, 2, 2), torch.zeros(1).long(), seed=seed
    )
    recorded: list[Trial[Digits]] = []
    loop = Loop(
        made, scorer, executor or CountingExecutor(),
        budget=budget, step=step, violation=violation, record=recorded.append, keep=keep_nothing,
    )  # fmt: skip
    return loop, recorded


def timeless(trials: Sequence[Trial[Any]]) -> list[Trial[Any]]:
    return [dataclasses.replace(trial, seconds=0.0) for trial in trials]


SEARCHERS = pytest.mark.parametrize("searcher", ["evolution", "random"])


@SEARCHERS
def test_each_candidate_is_scored_once_and_recorded_once(searcher: str) -> None:
    executor = CountingExecutor()
    loop, recorded = make_loop(executor, searcher)
    trials = loop.run()
    assert [trial.id for trial in trials] == list(range(BUDGET))
    assert sorted(recorded, key=lambda trial: trial.id) == trials
    assert set(executor.scored.values()) == {1}
    assert set(executor.scored) == {trial.key for trial in trials}
    assert {trial.status for trial in trials} == {"ok", "failed"}
    assert loop.reused == BUDGET - len(executor.scored) > 0


@SEARCHERS
def test_a_key_met_again_reuses_the_trial(searcher: str) -> None:
    first: dict[str, Trial[Digits]] = {}
    within = 0
    for trial in make_loop(searcher=searcher)[0].run():
        if trial.key in first:
            again = first[trial.key]
            within += trial.id // STEP == again.id // STEP
            assert trial.seconds == 0.0
            assert dataclasses.replace(trial, id=again.id, genotype=again.genotype, seconds=again.seconds) == again
        else:
            assert trial.seconds > 0.0
            first[trial.key] = trial
    if searcher == "random":
        assert within > 0  # in the same step, too


@SEARCHERS
@pytest.mark.parametrize("order", ["reversed", "shuffled", "shuffled otherwise"])
def test_history_does_not_depend_on_the_order_of_completion(searcher: str, order: str) -> None:
    def reorder(todo: list[Candidate[Digits]]) -> list[Candidate[Digits]]:
        return todo[::-1] if order == "reversed" else random.Random(order).sample(todo, len(todo))

    expected = make_loop(searcher=searcher)[0].run()
    assert timeless(make_loop(CountingExecutor(reorder), searcher)[0].run()) == timeless(expected)


@SEARCHERS
def test_resuming_after_any_trial_gives_the_same_history(searcher: str) -> None:
    loop, recorded = make_loop(searcher=searcher)
    expected = timeless(loop.run())
    for finished in range(BUDGET + 1):
        executor = CountingExecutor()
        resumed, new = make_loop(executor, searcher)
        assert timeless(resumed.run(recorded[:finished])) == expected, finished
        assert len(new) == BUDGET - finished
        scored_before = {trial.key for trial in recorded[:finished]}
        assert not scored_before & set(executor.scored)
        assert resumed.reused == loop.reused


@SEARCHERS
def test_resuming_from_any_part_of_a_step_gives_the_same_history(searcher: str) -> None:
    expected = make_loop(searcher=searcher)[0].run()
    rng = random.Random(searcher)
    for _ in range(100):
        steps = rng.randrange(BUDGET // STEP + 1)
        current = expected[steps * STEP : (steps + 1) * STEP]
        stored = expected[: steps * STEP] + rng.sample(current, rng.randrange(len(current) + 1))
        rng.shuffle(stored)
        resumed, new = make_loop(searcher=searcher)
        assert timeless(resumed.run(stored)) == timeless(expected)
        assert sorted(trial.id for trial in [*new, *stored]) == list(range(BUDGET))


def test_the_last_step_is_cut_to_the_budget() -> None:
    asked: list[int] = []
    loop, _ = make_loop(budget=25)
    ask = loop.searcher.ask
    loop.searcher.ask = lambda n: asked.append(n) or ask(n)  # type: ignore[method-assign, func-returns-value]
    assert len(loop.run()) == 25 and asked == [10, 10, 5]


def test_infeasible_candidates_are_recorded_and_not_scored() -> None:
    def violation(genotype: Digits) -> str | None:
        return "sum must be even" if sum(genotype) % 2 else None

    executor = CountingExecutor()
    loop, recorded = make_loop(executor, violation=violation)
    trials = loop.run()
    odd = [trial for trial in trials if sum(trial.genotype) % 2]
    assert odd and all((t.status, t.error, t.scores) == ("infeasible", "sum must be even", {}) for t in odd)
    assert all(trial.params == sum(trial.genotype) and trial.seed for trial in odd)
    assert not {trial.key for trial in odd} & set(executor.scored)
    assert all(trial.status != "infeasible" for trial in trials if sum(trial.genotype) % 2 == 0)
    assert timeless(make_loop(violation=violation)[0].run(recorded[:13])) == timeless(trials)


def run_with_failures(failing: set[int], **options: Any) -> list[Trial[Digits]]:
    """A random search without repeated keys whose numbered trials fail."""
    loop, _ = make_loop(searcher="random", proxy=Always(failing), space=ToySpace(8, 10), **options)
    return loop.run()


def test_more_than_half_of_twenty_failed_stops_the_search() -> None:
    with pytest.raises(SearchStopped, match=r"11 of 20 candidates in a row failed; .*: RuntimeError: failure 10$"):
        run_with_failures(set(range(11)))


def test_half_of_twenty_failed_does_not_stop_the_search() -> None:
    assert len(run_with_failures({number for number in range(BUDGET) if number % 2})) == BUDGET
    assert len(run_with_failures(set(range(10)) | set(range(20, 30)))) == BUDGET


@pytest.mark.parametrize("start", range(20))
@pytest.mark.parametrize("step", [1, 7, 10, 40])
def test_any_twenty_in_a_row_count_whatever_the_step(start: int, step: int) -> None:
    failing = {start + i for i in range(0, 20, 2)} | {start + 19}
    assert len(failing) == 11
    with pytest.raises(SearchStopped, match=f"11 of {FAILURE_WINDOW}.*failure {start + 19}"):
        run_with_failures(failing, budget=40, step=step)


def test_fewer_than_twenty_trials_never_stop_the_search() -> None:
    assert len(run_with_failures(set(range(19)), budget=19)) == 19


def test_a_stopped_search_stops_again_when_resumed() -> None:
    loop, recorded = make_loop(searcher="random", proxy=Always(set(range(11))), space=ToySpace(8, 10))
    with pytest.raises(SearchStopped):
        loop.run()
    resumed, _ = make_loop(searcher="random", proxy=Always(set()), space=ToySpace(8, 10))
    with pytest.raises(SearchStopped, match="failure 10"):
        resumed.run(recorded)


def test_a_stored_trial_of_another_history_is_refused() -> None:
    other, _ = make_loop(seed=2)
    stored = other.run()[:3]
    with pytest.raises(UserError, match="trial 0 of the run has the seed .*, expected .*another version or conf"):
        make_loop()[0].run(stored)


def test_a_stored_trial_beyond_the_budget_is_refused() -> None:
    stored = make_loop()[0].run()
    with pytest.raises(UserError, match="holds a trial 20, expected 20 trials"):
        make_loop(budget=20)[0].run(stored)


@pytest.mark.parametrize("scores", [{}, {"other": 1.0}, {"fussy": 1.0, "other": 1.0}])
def test_stored_scores_of_other_proxies_are_refused(scores: dict[str, float]) -> None:
    stored = make_loop()[0].run()
    ok = next(trial for trial in stored if trial.status == "ok")
    with pytest.raises(UserError, match=f"trial {ok.id} of the run has the scores .*, expected fussy"):
        make_loop()[0].run([dataclasses.replace(ok, scores=scores)])


@SEARCHERS
def test_constraints_that_nothing_meets_name_the_number_of_draws(searcher: str) -> None:
    loop, recorded = make_loop(searcher=searcher, feasible=lambda genotype: False, max_draws=50)
    with pytest.raises(UserError, match="no candidate met the constraints in 50 draws"):
        loop.run()
    assert recorded == []


def test_what_is_finished_is_recorded_when_the_executor_stops() -> None:
    class Stopping(CountingExecutor):
        def run(self, scorer: Scorer[Any], candidates: Sequence[Candidate[Any]]) -> Iterator[Trial[Any]]:
            for number, trial in enumerate(super().run(scorer, candidates)):
                if number == 3:
                    raise KeyboardInterrupt
                yield trial

    loop, recorded = make_loop(Stopping())
    with pytest.raises(KeyboardInterrupt):
        loop.run()
    assert len(recorded) == 3
    assert timeless(make_loop()[0].run(recorded)) == timeless(make_loop()[0].run())


@pytest.mark.parametrize(
    ("reorder", "message"),
    [
        (lambda todo: todo[1:], "CountingExecutor returned no trial for candidate 0, expected one for each"),
        (lambda todo: [*todo, todo[0]], "CountingExecutor returned trial 0, expected each candidate's exactly once"),
    ],
    ids=["loses one", "twice"],
)
def test_an_executor_that_breaks_its_contract_is_named(reorder: Reorder, message: str) -> None:
    loop, recorded = make_loop(CountingExecutor(reorder))
    with pytest.raises(RuntimeError, match=message):
        loop.run()
    assert len({trial.id for trial in recorded}) == len(recorded)
