"""Scoring several candidates as one network, by their number K.

    python -m benchmarks.stacks [--cells 16] [--rounds 3] [--sizes 1 2 4 8 16] [--device cpu] [--isa avx2|sse4]

For each K: the operations that torch runs for a candidate (on an accelerator each is a launch), the memory of the
process at its peak, and the seconds a candidate with ``robust`` at 16 channels and 8 layers, on one thread. The times
of all K are taken in turn, so the ratios to K = 1 are of the same minutes. Scores are those of K = 1 up to rounding;
the last column shows the greatest relative difference.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks import machine
from nas.executors.local import LocalExecutor
from nas.executors.stacks import stacked
from nas.images.data import load_data, probe_batch
from nas.searching.scoring import Candidate, Scorer
from proxies.robust import Robust
from search_spaces.base import NetworkSpec
from search_spaces.darts.space import DartsSpace

SPACE, SPEC = DartsSpace(), NetworkSpec(channels=16, layers=8)
#: operations that launch nothing on an accelerator: they give another view of a tensor, or allocate
VIEWS = (
    "view", "_unsafe_view", "reshape", "permute", "transpose", "t", "slice", "narrow", "select", "unsqueeze", "squeeze",
    "expand", "detach", "as_strided", "split", "split_with_sizes", "unbind", "alias", "chunk", "empty", "new_empty",
    "empty_like",
)  # fmt: skip


class Operations(TorchDispatchMode):
    """Counts the operations that compute something."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += function.overloadpacket.__name__ not in VIEWS
        return function(*args, **(kwargs or {}))


def scores_of(size: int, candidates: Sequence[Candidate[Any]], device: str) -> list[float]:
    """The scores of the candidates in stacks of ``size``, in order."""
    images, labels = probe_batch(load_data("digits").train, 50, seed=0)
    scorer = Scorer(SPACE, SPEC, [Robust()], images, labels, seed=0, stack=size, device=device)
    trials = sorted(LocalExecutor(1).run(scorer, stacked(candidates, size)), key=lambda trial: trial.id)
    assert all(trial.status == "ok" for trial in trials), trials
    return [trial.scores["robust"] for trial in trials]


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.stacks", description="candidates as one network")
    parser.add_argument("--cells", type=int, default=16, help="random cells, the same for all K (default: 16)")
    parser.add_argument("--rounds", type=int, default=3, help="times that each K runs, in turn (default: 3)")
    parser.add_argument("--sizes", type=int, nargs="+", default=[1, 2, 4, 8, 16], help="K (default: 1 2 4 8 16)")
    parser.add_argument("--device", default="cpu", help="(default: cpu)")
    arguments = machine.parse(parser, "benchmarks.stacks", argv)
    cells = [SPACE.sample(np.random.default_rng(i)) for i in range(arguments.cells)]
    candidates = [Candidate(i, SPACE.canonical(cell), cell) for i, cell in enumerate(cells)]
    counts, memory, scores, seconds = {}, {}, {}, {size: [] for size in arguments.sizes}
    for size in sorted(arguments.sizes):  # in this order, because a process only tells its peak so far
        with Operations() as operations:
            scores[size] = scores_of(size, candidates, arguments.device)
        counts[size] = operations.count / len(cells)
        memory[size] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    for _ in range(arguments.rounds):
        for size in arguments.sizes:
            started = time.perf_counter()
            scores_of(size, candidates, arguments.device)
            if arguments.device != "cpu":
                torch.cuda.synchronize()
            seconds[size].append((time.perf_counter() - started) / len(cells))
    table = Table(title="robust by K, the candidates that are one network (16 channels, 8 layers, 50 + 8 images)")
    for column in ("K", "operations", "peak GiB", "seconds", "of K = 1", "min..max", "scores differ by"):
        table.add_column(column, justify="right")
    first = arguments.sizes[0]
    for size in arguments.sizes:
        ratios = [a / b for a, b in zip(seconds[size], seconds[first], strict=True)]
        differ = max(abs(a - b) / abs(b) for a, b in zip(scores[size], scores[first], strict=True))
        table.add_row(
            str(size), f"{counts[size]:,.0f}", f"{memory[size]:.2f}", f"{statistics.median(seconds[size]):.3f}",
            f"{statistics.median(ratios):.2f}", f"{min(ratios):.2f}..{max(ratios):.2f}", f"{differ:.0e}",
        )  # fmt: skip
    console = Console(width=120)
    console.print(table)
    about = f"{len(cells)} cells, {arguments.rounds} rounds, medians; {arguments.device}; {machine.description()}"
    console.print(about, highlight=False, soft_wrap=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
