"""The conformance suite of searchers."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np

from nas.testing.expectations import during, expect, expect_equal, expect_error
from nas.testing.histories import (
    BATCH,
    SEED,
    TRIALS,
    Make,
    asked_after,
    history_of,
    kind_of,
    length_of,
    new,
    number_of,
    run_on,
    step,
    stored_state,
    trial_of,
)
from search_spaces import get_space
from search_spaces.base import SearchSpace
from searchers.base import NoFeasibleCandidate, Status


def check_searcher(make: Make, space: SearchSpace[Any] | None = None) -> None:
    """Run all checks of this module.

    :param make: makes a searcher from a space and the keywords that every searcher takes.
    :param space: by default ``darts``. It must be so large that a search need not propose a candidate twice. A searcher
        that computes with material needs a space with a supernet; it is given few images and tiny networks, and
        only the checks ``MATERIAL_CHECKS`` are run, since each of its steps takes time.
    :raises AssertionError: the searcher breaks its contract (:class:`searchers.base.Searcher`); the message says how.
    """
    chosen = get_space("darts") if space is None else space
    for check in checks_of(make):
        with during(check, f"space '{chosen.name}'"):
            check(make, chosen)


def check_repeated_ask(make: Make, space: SearchSpace[Any]) -> None:
    """A second ``ask`` without a ``tell`` in between returns the same candidates and rejects no further draws."""
    searcher = new(make, space, feasible=lambda genotype: number_of(space, genotype) % 2 == 0)
    searcher.tell(history_of(make, space))
    first = searcher.ask(20)
    rejected = searcher.rejected
    expect_equal(searcher.ask(20), first, "candidates asked for again")
    expect(searcher.rejected == rejected > 0, f"rejected must be above 0 and stay {rejected}, got {searcher.rejected}")


def check_prefix(make: Make, space: SearchSpace[Any]) -> None:
    """``ask(3)`` returns the first 3 candidates of ``ask(5)``, whichever is called first."""
    history = history_of(make, space)
    for told in (0, BATCH, TRIALS):
        whole, grown, small = (new(make, space) for _ in range(3))
        for searcher in (whole, grown, small):
            searcher.tell(history[:told])
        expected = whole.ask(5)
        expect_equal(small.ask(3), expected[:3], f"ask(3) after {told} trials")
        expect_equal(grown.ask(3), expected[:3], f"ask(3) after {told} trials, before ask(5)")
        expect_equal(grown.ask(5), expected, f"ask(5) after {told} trials, after ask(3)")


def check_answers_are_copies(make: Make, space: SearchSpace[Any]) -> None:
    """The caller may change the list that ``ask`` returns, without an effect on the searcher."""
    searcher = new(make, space)
    asked = searcher.ask(5)
    kept = list(asked)
    asked.clear()
    expect_equal(searcher.ask(5), kept, "candidates asked for again after the first list was changed")


def check_portions(make: Make, space: SearchSpace[Any]) -> None:
    """Its later proposals do not depend on how many trials each ``tell`` is given, nor on whether it is an iterator."""
    history = history_of(make, space)
    expected = asked_after(new(make, space), space, history)
    for size in (1, 3, BATCH, TRIALS):
        searcher = new(make, space)
        for start in range(0, TRIALS, size):
            searcher.tell(iter(history[start : start + size]))
        expect_equal(asked_after(searcher, space, []), expected, f"candidates after trials told {size} at a time")


def check_resume(make: Make, space: SearchSpace[Any]) -> None:
    """A new searcher that is told the trials of an earlier one up to any batch proposes the same as that one did.

    If the earlier one had a state after that batch, the new one is given it first, as it is read from a file.
    """
    searcher, history = new(make, space), []
    states = {0: searcher.state_dict()}
    while searcher.told < length_of(make):
        history += step(searcher, space)
        states[searcher.told] = stored_state(searcher.state_dict())
    expect_equal(len(set(map(bool, states.values()))), 1, "state_dict() must be always empty or never: kinds of it")
    for told, state in list(states.items())[:-1]:
        searcher = new(make, space)
        if told and state:
            searcher.restore(state, told)
        searcher.tell(history[:told])
        rest = run_on(searcher, space, told, length_of(make))
        expect_equal(rest, history[told:], f"the history of a search resumed after {told} trials")


def check_state_is_its_own(make: Make, space: SearchSpace[Any]) -> None:
    """A searcher without a state refuses one; one with a state refuses it after trials were told."""
    searcher = new(make, space)
    history = step(searcher, space)
    state = searcher.state_dict()
    if not state:
        with expect_error(ValueError, "keeps no state", "restore of a state that it has not"):
            new(make, space).restore({"steps": 1}, BATCH)
        return
    other = new(make, space)
    other.tell(history[:1])
    with expect_error(ValueError, "before any trial is told", "restore after a trial"):
        other.restore(state, BATCH)


def check_resume_within_a_batch(make: Make, space: SearchSpace[Any]) -> None:
    """Resumed in the middle of a batch, a searcher proposes what the interrupted one would have proposed.

    One with a state is resumed only where a batch ends: see :func:`check_resume`.
    """
    if new(make, space).state_dict():
        return
    history = history_of(make, space)
    interrupted = new(make, space)
    for told in range(TRIALS):
        resumed = new(make, space)
        resumed.tell(history[:told])
        interrupted.ask(BATCH)
        expect_equal(resumed.ask(BATCH), interrupted.ask(BATCH), f"candidates after {told} trials")
        interrupted.tell([history[told]])


def check_seeds(make: Make, space: SearchSpace[Any]) -> None:
    """Different seeds give different searches; a negative seed is refused."""
    searches = {tuple(t.key for t in history_of(make, space, seed=seed)) for seed in (0, 100, 200)}
    expect_equal(len(searches), 3, "different searches of three seeds")
    with expect_error(ValueError, "seed must be at least 0, got -1", "a searcher with seed -1"):
        new(make, space, seed=-1)


def check_global_random_states(make: Make, space: SearchSpace[Any]) -> None:
    """The global random states of Python and NumPy are neither used nor changed."""
    kept = random.getstate(), np.random.get_state(legacy=False)
    try:
        histories = []
        for seed in (1, 2):
            random.seed(seed)
            np.random.seed(seed)
            before = random.getstate(), repr(np.random.get_state(legacy=False))
            histories.append(history_of(make, space))
            expect((random.getstate(), repr(np.random.get_state(legacy=False))) == before, "a global state has changed")
        expect_equal(histories[1], histories[0], "the history with another global seed")
    finally:
        random.setstate(kept[0])
        np.random.set_state(kept[1])


def check_nothing_is_ok(make: Make, space: SearchSpace[Any]) -> None:
    """It continues to propose candidates when all trials have failed, or all are infeasible."""
    statuses: tuple[Status, ...] = ("failed", "infeasible")
    for status in statuses:
        searcher = new(make, space)
        for number in range(TRIALS):
            (genotype,), (fidelity,) = searcher.ask(1), searcher.fidelities(1)
            searcher.tell([trial_of(space, number, genotype, status, fidelity)])
        expect_equal(len(searcher.ask(BATCH)), BATCH, f"candidates after {TRIALS} trials that are all {status}")


def check_feasible(make: Make, space: SearchSpace[Any]) -> None:
    """Every proposal meets the constraints, and the draws that do not are counted in ``rejected``."""
    searcher = new(make, space, feasible=lambda genotype: number_of(space, genotype) % 3 == 0)
    history = run_on(searcher, space, 0, length_of(make))
    expect(all(number_of(space, trial.genotype) % 3 == 0 for trial in history), "a proposal breaks the constraints")
    rejected = searcher.rejected
    expect(rejected > len(history), f"two of three draws are infeasible, but only {rejected} were rejected")


def check_no_feasible_candidate(make: Make, space: SearchSpace[Any]) -> None:
    """If no candidate meets the constraints, each ``ask`` raises an error that states the number of draws."""
    searcher = new(make, space, feasible=lambda genotype: False, max_draws=1234)
    for told in ([], history_of(make, space)):
        searcher.tell(told)
        for _ in range(2):
            with expect_error(NoFeasibleCandidate, "no candidate met the constraints in 1,234 draws", "ask"):
                searcher.ask(TRIALS)  # of which a searcher may know some, that were told as ok


def check_no_repetition(make: Make, space: SearchSpace[Any]) -> None:
    """In a large space it proposes no candidate twice at the same fidelity."""
    proposed = {(trial.key, trial.fidelity) for trial in history_of(make, space)}
    expect_equal(len(proposed), TRIALS, "different candidates")


def check_fidelities(make: Make, space: SearchSpace[Any]) -> None:
    """Each candidate has one fidelity, whatever number is asked for; other ones than 1.0 are announced by the class."""
    searcher = new(make, space)
    searcher.tell(history_of(make, space))
    searcher.ask(5)
    found = searcher.fidelities(5)
    expect(len(found) == 5 and all(0 < each <= 1 for each in found), f"expected 5 fidelities in (0, 1], got {found}")
    expect_equal(searcher.fidelities(3), found[:3], "fidelities(3) after fidelities(5)")
    expect(searcher.multi_fidelity or set(found) == {1.0}, f"multi_fidelity is False, and fidelities are {found}")


def check_start(make: Make, space: SearchSpace[Any]) -> None:
    """One that takes genotypes to start with proposes them first, in their order, also when resumed among them."""
    if not getattr(kind_of(make), "takes_start", False):
        return
    start = [trial.genotype for trial in history_of(make, space, seed=SEED + 1)[:5]]
    whole = new(make, space, start=start)
    history = run_on(whole, space, 0, TRIALS)
    expect_equal([trial.genotype for trial in history[:5]], start, "the first candidates")
    for told in (2, BATCH, 2 * BATCH):
        searcher = new(make, space, start=start)
        searcher.tell(history[:told])
        expect_equal(searcher.ask(BATCH)[: BATCH - told % BATCH], [
            trial.genotype for trial in history[told : told + BATCH - told % BATCH]
        ], f"candidates after {told} trials of a search with genotypes to start with")  # fmt: skip


def check_order_of_trials(make: Make, space: SearchSpace[Any]) -> None:
    """``tell`` refuses trials whose ids do not directly follow the trials told before."""
    history, searcher = history_of(make, space), new(make, space)
    searcher.tell(history[:2])
    for first in (3, 1):
        with expect_error(ValueError, f"expected trial 2, got {first}", f"tell from trial {first} on"):
            searcher.tell(history[first:])


#: Each check takes a function that makes the searcher, and a space.
CHECKS: tuple[Callable[[Make, SearchSpace[Any]], None], ...] = (
    check_repeated_ask,
    check_prefix,
    check_answers_are_copies,
    check_portions,
    check_resume,
    check_state_is_its_own,
    check_resume_within_a_batch,
    check_seeds,
    check_global_random_states,
    check_nothing_is_ok,
    check_feasible,
    check_no_feasible_candidate,
    check_no_repetition,
    check_fidelities,
    check_start,
    check_order_of_trials,
)

#: Those of a searcher that computes with material. It may derive a cell a second time, so that repetition is no error.
MATERIAL_CHECKS = (check_resume, check_state_is_its_own, check_global_random_states, check_feasible)


def checks_of(make: Make) -> tuple[Callable[[Make, SearchSpace[Any]], None], ...]:
    """The checks that a searcher must pass."""
    return MATERIAL_CHECKS if getattr(kind_of(make), "needs_material", False) else CHECKS
