"""Does regularized evolution find better candidates than random search at an equal budget?

    python -m experiments.evolution_vs_random [--budget 300] [--seeds 10] [--out FILE.json]

Both search the DARTS space for the cell with the most parameters (16 channels, 8 layers). The parameter count is exact,
so nothing but the searcher decides; and it is the baseline that untrained scores are held against. For one seed both
begin with the same random candidates, so they are compared in pairs: a one-sided sign test, in which seeds that tie
count for neither.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from rich.console import Console
from rich.progress import track
from rich.table import Table
from scipy.stats import binomtest

from search_spaces import get_space
from search_spaces.base import NetworkSpec, SearchSpace
from searchers import get_searcher
from searchers.base import Trial
from searchers.fitness import SingleScore

BASELINE, CHALLENGER = "random", "regularized_evolution"
SPEC = NetworkSpec(channels=16, layers=8)
BATCH = 10  # candidates an ask


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The best parameter count that each searcher found, by seed."""

    budget: int
    baseline: tuple[int, ...]
    challenger: tuple[int, ...]

    @property
    def wins(self) -> int:
        """Seeds at which the challenger found more."""
        return sum(b > a for a, b in zip(self.baseline, self.challenger, strict=True))

    @property
    def losses(self) -> int:
        """Seeds at which the baseline found more."""
        return sum(b < a for a, b in zip(self.baseline, self.challenger, strict=True))

    @property
    def p_value(self) -> float:
        """How likely so many wins are, or more, if either searcher were as likely to find more."""
        decided = self.wins + self.losses
        return float(binomtest(self.wins, decided, alternative="greater").pvalue) if decided else 1.0

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
            "wins": self.wins,
            "losses": self.losses,
            "sign_test_p": self.p_value,
        }


def best_params(searcher_name: str, space: SearchSpace[Any], *, seed: int, budget: int) -> int:
    """The most parameters among ``budget`` candidates of one search."""
    searcher = get_searcher(searcher_name)(space, seed=seed, fitness=SingleScore("params", "maximize"))
    best = 0
    while searcher.told < budget:
        trials = []
        for id_, genotype in enumerate(searcher.ask(min(BATCH, budget - searcher.told)), start=searcher.told):
            params = space.cost(genotype, SPEC).params
            scores = {"params": float(params)}
            key = space.canonical(genotype)
            trials.append(
                Trial(id=id_, key=key, genotype=genotype, seed=seed, status="ok", scores=scores, params=params)
            )
        searcher.tell(trials)
        best = max(best, *(trial.params for trial in trials))
    return best


def compare(*, budget: int, seeds: int, console: Console | None = None) -> Comparison:
    """Both searchers at the seeds 0, 1, ...; progress goes to ``console``."""
    space = get_space("darts")
    found: dict[str, list[int]] = {BASELINE: [], CHALLENGER: []}
    for seed in track(range(seeds), "searching", console=console, disable=console is None, transient=True):
        for name, values in found.items():
            values.append(best_params(name, space, seed=seed, budget=budget))
    return Comparison(budget=budget, baseline=tuple(found[BASELINE]), challenger=tuple(found[CHALLENGER]))


def table(comparison: Comparison) -> Table:
    """One row a seed, then the medians."""
    drawn = Table(title=f"Most parameters among {comparison.budget:,} candidates", show_footer=True)
    medians = statistics.median(comparison.baseline), statistics.median(comparison.challenger)
    drawn.add_column("seed", "median", justify="right")
    drawn.add_column(BASELINE, f"{medians[0]:,.0f}", justify="right")
    drawn.add_column(CHALLENGER, f"{medians[1]:,.0f}", justify="right")
    drawn.add_column("difference", f"{medians[1] - medians[0]:+,.0f}", justify="right")
    for seed, (a, b) in enumerate(zip(comparison.baseline, comparison.challenger, strict=True)):
        drawn.add_row(str(seed), f"{a:,}", f"{b:,}", f"{b - a:+,}")
    return drawn


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """One line, without the usage."""
        self.exit(2, f"{self.prog}: {message}\n")


def _positive(text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected an integer from 1 on, got {text!r}")
    return value


def _output_file(text: str) -> Path:
    path = Path(text)
    if path.is_dir() or not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"expected a file in an existing folder, got {text!r}")
    return path


def main(arguments: Sequence[str] | None = None) -> None:
    parser = _Parser(prog="evolution_vs_random", description="Regularized evolution against random search.")
    parser.add_argument("--budget", type=_positive, default=300, help="candidates a search (default 300)")
    parser.add_argument("--seeds", type=_positive, default=10, help="searches of each kind (default 10)")
    parser.add_argument("--out", type=_output_file, help="JSON file for the figures")
    options = parser.parse_args(arguments)
    comparison = compare(budget=options.budget, seeds=options.seeds, console=Console(stderr=True))
    console = Console()
    console.print(table(comparison))
    console.print(
        f"{CHALLENGER} found more at {comparison.wins} of {options.seeds} seeds, less at {comparison.losses};"
        f" one-sided sign test p = {comparison.p_value:.2g}"
    )
    if options.out is not None:
        try:
            options.out.write_text(json.dumps(comparison.to_json(), indent=2) + "\n", encoding="utf-8")
        except OSError as error:
            parser.error(f"cannot write {options.out}: {error.strerror}")


if __name__ == "__main__":
    main()
