"""Which searcher finds the best measured cell with the fewest evaluations?

    python -m experiments.searchers_on_table --table nas_robbench_201 --metric cifar10/autoattack \\
        [--budget 300] [--seeds 50] [--searchers random local_search] [--data-dir DIR] [--out FOLDER]

Every searcher looks for the greatest accuracy in a table; a cell that the table does not hold is drawn again. A regret
is the greatest accuracy of the table minus the greatest one so far. For each number of evaluations, the result is the
mean regret over seeds, with its 95 % interval by a bootstrap of the seeds. Every other searcher is compared with the
first one, paired by seed: the mean difference of their regrets at the end with its interval. comparison.json, which has
a one-sided sign test as well, curves.csv and curves.png are written to ``--out``.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table as Drawn

from experiments.arguments import output_folder, positive
from experiments.known_values import BATCH, SignTest, best_so_far
from experiments.rank_statistics import LEVEL, resample_weights
from nas.cli.arguments import Parser
from nas.cli.printing import Terminal
from nas.cli.running import run_command
from nas.errors import UserError, as_user_error
from nas.files import make_folder, write
from nas.runs.directory import write_json
from nas.tabular import load_table
from nas.tabular.base import Table
from search_spaces import get_space
from searchers import SEARCHERS, get_searcher

RESAMPLES = 10_000


def mean_with_interval(values: np.ndarray) -> np.ndarray:
    """``(3, n)``: for each column of ``(seeds, n)``, the mean and the ends of its bootstrap interval."""
    means = resample_weights(len(values), RESAMPLES, seed=0) @ values / len(values)
    return np.stack([means[0], *np.percentile(means[1:], ((100 - LEVEL) / 2, (100 + LEVEL) / 2), axis=0)])


def comparable() -> list[str]:
    """The names of all searchers that need accuracies only, neither networks nor images; the baseline first."""
    classes = {name: get_searcher(name) for name in SEARCHERS}
    return [name for name, made in classes.items() if not (made.needs_material or made.multi_fidelity)]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """``curves``: by searcher ``(seeds, budget)``, the best accuracy so far, percent. ``optimum``: the table's best."""

    table: Table
    metric: str
    curves: dict[str, np.ndarray]
    optimum: float

    @property
    def baseline(self) -> str:
        """The searcher that the others are compared with: the first."""
        return next(iter(self.curves))

    def regret(self, searcher: str) -> np.ndarray:
        """``(3, budget)``: the mean regret, percent, and the ends of its interval."""
        return mean_with_interval(self.optimum - self.curves[searcher])

    def difference(self, searcher: str) -> np.ndarray:
        """``(3,)``: the mean of the searcher's regret at the end minus the baseline's, and the ends of its interval."""
        return mean_with_interval(self.curves[self.baseline][:, -1:] - self.curves[searcher][:, -1:])[:, 0]

    def sign_test(self, searcher: str) -> SignTest:
        """The sign test of a searcher against the baseline at the full budget."""
        return SignTest.of(self.curves[self.baseline][:, -1].tolist(), self.curves[searcher][:, -1].tolist())

    def reached(self, searcher: str) -> int:
        """The number of seeds at which the table's best was found."""
        return int((self.curves[searcher][:, -1] >= self.optimum).sum())

    def to_json(self) -> dict[str, Any]:
        """All figures, with the table, metric, budget and seeds that they belong to."""
        seeds, budget = self.curves[self.baseline].shape
        return {
            "table": self.table.description,
            "files": dict(self.table.files),
            "metric": self.metric,
            "unit": "percent",
            "optimum": self.optimum,
            "budget": budget,
            "batch": BATCH,
            "seeds": seeds,
            "best": {name: curves[:, -1].tolist() for name, curves in self.curves.items()},
            "reached_optimum": {name: self.reached(name) for name in self.curves},
            "regret": {name: self.regret(name)[:, -1].tolist() for name in self.curves},
            "regret_minus_baseline": {
                name: self.difference(name).tolist() for name in self.curves if name != self.baseline
            },
            "sign_tests": {
                name: {**dataclasses.asdict(self.sign_test(name)), "p": self.sign_test(name).p_value}
                for name in self.curves
                if name != self.baseline
            },
        }


def compare(
    table: Table,
    metric: str,
    searchers: Sequence[str],
    *,
    budget: int,
    seeds: int,
    console: Console | None = None,
) -> Comparison:
    """Run each searcher with the seeds 0, 1, ...; progress is shown on ``console``.

    :raises UserError: the metric or a searcher is unknown.
    """
    optimum = max(table.measured(key, metric) or 0.0 for key in table.keys)
    for name in searchers:
        as_user_error(lambda: get_searcher(name))  # noqa: B023  # called at once
    space = get_space(table.space)

    def value(genotype: Any) -> float | None:
        return table.measured(space.canonical(genotype), metric)

    found: dict[str, list[np.ndarray]] = {name: [] for name in searchers}
    for seed in track(range(seeds), "searching", console=console, disable=console is None, transient=True):
        for name, curves in found.items():
            curves.append(
                best_so_far(
                    name,
                    space,
                    lambda genotype: value(genotype) or 0.0,
                    seed=seed,
                    budget=budget,
                    feasible=lambda genotype: value(genotype) is not None,
                )
            )
    stacked = {name: np.stack(curves) for name, curves in found.items()}
    return Comparison(table=table, metric=metric, curves=stacked, optimum=optimum)


