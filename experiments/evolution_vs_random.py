"""Does regularized evolution find better candidates than random search at an equal budget?

    python -m experiments.evolution_vs_random [--budget 300] [--seeds 10] [--out FILE.json]

Both search the DARTS space for the cell with the most parameters (16 channels, 8 layers). The parameter count is exact,
so the result depends on the searcher only; it is also the baseline that proxies are compared with. With the same seed
both start from the same random candidates, so they are compared in pairs by a one-sided sign test, in which seeds with
equal results are not counted.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.progress import track
from rich.table import Table

from experiments.arguments import output_file, positive
from experiments.known_values import BATCH, SignTest, best_so_far
from nas.cli.arguments import Parser
from nas.cli.printing import Terminal
from nas.cli.running import run_command
from nas.runs.directory import write_json
from search_spaces import get_space
from search_spaces.base import NetworkSpec, SearchSpace

BASELINE, CHALLENGER = "random", "regularized_evolution"
SPEC = NetworkSpec(channels=16, layers=8)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The best parameter count that each searcher found, by seed."""

    budget: int
    baseline: tuple[int, ...]
    challenger: tuple[int, ...]

    @property
    def sign_test(self) -> SignTest:
        """The sign test of the challenger against the baseline, paired by seed."""
        return SignTest.of(self.baseline, self.challenger)

    def to_json(self) -> dict[str, Any]:
        """All figures of the table."""
        results = {BASELINE: self.baseline, CHALLENGER: self.challenger}
        return {
            "space": "darts",
            "channels": SPEC.channels,
            "layers": SPEC.layers,
            "budget": self.budget,
            "batch": BATCH,
            "seeds": len(self.baseline),
            "best_params": {name: list(values) for name, values in results.items()},
            "median_best_params": {name: statistics.median(values) for name, values in results.items()},
            "wins": self.sign_test.wins,
            "losses": self.sign_test.losses,
            "sign_test_p": self.sign_test.p_value,
        }


def best_params(searcher_name: str, space: SearchSpace[Any], *, seed: int, budget: int) -> int:
    """The most parameters among ``budget`` candidates of one search."""
    found = best_so_far(
        searcher_name, space, lambda genotype: space.cost(genotype, SPEC).params, seed=seed, budget=budget
    )
    return int(found[-1])


def compare(*, budget: int, seeds: int, console: Console | None = None) -> Comparison:
    """Run both searchers with the seeds 0, 1, ...; progress is shown on ``console``."""
    space = get_space("darts")
    found: dict[str, list[int]] = {BASELINE: [], CHALLENGER: []}
    for seed in track(range(seeds), "searching", console=console, disable=console is None, transient=True):
        for name, values in found.items():
            values.append(best_params(name, space, seed=seed, budget=budget))
    return Comparison(budget=budget, baseline=tuple(found[BASELINE]), challenger=tuple(found[CHALLENGER]))


def table(comparison: Comparison) -> Table:
    """One row for each seed, then the medians."""
    drawn = Table(title=f"Most parameters among {comparison.budget:,} candidates", show_footer=True)
    medians = statistics.median(comparison.baseline), statistics.median(comparison.challenger)
    drawn.add_column("seed", "median", justify="right")
    drawn.add_column(BASELINE, f"{medians[0]:,.0f}", justify="right")
    drawn.add_column(CHALLENGER, f"{medians[1]:,.0f}", justify="right")
    drawn.add_column("difference", f"{medians[1] - medians[0]:+,.0f}", justify="right")
    for seed, (a, b) in enumerate(zip(comparison.baseline, comparison.challenger, strict=True)):
        drawn.add_row(str(seed), f"{a:,}", f"{b:,}", f"{b - a:+,}")
    return drawn


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit code: 0, or 2 after one line on the error stream."""
    return run_command(command, arguments)


def command(argv: Sequence[str]) -> int:
    """Runs the command with the arguments after the program's name; returns the exit code."""
    parser = Parser(prog="evolution_vs_random", description="Regularized evolution against random search.")
    parser.add_argument("--budget", type=positive, default=300, help="candidates a search (default 300)")
    parser.add_argument("--seeds", type=positive, default=10, help="searches of each kind (default 10)")
    parser.add_argument("--out", type=output_file, help="JSON file for the figures")
    options = parser.parse_args(argv)
    comparison = compare(budget=options.budget, seeds=options.seeds, console=Console(stderr=True))
    console = Terminal()
    console.print(table(comparison))
    test = comparison.sign_test
    console.print(
        f"{CHALLENGER} found more at {test.wins} of {options.seeds} seeds, less at {test.losses};"
        f" one-sided sign test p = {test.p_value:.2g}"
    )
    if options.out is not None:
        write_json(options.out, comparison.to_json())
    return 0


if __name__ == "__main__":
    sys.exit(main())
