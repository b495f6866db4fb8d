"""How many workers one driver can keep busy: the real driver with simulated workers.

    python -m benchmarks.scale [--seconds 1.0] [--workers 1 10 100 1000 10000]

The loop, the searcher, the supervisor and trials.jsonl are the real ones and take real time. Of a worker only the time
at which its chunk will be finished is simulated. The simulated clock advances by the time that the driver really takes,
and jumps to the next finished chunk when the driver would wait. Ray's measured costs are added: ``--call-ms`` for each
chunk, ``--wait-us`` for each worker in a call of ``ray.wait``.
"""

from __future__ import annotations

import argparse
import dataclasses
import heapq
import itertools
import tempfile
import time
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from benchmarks.executors import InstantScorer
from benchmarks.scoring import show
from nas.executors.candidates import Candidate, CandidateScorer
from nas.executors.crew import Crew, Done, Event, Ready, Worker
from nas.executors.supervised import SupervisedExecutor
from nas.runs.directory import RunDirectory
from nas.searching.loop import Loop
from searchers.objectives import SingleScore
from searchers.random_search import RandomSearch


class SimulatedCrew(Crew):
    """Workers that take ``seconds`` per candidate and ``call`` per chunk; each wait takes ``wait`` per worker."""

    def __init__(self, size: int, seconds: float, call: float, wait: float):
        self.size, self.seconds, self.call, self.wait_each = size, seconds, call, wait
        self.clock = 0.0
        self._real = time.perf_counter()
        self._done: list[tuple[float, int, Event]] = []
        self._numbers = itertools.count()

    def open(self, scorer: CandidateScorer[Any]) -> None:
        self.scorer = scorer

    def capacity(self) -> int:
        return self.size

    def hire(self) -> Worker:
        worker = Worker(None, None)
        heapq.heappush(self._done, (self.clock, next(self._numbers), Ready(worker)))
        return worker

    def assign(self, worker: Worker, chunk: list[Candidate[Any]]) -> None:
        trials = [
            dataclasses.replace(self.scorer(each), scores={"instant": float(each.id)}, seconds=self.seconds)
            for each in chunk
        ]
        self._advance()
        until = self.clock + self.call + self.seconds * len(chunk)
        heapq.heappush(self._done, (until, next(self._numbers), Done(worker, trials)))

    def wait(self, workers: Collection[Worker], seconds: float) -> list[Event]:
        self._advance()
        self.clock += self.wait_each * len(workers)
        self.clock = max(self.clock, self._done[0][0])  # the driver waits for the first chunk
        events = []
        while self._done and self._done[0][0] <= self.clock:
            events.append(heapq.heappop(self._done)[2])
        self._real = time.perf_counter()
        return events

    def _advance(self) -> None:
        now = time.perf_counter()
        self.clock += now - self._real
        self._real = now

    def dismiss(self, worker: Worker) -> None:
        return

    def facts(self) -> dict[str, Any]:
        return {"name": "simulated"}

    def close(self) -> None:
        return


def simulated(workers: int, count: int, step: int, seconds: float, call: float, wait: float) -> float:
    """Trials per second of simulated time."""
    scorer, crew = InstantScorer(), SimulatedCrew(workers, seconds, call, wait)
    searcher = RandomSearch(scorer.space, seed=0, objectives=SingleScore("instant", "maximize"))
    with tempfile.TemporaryDirectory() as folder, SupervisedExecutor(crew) as executor:
        with RunDirectory(Path(folder), scorer.space) as run:
            loop = Loop(
                searcher, scorer, executor, budget=count, step=step,
                violation=lambda genotype: None, record=run.append, keep=run.write_state,
            )  # fmt: skip
            loop.run()
    return count / crew.clock


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description="one driver, simulated workers")
    parser.add_argument("--seconds", type=float, default=1.0, help="of a candidate")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 10, 100, 1000, 10_000])
    parser.add_argument("--steps", type=int, default=4, help="steps of 4 candidates a worker")
    parser.add_argument("--call-ms", type=float, default=3.4)
    parser.add_argument("--wait-us", type=float, default=2.0)
    arguments = parser.parse_args(argv)
    table = Table("workers", "candidates an hour", "of N / seconds", title=f"candidates of {arguments.seconds:g} s")
    for workers in arguments.workers:
        step = 4 * workers
        rate = simulated(
            workers, arguments.steps * step, step, arguments.seconds, arguments.call_ms / 1e3, arguments.wait_us / 1e6
        )
        share = 100 * rate * arguments.seconds / workers
        table.add_row(f"{workers:,}", f"{3600 * rate:,.0f}", f"{share:.0f} %")
    show(table, arguments.steps * 4 * max(arguments.workers), 1)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
