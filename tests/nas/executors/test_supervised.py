"""The supervisor over a crew whose workers do as they are told, at once."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import pytest

from nas.errors import MachineFailed, OutOfMemory
from nas.executors import supervised
from nas.executors.candidates import Candidate, CandidateScorer
from nas.executors.crew import Crew, Done, Event, Lost, Raised, Ready, Worker
from nas.executors.supervised import SupervisedExecutor
from tests.nas.executors.faulty import FaultyScorer, candidates

Fate = Callable[[Worker], Event | None]


class ScriptedCrew(Crew):
    """``fate`` may decide what happens to a worker instead of a good end; one thing happens at a time."""

    def __init__(self, size: int, fate: Fate):
        self.size = size
        self.fate = fate
        self.hired = 0
        self.dismissed: list[Worker] = []

    def open(self, scorer: CandidateScorer[Any]) -> None:
        self.scorer = scorer

    def capacity(self) -> int:
        return self.size

    def hire(self) -> Worker:
        self.hired += 1
        return Worker(self.hired, None)

    def assign(self, worker: Worker, chunk: list[Candidate[Any]]) -> None:
        assert worker.ready and worker.chunk == chunk

    def wait(self, workers: Collection[Worker], seconds: float) -> list[Event]:
        for worker in sorted(workers, key=lambda each: (each.ready, each.handle)):
            if worker.chunk or not worker.ready:
                event = self.fate(worker)
                if event is None:
                    good = Done(worker, [self.scorer(each) for each in worker.chunk])
                    event = good if worker.ready else Ready(worker)
                return [event]
        return []

    def dismiss(self, worker: Worker) -> None:
        self.dismissed.append(worker)

    def facts(self) -> dict[str, Any]:
        return {"name": "scripted"}

    def close(self) -> None:
        self.size = 0


def ids(worker: Worker) -> list[int]:
    return [candidate.id for candidate in worker.chunk]


def test_only_as_many_workers_as_candidates(tmp_path: Path) -> None:
    crew = ScriptedCrew(10, lambda worker: None)
    executor = SupervisedExecutor(crew)
    trials = list(executor.run(FaultyScorer(tmp_path), candidates(3)))
    assert sorted(trial.id for trial in trials) == [0, 1, 2] and crew.hired == 3
    assert len(list(executor.run(executor._scorer or FaultyScorer(tmp_path), candidates(9)))) == 9 and crew.hired == 9


def test_a_machine_that_leaves_is_nobody_s_fault(tmp_path: Path) -> None:
    left = [0]

    def leaves(worker: Worker) -> Event | None:
        if 2 in ids(worker) and left[0] < 5:
            left[0] += 1
            return Lost(worker, "the machine left", blame=False)
        return None

    executor = SupervisedExecutor(ScriptedCrew(2, leaves), chunk_seconds=1e-9)
    trials = list(executor.run(FaultyScorer(tmp_path), candidates(6)))
    assert all(trial.status == "ok" for trial in trials) and len(trials) == 6
    assert executor.facts() == {"name": "scripted", "workers_lost": 5, "retries": 5}


def test_an_exception_outside_the_scorer_fails_one_candidate_and_no_worker(tmp_path: Path) -> None:
    crew = ScriptedCrew(2, lambda worker: Raised(worker, "cannot be unpickled") if 4 in ids(worker) else None)
    trials = {trial.id: trial for trial in SupervisedExecutor(crew).run(FaultyScorer(tmp_path), candidates(9))}
    assert trials[4].status == "failed" and "cannot be unpickled" in str(trials[4].error)
    assert sum(trial.status == "ok" for trial in trials.values()) == 8 and crew.hired == 2


def test_workers_that_never_start_stop_the_search(tmp_path: Path) -> None:
    crew = ScriptedCrew(2, lambda worker: Lost(worker, "No module named nas", blame=False))
    with pytest.raises(MachineFailed, match="3 workers in a row died as they started: No module named nas"):
        list(SupervisedExecutor(crew).run(FaultyScorer(tmp_path), candidates(9)))


def test_machines_without_room_stop_the_search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervised, "START_SECONDS", 0.0)
    with pytest.raises(MachineFailed, match="no worker was ready for 0 s"):
        list(SupervisedExecutor(ScriptedCrew(0, lambda worker: None)).run(FaultyScorer(tmp_path), candidates(2)))


def test_a_caller_that_stops_leaves_no_worker_busy(tmp_path: Path) -> None:
    crew = ScriptedCrew(3, lambda worker: None)
    executor = SupervisedExecutor(crew)
    trials = executor.run(FaultyScorer(tmp_path), candidates(9))
    next(trials)
    trials.close()  # type: ignore[attr-defined]
    assert [each for each in crew.dismissed if each.chunk] == crew.dismissed != []
    assert len(list(executor.run(executor._scorer, candidates(4)))) == 4  # type: ignore[arg-type]


def test_a_worker_out_of_memory_makes_no_trial(tmp_path: Path) -> None:
    reason = "worker out of memory: Ray ended it to keep its machine alive"
    crew = ScriptedCrew(2, lambda worker: Lost(worker, reason, blame=True) if 2 in ids(worker) else None)
    executor, trials = SupervisedExecutor(crew), []
    with pytest.raises(OutOfMemory, match="worker out of memory: .*; given up after 2 attempts"):
        for trial in executor.run(FaultyScorer(tmp_path), candidates(6)):
            trials.append(trial)
    assert sorted(trial.id for trial in trials) == [0, 1, 3, 4, 5]
    assert len(crew.dismissed) == crew.hired  # the next attempt has the machines for itself
    crew.fate = lambda worker: None
    assert [trial.id for trial in executor.run(executor._scorer, candidates(6)[2:3])] == [2]  # type: ignore[arg-type]


def test_machines_that_leave_again_and_again_stop_the_search(tmp_path: Path) -> None:
    crew = ScriptedCrew(1, lambda worker: Lost(worker, "the machine left", blame=False) if 0 in ids(worker) else None)
    with pytest.raises(MachineFailed, match="the machine left; given up after 10 attempts"):
        list(SupervisedExecutor(crew).run(FaultyScorer(tmp_path), candidates(1)))
