"""The time that proxies take: all of them together on one probe compared with ``robust`` alone, and each alone.

    python -m benchmarks.proxies [--cells 3] [--rounds 3] [--proxies NAME ...]

Each random DARTS cell, at 16 channels and 8 layers, is scored on 50 images with one thread, in turn (A B A B) by
``robust`` alone and by all proxies together. Every figure includes building the network. Seconds are CPU time of the
process, which with one thread is the time on a machine that runs nothing else. The process keeps freed memory, as a
search does.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Sequence

import numpy as np
import torch
from rich.table import Table

from benchmarks import machine
from benchmarks.scoring import NTK_IMAGES, show
from nas.executors.allocator import keep_freed_memory
from nas.executors.candidates import Candidate
from nas.images.data import load_data, probe_batch
from nas.searching.scoring import Scorer
from proxies import PROXIES, get_network_proxy
from proxies.base import Proxy
from search_spaces.base import NetworkSpec
from search_spaces.cells.genotype import CellGenotype
from search_spaces.darts.space import DartsSpace


class Bench:
    """Cells to be scored by any set of proxies on the same images."""

    def __init__(self, cells: int):
        self.space, self.spec = DartsSpace(), NetworkSpec(channels=16, layers=8)
        self.images, self.labels = probe_batch(load_data("digits").train, NTK_IMAGES, seed=0)
        drawn = [self.space.sample(np.random.default_rng(i)) for i in range(cells)]
        self.candidates = [Candidate(i, self.space.canonical(cell), cell) for i, cell in enumerate(drawn)]

    def seconds(self, candidate: Candidate[CellGenotype], proxies: Sequence[Proxy]) -> float:
        """CPU seconds for one candidate."""
        scorer = Scorer(self.space, self.spec, proxies, self.images, self.labels, seed=0)
        started = time.process_time()
        trial = scorer(candidate)
        taken = time.process_time() - started
        assert trial.status == "ok", trial
        return taken


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.proxies", description="what proxies cost")
    parser.add_argument("--cells", type=int, default=3, help="random cells (default: 3)")
    parser.add_argument("--rounds", type=int, default=3, help="times that each side runs, in turn (default: 3)")
    parser.add_argument("--proxies", nargs="*", default=PROXIES, help="beside robust (default: all)")
    arguments = machine.parse(parser, "benchmarks.proxies", argv)
    torch.set_num_threads(1)
    keep_freed_memory()
    bench = Bench(arguments.cells)
    names = list(dict.fromkeys(["robust", *arguments.proxies]))
    proxies = {name: get_network_proxy(name) for name in names}

    bench.seconds(bench.candidates[0], list(proxies.values()))  # warm up
    robust, together = [], []
    for _ in range(arguments.rounds):
        for candidate in bench.candidates:
            robust.append(bench.seconds(candidate, [proxies["robust"]]))
            together.append(bench.seconds(candidate, list(proxies.values())))
    ratios = [all_of_them / one for all_of_them, one in zip(together, robust, strict=True)]
    alone = {
        name: statistics.median(bench.seconds(each, [proxy]) for each in bench.candidates for _ in range(2))
        for name, proxy in proxies.items()
    }

    table = Table(title="CPU seconds a candidate (16 channels, 8 layers, 50 images, one thread)")
    table.add_column("proxies")
    for column in ("median", "min..max", "times robust"):
        table.add_column(column, justify="right")
    spread = f"{min(ratios):.2f}..{max(ratios):.2f}"
    table.add_row("robust", f"{statistics.median(robust):.3f}", f"{min(robust):.3f}..{max(robust):.3f}", "1")
    table.add_row(
        f"all {len(names)} together",
        f"{statistics.median(together):.3f}",
        f"{min(together):.3f}..{max(together):.3f}",
        f"{statistics.median(ratios):.2f} ({spread})",
        end_section=True,
    )
    for name, seconds in sorted(alone.items(), key=lambda each: -each[1]):
        table.add_row(f"{name} alone", f"{seconds:.3f}", "", f"{seconds / statistics.median(robust):.2f}")
    table.add_row("the sum of these", f"{sum(alone.values()):.3f}", "", "")
    show(table, arguments.cells, arguments.rounds)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
