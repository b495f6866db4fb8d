"""Scoring on Ray: start-up time, overhead for each candidate, and speed-up by a second worker.

    python -m benchmarks.executors [--rounds 2] [--cells 16] [--instant 20000]

* start-up: starting or joining a cluster and scoring the first candidate on one worker;
* overhead for each candidate: wall time with one worker minus the seconds that its trials record, minus the same
  difference in this process without Ray, which is the time that it takes to free a network;
* two workers compared with one on the same candidates, in turn (A B A B), one thread each;
* the driver alone: a whole loop (proposing, sending, receiving, writing trials.jsonl) with workers that return at once;
  and the size of a trial in bytes, in the file and pickled.
"""

from __future__ import annotations

import argparse
import pickle
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.table import Table

from benchmarks.scoring import CURVATURE_IMAGES, NTK_IMAGES, show
from nas.executors.base import Executor
from nas.executors.candidates import Candidate, candidate_seed
from nas.executors.local import LocalExecutor
from nas.executors.ray import RayCrew
from nas.executors.supervised import SupervisedExecutor
from nas.images.data import load_data, probe_batch
from nas.runs.directory import RunDirectory
from nas.searching.loop import Loop
from nas.searching.scoring import Scorer
from proxies.robust import Robust
from search_spaces.base import NetworkSpec
from search_spaces.cells.genotype import CellGenotype
from search_spaces.darts.space import DartsSpace
from searchers.base import Trial
from searchers.objectives import SingleScore
from searchers.random_search import RandomSearch

STEP = 2000  # candidates per step of the driver's loop


class InstantScorer:
    """Returns a score at once, without building a network."""

    parallel = True
    names = ("instant",)

    def __init__(self) -> None:
        self.space = DartsSpace()
        self.spec = NetworkSpec()
        self.seed = 0

    def __call__(self, candidate: Candidate[CellGenotype]) -> Trial[CellGenotype]:
        seed = candidate_seed(0, candidate.key)
        return Trial(
            id=candidate.id, key=candidate.key, genotype=candidate.genotype, seed=seed, status="ok",
            scores={"instant": float(seed)}, params=seed % 10**6, macs=seed % 10**8, seconds=1e-5,
        )  # fmt: skip


def executor(workers: int) -> SupervisedExecutor:
    """An executor on a private cluster, or on the cluster that the environment names."""
    return SupervisedExecutor(RayCrew(None, workers, 1.0, 0.0))


def timed(
    running: Executor, scorer: Scorer[CellGenotype], candidates: Sequence[Candidate[CellGenotype]]
) -> tuple[float, float]:
    """Seconds for each candidate: wall time, and the time of the scoring itself."""
    started = time.perf_counter()
    trials = list(running.run(scorer, candidates))
    assert all(trial.status == "ok" for trial in trials), trials
    return (time.perf_counter() - started) / len(trials), sum(trial.seconds for trial in trials) / len(trials)


def drive(count: int) -> tuple[float, int, int]:
    """Trials a second of a loop with two workers that return at once; bytes of a trial in the file and pickled."""
    scorer = InstantScorer()
    searcher = RandomSearch(scorer.space, seed=0, objectives=SingleScore("instant", "maximize"))
    with tempfile.TemporaryDirectory() as folder, executor(2) as running:
        warm = [Candidate(-1 - i, str(i), scorer.space.sample(np.random.default_rng(i))) for i in range(2)]
        list(running.run(scorer, warm))
        with RunDirectory(Path(folder), scorer.space) as run:
            loop = Loop(
                searcher, scorer, running, budget=count, step=STEP,
                violation=lambda genotype: None, record=run.append, keep=run.write_state,
            )  # fmt: skip
            started = time.perf_counter()
            trials = loop.run()
            seconds = time.perf_counter() - started
            size = sum(path.stat().st_size for path in Path(folder).glob("trials.jsonl"))
    pickled = len(pickle.dumps(trials[:100])) // 100
    return count / seconds, size // count, pickled


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.executors", description="scoring on Ray")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--cells", type=int, default=16)
    parser.add_argument("--instant", type=int, default=20_000, help="candidates of the driver's own loop")
    arguments = parser.parse_args(argv)
    space = DartsSpace()
    images, labels = probe_batch(load_data("digits").train, NTK_IMAGES, seed=0)
    robust = Robust(ntk_images=NTK_IMAGES // 2, curvature_images=CURVATURE_IMAGES)  # about half a second a candidate
    scorer = Scorer(space, NetworkSpec(), [robust], images, labels, seed=0)
    genotypes = [space.sample(np.random.default_rng(i)) for i in range(arguments.cells)]
    candidates = [Candidate(i, space.canonical(genotype), genotype) for i, genotype in enumerate(genotypes)]

    table = Table("", "median", "min to max", title="scoring on Ray")
    walls: dict[int, list[float]] = {1: [], 2: []}
    overheads, within, starts, each = [], [], [], []
    for _ in range(arguments.rounds):
        for workers in (1, 2):
            with executor(workers) as running:
                started = time.perf_counter()
                list(running.run(scorer, candidates[:1]))
                starts.append(time.perf_counter() - started)
                while not running.status().startswith(f"{workers} worker"):
                    list(running.run(scorer, candidates[:workers]))
                list(running.run(scorer, candidates[: 2 * workers]))
                wall, scoring = timed(running, scorer, candidates)
            walls[workers].append(wall)
            if workers == 1:
                each.append(scoring)
                here, recorded = timed(LocalExecutor(1), scorer, candidates)
                within.append(1000 * (here - recorded))
                overheads.append(1000 * (wall - scoring) - within[-1])
    ratios = [one / two for one, two in zip(walls[1], walls[2], strict=True)]
    rows = {
        "start-up with the first candidate, s": starts,
        "scoring itself, one thread, s a candidate": each,
        "in this process, beyond that, ms a candidate": within,
        "one worker: Ray's overhead, ms a candidate": overheads,
        "one worker, s a candidate": walls[1],
        "two workers, s a candidate": walls[2],
        "two workers: times as fast as one": ratios,
    }
    for name, values in rows.items():
        table.add_row(name, f"{statistics.median(values):.3g}", f"{min(values):.3g} to {max(values):.3g}")
    rate, stored, pickled = drive(arguments.instant)
    table.add_row("driver alone, trials a second", f"{rate:.0f}", "")
    table.add_row("bytes of a trial: in trials.jsonl, pickled", f"{stored}, {pickled}", "")
    show(table, arguments.cells, arguments.rounds)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
