"""The ask / score / tell loop.

The history is a function of the configuration alone. Candidates are numbered in the order of proposal, and the searcher
is told the trials of a step all at once, in that order. When a run is resumed within a step, the searcher proposes the
same candidates again, and only those without a stored trial are scored. What the machine lacks, such as memory, makes
no trial: the candidate is scored again, alone or in a resumed run. The state of a searcher that has one is stored
after each step (see :class:`~searchers.base.Searcher`).
"""

from __future__ import annotations

import dataclasses
import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any, Generic, TypeVar

from nas.errors import MachineFailed, OutOfMemory, SearchStopped, UserError
from nas.executors.base import Executor
from nas.executors.candidates import Candidate, CandidateScorer, candidate_seed
from nas.executors.failures import machine_failure, told_failure
from nas.executors.stacks import StackScorer, stacked, stacks_of
from nas.searching.proposals import check_proposal
from searchers.base import NoFeasibleCandidate, Searcher, SearcherStopped, Status, Trial

G = TypeVar("G")

#: The search stops when more than half of this many consecutive trials failed: scoring more candidates would not help.
FAILURE_WINDOW = 20


class Loop(Generic[G]):
    """Asks the searcher for candidates, has them scored, and tells the searcher the finished trials.

    :param step: number of candidates asked for at a time.
    :param violation: returns the reason why a candidate may not be scored, or None if it may.
    :param record: called with each newly finished trial, to store it.
    :param keep: stores the state of a searcher that has one, with the number of trials that the state covers.
    :param skip_oversized: a candidate for which memory does not suffice, even alone, becomes a failed trial.
    """

    def __init__(
        self,
        searcher: Searcher[G],
        scorer: CandidateScorer[G],
        executor: Executor,
        *,
        budget: int,
        step: int,
        violation: Callable[[G], str | None],
        record: Callable[[Trial[G]], None],
        keep: Callable[[dict[str, Any], int], None],
        skip_oversized: bool = False,
    ):
        self.searcher = searcher
        self.scorer = scorer
        self.executor = executor
        self.budget = budget
        self.step = step
        self.violation = violation
        self.record = record
        self.keep = keep
        self.skip_oversized = skip_oversized
        self.trials: list[Trial[G]] = []  # the trials that the searcher was told, in id order
        self.reused = 0
        self._by_key: dict[tuple[str, float], Trial[G]] = {}  # by key and fidelity

    def run(self, stored: Sequence[Trial[G]] = ()) -> list[Trial[G]]:
        """All ``budget`` trials in id order, including the ``stored`` trials of an interrupted run.

        :raises SearchStopped: more than half of 20 consecutive trials failed, or the searcher cannot go on.
        :raises MachineFailed: the machine does not let a candidate be scored; the run can be resumed.
        :raises UserError: no candidate meets the constraints, or ``stored`` belongs to another history.
        """
        finished = {trial.id: trial for trial in stored}
        self.check(stored)
        has_state = bool(self.searcher.state_dict())
        while len(self.trials) < self.budget:
            start = len(self.trials)
            ids = range(start, min(start + self.step, self.budget))
            learns = has_state and start >= self.searcher.restored  # ask() may change the state, too
            if learns or not all(id in finished for id in ids):
                self._finish_step(ids, finished)
            self._tell([finished[id] for id in ids])
            if learns:
                self.keep(self.searcher.state_dict(), len(self.trials))
        return self.trials

    def _ask(self, n: int) -> list[G]:
        """The next candidates. A supernet is computed in one thread, as candidates are, so that the history does not
        depend on the number of threads.
        """
        if not self.searcher.needs_material:
            return self.searcher.ask(n)
        from nas.device import torch_threads

        with torch_threads(1):
            return self.searcher.ask(n)

    def _finish_step(self, ids: range, finished: dict[int, Trial[G]]) -> None:
        """Score those candidates of a step that have no trial in ``finished`` yet, and add their trials to it."""
        try:
            proposals = self._ask(len(ids))
        except NoFeasibleCandidate as error:
            raise UserError(str(error)) from None
        except SearcherStopped as error:
            raise SearchStopped(str(error)) from None
        space = self.scorer.space
        fidelities = self.searcher.fidelities(len(ids))
        candidates = [
            Candidate(id, space.canonical(genotype), genotype, fidelity)
            for id, genotype, fidelity in zip(ids, proposals, fidelities, strict=True)
        ]
        first: dict[tuple[str, float], Candidate[G]] = {}  # only the first candidate with a key and fidelity is scored
        for candidate in candidates:
            check_proposal(candidate.id, candidate.key, candidate.fidelity, finished.get(candidate.id))
            first.setdefault(_identity(candidate), candidate)
        scorable = []
        for candidate in first.values():
            if _identity(candidate) in self._by_key:
                continue
            reason = self.violation(candidate.genotype)
            if reason is None:
                scorable.append(candidate)
            elif candidate.id not in finished:
                self._keep(self._unscored(candidate, "infeasible", reason), finished)
        stacks = stacks_of(stacked(scorable, self.scorer.stack if isinstance(self.scorer, StackScorer) else 1))
        unfinished = [stack for stack in stacks if any(each.id not in finished for each in stack)]
        if unfinished:
            self._score([candidate for stack in unfinished for candidate in stack], finished)
        for candidate in candidates:
            if candidate.id not in finished:
                source = self._by_key.get(_identity(candidate)) or finished[first[_identity(candidate)].id]
                self._keep(
                    dataclasses.replace(source, id=candidate.id, genotype=candidate.genotype, seconds=0.0), finished
                )

    def _score(self, candidates: list[Candidate[G]], finished: dict[int, Trial[G]]) -> None:
        """Have the candidates scored; where memory runs out, stacks are scored again singly, then candidates.

        :raises MachineFailed: the machine does not let a candidate be scored, not even alone.
        """
        try:
            self._run(candidates, finished)
        except OutOfMemory:
            pass
        for stack in stacks_of(candidates):
            if len(stack) > 1 and any(candidate.id not in finished for candidate in stack):
                gc.collect()
                with suppress(OutOfMemory):
                    self._run(stack, finished)
            for candidate in stack:
                if candidate.id not in finished:
                    self._score_alone(dataclasses.replace(candidate, stack=None), finished)

    def _score_alone(self, candidate: Candidate[G], finished: dict[int, Trial[G]]) -> None:
        """:raises MachineFailed: the machine does not let the candidate be scored, not even alone."""
        gc.collect()
        try:
            self._run([candidate], finished)
        except OutOfMemory as error:
            reason = f"memory does not suffice for candidate {candidate.id} alone: {error}"
            if not self.skip_oversized:
                raise OutOfMemory(reason) from None
            self._keep(self._unscored(candidate, "failed", reason), finished)

    def _run(self, candidates: list[Candidate[G]], finished: dict[int, Trial[G]]) -> None:
        """Run the executor.

        :raises MachineFailed: candidates without a trial are not at fault for that.
        :raises RuntimeError: the executor did not return exactly one trial for each candidate.
        """
        missing = {candidate.id for candidate in candidates}
        name = type(self.executor).__name__
        failure: MachineFailed | None = None
        for trial in self._trials(candidates):
            if trial.id not in missing:
                raise RuntimeError(f"{name} returned trial {trial.id}, expected each candidate's exactly once")
            missing.remove(trial.id)
            told = told_failure(trial.error) if trial.status == "failed" else None
            failure = told or failure
            if told is None and trial.id not in finished:  # a stack is scored whole, even if it was finished in part
                self._keep(trial, finished)
        if failure is not None:
            raise failure
        if missing:
            raise RuntimeError(f"{name} returned no trial for candidate {min(missing)}, expected one for each")

    def _trials(self, candidates: list[Candidate[G]]) -> Iterator[Trial[G]]:
        """What the executor returns; an exception that is no fault of a candidate is raised as ``MachineFailed``."""
        try:
            yield from self.executor.run(self.scorer, candidates)
            return
        except Exception as error:
            failure = machine_failure(error)
            if failure is None:
                raise
        raise failure

    def check(self, stored: Sequence[Trial[G]]) -> None:
        """:raises UserError: a stored trial that this search cannot have written."""
        names = set(self.scorer.names)
        for trial in stored:
            if trial.id >= self.budget:
                raise UserError(f"the run holds a trial {trial.id}, expected {self.budget} trials from 0")
            if trial.status == "ok" and set(trial.scores) != names:
                got, expected = (", ".join(sorted(each)) or "none" for each in (trial.scores, names))
                raise UserError(f"trial {trial.id} of the run has the scores {got}, expected {expected}")
            if trial.seed != (seed := candidate_seed(self.scorer.seed, trial.key)):
                raise UserError(
                    f"trial {trial.id} of the run has the seed {trial.seed}, expected {seed}:"
                    " it was written by another version or configuration"
                )
        self._check_size(stored)
        covered = self.searcher.restored
        held = len({trial.id for trial in stored} & set(range(covered)))
        if held < covered:
            raise UserError(f"the searcher's state covers {covered} trials, of which the run holds {held}")

    def _check_size(self, stored: Sequence[Trial[G]]) -> None:
        """:raises UserError: the networks of the first stored trial were of another size than this search's."""
        first = next((trial for trial in stored if trial.status == "ok"), None)
        if first is not None:
            cost = self.scorer.space.cost(self.scorer.space.parse(first.key), self.scorer.spec)
            got, expected = (first.params, first.macs), (cost.params, cost.macs)
            if got != expected:
                raise UserError(
                    f"trial {first.id} of the run has {got[0]:,} parameters and {got[1]:,} MACs, expected"
                    f" {expected[0]:,} and {expected[1]:,}: its networks were of another size"
                )

    def _keep(self, trial: Trial[G], finished: dict[int, Trial[G]]) -> None:
        self.record(trial)
        finished[trial.id] = trial

    def _unscored(self, candidate: Candidate[G], status: Status, reason: str) -> Trial[G]:
        seed = candidate_seed(self.scorer.seed, candidate.key)
        cost = self.scorer.space.cost(candidate.genotype, self.scorer.spec)
        return Trial(
            id=candidate.id, key=candidate.key, genotype=candidate.genotype, seed=seed, status=status,
            params=cost.params, macs=cost.macs, error=reason, fidelity=candidate.fidelity,
        )  # fmt: skip

    def _tell(self, step: list[Trial[G]]) -> None:
        for trial in step:
            self.reused += _identity(trial) in self._by_key
            self._by_key.setdefault(_identity(trial), trial)
        self.trials += step
        self.searcher.tell(step)
        for end in range(max(FAILURE_WINDOW, len(self.trials) - len(step) + 1), len(self.trials) + 1):
            row = self.trials[end - FAILURE_WINDOW : end]
            failed = [trial for trial in row if trial.status == "failed"]
            if 2 * len(failed) > FAILURE_WINDOW:
                raise SearchStopped(
                    f"{len(failed)} of {FAILURE_WINDOW} candidates in a row failed; the last reason: {failed[-1].error}"
                )


def _identity(each: Candidate[G] | Trial[G]) -> tuple[str, float]:
    """What a score belongs to: the same cell at the same fidelity has the same score."""
    return each.key, each.fidelity