def drawn(comparison: Comparison) -> Drawn:
    """One row for each searcher: the mean regret at a few budgets, and its difference to the baseline's at the end."""
    budget = comparison.curves[comparison.baseline].shape[1]
    shown = sorted({n for n in (10, 30, 100, 300, 1000, 3000) if n < budget} | {budget})
    table = Drawn(
        title=f"Regret of {comparison.metric} in percent, mean over seeds ({LEVEL:.0f} % interval at the end)"
    )
    table.add_column("searcher")
    for n in shown:
        table.add_column(f"{n:,}", justify="right")
    table.add_column("found the best", justify="right")
    table.add_column(f"minus {comparison.baseline}", justify="right")
    for name, curves in comparison.curves.items():
        mean, low, high = comparison.regret(name)
        figures = [f"{mean[n - 1]:.3f}" for n in shown]
        figures[-1] += f" ({low[-1]:.3f} to {high[-1]:.3f})"
        difference, least, most = comparison.difference(name)
        said = "" if name == comparison.baseline else f"{difference:.3f} ({least:.3f} to {most:.3f})"
        table.add_row(name, *figures, f"{comparison.reached(name)} of {len(curves)}", said)
    return table


def save(comparison: Comparison, folder: Path) -> None:
    """``comparison.json``, ``curves.csv`` and ``curves.png`` in ``folder``, which is created if it does not exist."""
    make_folder(folder)
    write_json(folder / "comparison.json", comparison.to_json())
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["searcher", "evaluations", "mean_regret", "low", "high"])
    for name in comparison.curves:
        for n, figures in enumerate(comparison.regret(name).T.tolist(), start=1):
            rows.writerow([name, n, *(f"{figure:.4f}" for figure in figures)])
    write(folder / "curves.csv", text.getvalue())
    write(folder / "curves.png", _picture(comparison))


def _picture(comparison: Comparison) -> bytes:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    axes = figure.subplots()
    tops = []
    for name in comparison.curves:
        mean, low, high = comparison.regret(name)
        evaluations = np.arange(1, len(mean) + 1)
        (line,) = axes.plot(evaluations, mean, label=name)
        axes.fill_between(evaluations, low, high, color=line.get_color(), alpha=0.2, linewidth=0)
        tops.append(high[min(9, len(high) - 1)])  # the first evaluations are much worse
    axes.set_ylim(0, max(tops) or 1)
    axes.set_xlabel("evaluations")
    axes.set_ylabel(f"regret of {comparison.metric}, percent", parse_math=False)
    axes.grid(alpha=0.3)
    axes.legend(loc="upper right")
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=150)
    return png.getvalue()


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit code: 0, or 2 after one line on the error stream."""
    return run_command(command, arguments)


def command(argv: Sequence[str]) -> int:
    """Runs the command with the arguments after the program's name; returns the exit code."""
    parser = Parser(prog="searchers_on_table", description="Searchers on the measured accuracies of a table.")
    parser.add_argument("--table", required=True, help="nas_robbench_201 or nas_bench_201_r")
    parser.add_argument("--metric", required=True, help="such as cifar10/autoattack")
    parser.add_argument("--data-dir", default="data", help="where the table's files are (default data)")
    parser.add_argument("--budget", type=positive, default=300, help="candidates a search (default 300)")
    parser.add_argument("--seeds", type=positive, default=50, help="searches of each kind (default 50)")
    parser.add_argument(
        "--searchers", nargs="+", default=comparable(), metavar="NAME",
        help=f"the baseline first (default {' '.join(comparable())})",
    )  # fmt: skip
    parser.add_argument("--out", type=output_folder, metavar="FOLDER", help="folder for the figures and the picture")
    options = parser.parse_args(argv)
    table = load_table(options.table, options.data_dir)
    if table.sampled:
        raise UserError(f"{table.title} has too few cells of its space for a search, expected another table")
    comparison = compare(
        table, options.metric, list(dict.fromkeys(options.searchers)),
        budget=options.budget, seeds=options.seeds, console=Console(stderr=True),
    )  # fmt: skip
    console = Terminal()
    console.print(drawn(comparison))
    console.say(f"best of the table: {comparison.optimum:.2f}; {table.description}")
    if options.out is not None:
        save(comparison, options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
