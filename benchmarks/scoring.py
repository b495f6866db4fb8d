"""Scoring speed: ``robust`` compared with the published way of computing it, on the same cells, images and threads.

    python -m benchmarks.scoring [--cells 10] [--rounds 3] [--threads N] [--isa avx2|sse4]

Two sides score the same networks on the same images, in turn (A B A B), each with the whole machine:

* published: DARTS' own modules in contiguous layout, one backward pass for each of the 50 images, then the curvature
  on 8 images, one candidate after the other, torch's threads inside each operation (:mod:`nas.testing.literal`);
* ours: :class:`nas.searching.scoring.Scorer` through :class:`nas.executors.local.LocalExecutor`, from the canonical key
  to the trial, which includes building the network and counting its operations; each thread scores one candidate.

The table also shows the greatest relative difference of the scores, and the achieved FLOP/s as a share of those of a
large matrix product with the same threads.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from benchmarks import machine
from benchmarks.literal import robust_score
from nas.executors.local import LocalExecutor, available_cores
from nas.images.data import load_data, probe_batch
from nas.searching.scoring import Candidate, Scorer, candidate_seed
from nas.testing.literal import literal_network
from proxies.robust import Robust
from search_spaces.base import NetworkSpec
from search_spaces.cells.genotype import CellGenotype
from search_spaces.darts.space import DartsSpace

NTK_IMAGES, CURVATURE_IMAGES = 50, 8
PASSES = 3 * NTK_IMAGES + 2 * 2 * CURVATURE_IMAGES  # counted as forward passes: backward 2, without weight gradients 1


Side = Callable[[Scorer[CellGenotype], Sequence[Candidate[CellGenotype]], int], list[float]]


def timed(
    side: Side, scorer: Scorer[CellGenotype], candidates: Sequence[Candidate[CellGenotype]], threads: int
) -> tuple[float, list[float]]:
    """Wall time in seconds of one side over all candidates, and its scores."""
    started = time.perf_counter()
    scores = side(scorer, candidates, threads)
    return time.perf_counter() - started, scores


def matrix_product_rate(threads: int, size: int = 2048, repeats: int = 8) -> float:
    """FLOP/s of a float32 matrix product of ``size`` squared, the best of ``repeats``."""
    torch.set_num_threads(threads)
    a, b = torch.rand(size, size), torch.rand(size, size)
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        torch.mm(a, b)
        times.append(time.perf_counter() - started)
    return 2 * size**3 / min(times)


def published(scorer: Scorer[CellGenotype], candidates: Sequence[Candidate[CellGenotype]], threads: int) -> list[float]:
    """The scores, computed in the published way."""
    torch.set_num_threads(threads)
    images: Tensor = scorer.images.contiguous()
    robust = Robust()
    found = []
    for candidate in candidates:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(candidate_seed(scorer.seed, candidate.key))
            network = literal_network(scorer.space.build(scorer.space.parse(candidate.key), scorer.spec)).eval()
        ntk, curvature = images[:NTK_IMAGES], images[:CURVATURE_IMAGES]
        labels = scorer.labels[:CURVATURE_IMAGES]
        found.append(robust_score(network, ntk, curvature, labels, t=robust.t, h=robust.h))
    return found


def ours(scorer: Scorer[CellGenotype], candidates: Sequence[Candidate[CellGenotype]], threads: int) -> list[float]:
    """The scores, computed as in a search."""
    trials = sorted(LocalExecutor(threads).run(scorer, candidates), key=lambda trial: trial.id)
    assert all(trial.status == "ok" for trial in trials), trials
    return [trial.scores["robust"] for trial in trials]


def show(table: Table, cells: int, rounds: int) -> None:
    """Prints the table, and under it the size of the measurement, versions, hardware and commit."""
    console = Console(width=120)
    console.print(table)
    console.print(f"{cells} cells, {rounds} rounds, medians; {machine.description()}", highlight=False, soft_wrap=True)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scoring", description="robust, two ways")
    parser.add_argument(
        "--cells",
        type=int,
        default=10,
        help="random cells, the same for both (default: 10, as many as a search proposes at a time)",
    )
    parser.add_argument("--rounds", type=int, default=3, help="times that each side runs, in turn (default: 3)")
    parser.add_argument("--threads", type=int, nargs="*", help="thread counts (default: 1 and all cores)")
    arguments = machine.parse(parser, "benchmarks.scoring", argv)
    space, spec = DartsSpace(), NetworkSpec(channels=16, layers=8)
    images, labels = probe_batch(load_data("digits").train, NTK_IMAGES, seed=0)
    scorer = Scorer(space, spec, [Robust()], images, labels, seed=0)
    cells = [space.sample(np.random.default_rng(i)) for i in range(arguments.cells)]
    candidates = [Candidate(i, space.canonical(cell), cell) for i, cell in enumerate(cells)]
    macs = statistics.mean(space.cost(cell, spec).macs for cell in cells)

    table = Table(title="robust, seconds a candidate (16 channels, 8 layers, 50 + 8 images)")
    for column in (
        "threads",
        "published",
        "ours",
        "ratio",
        "ratio min..max",
        "GFLOP/s",
        "of matmul",
        "scores differ by",
    ):
        table.add_column(column, justify="right")
    for threads in arguments.threads or sorted({1, available_cores()}):
        ours(scorer, candidates[: threads + 1], threads)  # warm up
        published(scorer, candidates[:1], threads)
        a, b, difference = [], [], 0.0
        for _ in range(arguments.rounds):
            times, scores = zip(*(timed(side, scorer, candidates, threads) for side in (published, ours)), strict=True)
            a.append(times[0] / len(cells))
            b.append(times[1] / len(cells))
            difference = max(difference, *(abs(x - y) / abs(y) for x, y in zip(*scores, strict=True)))
        ratios = [x / y for x, y in zip(a, b, strict=True)]
        rate = 2 * macs * PASSES / statistics.median(b)
        peak = matrix_product_rate(threads)
        middle = [f"{statistics.median(a):.3f}", f"{statistics.median(b):.3f}", f"{statistics.median(ratios):.1f}"]
        spread, share = f"{min(ratios):.1f}..{max(ratios):.1f}", f"{100 * rate / peak:.0f} %"
        table.add_row(str(threads), *middle, spread, f"{rate / 1e9:.1f}", share, f"{difference:.0e}")
    show(table, arguments.cells, arguments.rounds)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
