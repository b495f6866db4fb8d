"""Scores candidates with a crew of workers, any of which may die, hang, or join late.

All retries are made here, none by the crew. A worker gets work once it has reported that it is ready. A worker that is
lost or overdue is replaced, and its candidates are handed out again (:mod:`nas.executors.workload`). The scores of a
trial do not depend on which worker computes them, or when.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

from nas.errors import MachineFailed
from nas.executors.base import Executor
from nas.executors.candidates import Candidate, CandidateScorer, candidate_seed
from nas.executors.crew import Crew, Done, Event, Lost, Raised, Ready, Worker
from nas.executors.failures import told_failure
from nas.executors.workload import ATTEMPTS, ATTEMPTS_ALONE, ChunkSize, Workload
from searchers.base import Trial

G = TypeVar("G")

#: seconds without any ready worker after which a search stops; a cloud machine may take minutes to start
START_SECONDS = 600.0
#: a search stops when so many workers in a row have died while starting and none is ready: others would die as well
FAILED_STARTS = 3
#: longest wait for events, after which new workers are started if machines have joined
POLL_SECONDS = 1.0


class SupervisedExecutor(Executor):
    """Scores each candidate once. A candidate that has lost two workers while scored alone becomes a failed trial,
    unless the machines are at fault (:mod:`nas.executors.failures`).

    :param chunk_seconds: seconds of work that a worker is given at a time.
    :param candidate_timeout: seconds that a candidate may take.
    """

    def __init__(self, crew: Crew, *, chunk_seconds: float = 0.2, candidate_timeout: float = 600.0):
        self.crew = crew
        self.candidate_timeout = candidate_timeout
        self.lost = 0
        self.retries = 0
        self._workers: set[Worker] = set()
        self._size = ChunkSize(chunk_seconds)
        self._scorer: CandidateScorer[Any] | None = None
        self._work: Workload[Any] = Workload([])
        self._failed_starts = 0
        self._unstaffed_since: float | None = None
        self._failure: MachineFailed | None = None  # why candidates of the current run were set aside

    def open(self, scorer: CandidateScorer[Any]) -> None:
        if scorer is not self._scorer:
            self._dismiss(*self._workers)
            self.crew.open(scorer)
            self._scorer = scorer

    def run(self, scorer: CandidateScorer[G], candidates: Sequence[Candidate[G]]) -> Iterator[Trial[G]]:
        """Trials in the order in which they are finished.

        :raises MachineFailed: no worker can be started; or, when the other candidates are finished, some could not be
            scored for reasons that are not theirs.
        """
        self.open(scorer)
        work = self._work = Workload(candidates)
        try:
            while not work.done:
                self._hire(work)
                self._hand_out(work)
                for event in self.crew.wait(self._workers, self._patience()):
                    yield from self._handle(event, scorer, work)
                for worker in [each for each in self._workers if each.deadline < time.monotonic()]:
                    self._lose(worker)
                    reason = f"took longer than {self.candidate_timeout:g} s"
                    yield from self._give_back(Lost(worker, reason, blame=True), scorer, work)
            if self._failure is not None:
                self._dismiss(*self._workers)  # whatever is tried next has the machines for itself
                raise self._failure
        finally:
            self._failure = None
            self.retries += work.retries
            work.retries = 0
            self._dismiss(*(each for each in self._workers if each.chunk))  # still busy: the caller stopped early

    def status(self) -> str:
        """Numbers of ready workers, candidates in flight, lost workers and retries, for the progress display."""
        if self._scorer is None:
            return ""
        ready = sum(worker.ready for worker in tuple(self._workers))
        words = [f"{ready} workers" if ready != 1 else "1 worker", f"{self._work.in_flight} in flight"]
        retries = self.retries + self._work.retries
        words += [f"{self.lost} lost"] * bool(self.lost) + [f"{retries} retried"] * bool(retries)
        return ", ".join(words)

    def facts(self) -> dict[str, Any]:
        """A description of where scores were computed, with the numbers of lost workers and retries."""
        return {**self.crew.facts(), "workers_lost": self.lost, "retries": self.retries + self._work.retries}

    def close(self) -> None:
        """Stop all workers."""
        self._workers.clear()
        self._scorer = None
        self.crew.close()

    def _hire(self, work: Workload[Any]) -> None:
        wanted = min(self.crew.capacity(), work.waiting + work.in_flight)
        while len(self._workers) < wanted:
            self._workers.add(self.crew.hire())
        if any(worker.ready for worker in self._workers):
            self._unstaffed_since = None
            return
        now = time.monotonic()
        self._unstaffed_since = self._unstaffed_since or now
        if now - self._unstaffed_since > START_SECONDS:
            raise MachineFailed(f"no worker was ready for {START_SECONDS:g} s: the machines have no room for one")

    def _hand_out(self, work: Workload[Any]) -> None:
        for worker in self._workers:
            if worker.ready and not worker.chunk and work.waiting:
                chunk = work.take(self._size.of(work.waiting, len(self._workers)))
                worker.chunk = chunk
                worker.deadline = time.monotonic() + self.candidate_timeout  # of the chunk; retries are one by one
                self.crew.assign(worker, chunk)

    def _patience(self) -> float:
        next_deadline = min((worker.deadline for worker in self._workers), default=float("inf"))
        return max(0.01, min(POLL_SECONDS, next_deadline - time.monotonic()))

    def _handle(self, event: Event, scorer: CandidateScorer[G], work: Workload[G]) -> Iterator[Trial[G]]:
        worker = event.worker
        if isinstance(event, Ready):
            worker.ready, self._failed_starts = True, 0
        elif isinstance(event, Done):
            worker.chunk, worker.deadline = [], float("inf")
            self._size.learn(len(event.trials), sum(trial.seconds for trial in event.trials))
            for trial in event.trials:
                work.finish(trial.id)
                yield trial
        else:
            if isinstance(event, Lost):
                self._lose(worker)
                self._check_start(event)
            yield from self._give_back(event, scorer, work)

    def _give_back(self, event: Lost | Raised, scorer: CandidateScorer[G], work: Workload[G]) -> Iterator[Trial[G]]:
        worker, blame = event.worker, isinstance(event, Raised) or event.blame
        chunk, worker.chunk, worker.deadline = worker.chunk, [], float("inf")
        for candidate in work.lost(chunk, blame=blame):
            reason = f"{event.reason}; given up after {ATTEMPTS_ALONE if blame else ATTEMPTS} attempts"
            failure = told_failure(reason) or (None if blame else MachineFailed(reason))
            if failure is None:
                yield failed_trial(scorer, candidate, reason)
            else:
                self._failure = failure

    def _check_start(self, event: Lost) -> None:
        if event.worker.ready:
            return
        self._failed_starts += 1
        if self._failed_starts >= FAILED_STARTS and not any(worker.ready for worker in self._workers):
            raise MachineFailed(f"{self._failed_starts} workers in a row died as they started: {event.reason}")

    def _lose(self, worker: Worker) -> None:
        self.lost += 1
        self._dismiss(worker)

    def _dismiss(self, *workers: Worker) -> None:
        for worker in workers:
            self._workers.discard(worker)
            self.crew.dismiss(worker)


def failed_trial(scorer: CandidateScorer[G], candidate: Candidate[G], reason: str) -> Trial[G]:
    """The trial of a candidate that no worker could finish."""
    cost = scorer.space.cost(scorer.space.parse(candidate.key), scorer.spec)
    return Trial(
        id=candidate.id, key=candidate.key, genotype=candidate.genotype,
        seed=candidate_seed(scorer.seed, candidate.key), status="failed", params=cost.params, macs=cost.macs,
        error=reason, fidelity=candidate.fidelity,
    )  # fmt: skip
