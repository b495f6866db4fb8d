"""Which searcher finds the front of several measured objectives with the fewest evaluations?

    python -m experiments.front_on_table [--table nas_robbench_201] \\
        [--objectives cifar10/autoattack cifar10/val_acc] [--budget 300] [--seeds 20] \\
        [--searchers random regularized_evolution nsga2] [--data-dir DIR] [--out FOLDER]

Objectives are accuracies of the table, which are maximized, and params or macs, which are minimized. For each number of
evaluations, the result is the hypervolume of the front found so far: the mean over seeds, with a percentile bootstrap
interval of 95 %. Each objective is normalised to [0, 1] between the worst and the best cell of the table; the worst
values are the reference point, and the hypervolume is divided by that of the table's own front. Every other searcher
is compared with the first one, paired by seed. comparison.json, curves.csv, front.png and front.md go to ``--out``.
"""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track

from experiments.arguments import output_folder, positive
from experiments.known_values import BATCH, history
from nas.cli.arguments import Parser
from nas.cli.printing import Terminal
from nas.cli.running import run_command
from nas.errors import UserError, as_user_error, unknown
from nas.files import make_folder, write
from nas.runs.directory import write_json
from nas.searching.objectives import COUNTED
from nas.tabular import load_table
from nas.tabular.base import Table
from search_spaces import get_space
from searchers import SEARCHERS, get_searcher
from searchers.fronts import hypervolume, joint, normalised
from searchers.objectives import Direction, front_numbers

RESAMPLES = 2000


class MeasuredObjectives:
    """Several objectives of all cells of a table. ``signed`` are values ``(cells, m)``, higher is better.

    :raises UserError: fewer than two objectives, an unknown one, or none that the table has measured.
    """

    def __init__(self, table: Table, names: Sequence[str]):
        measured = [name for name in names if name not in COUNTED]
        if len(set(names)) < max(2, len(names)) or not measured:
            raise UserError(f"--objectives must be two or more, at least one of the table, got {', '.join(names)}")
        for name in measured:
            if name not in table.metrics:
                raise unknown(f"objective on {table.name}", name, (*table.metrics, *COUNTED))
        self.table = table
        self.space = get_space(table.space)
        self.directions: dict[str, Direction] = {name: "minimize" if name in COUNTED else "maximize" for name in names}
        spec = table.spec_for(measured[0])
        self.scores: dict[str, dict[str, float]] = {}  # by canonical key
        for key in table.keys:
            cost = self.space.cost(self.space.parse(key), spec)
            found = {name: getattr(cost, name) if name in COUNTED else table.measured(key, name) for name in names}
            self.scores[key] = {name: float(value or 0) for name, value in found.items()}
        self.signs = np.array([-1.0 if name in COUNTED else 1.0 for name in names])
        self.signed = self.signs * np.array([list(scores.values()) for scores in self.scores.values()])

    @cached_property
    def front(self) -> np.ndarray:
        """The values of the table's own front, ``(k, m)``, higher is better, each once, sorted by first objective."""
        return np.unique(self.signed[front_numbers(self.signed) == 0], axis=0)

    def hypervolume(self, values: np.ndarray) -> float:
        """The hypervolume of rows of values, as a share of that of the table's own front."""
        worst, best = self.signed.min(axis=0), self.signed.max(axis=0)
        return hypervolume(normalised(values, worst, best)) / hypervolume(normalised(self.front, worst, best))

    def search(self, searcher: str, seed: int, budget: int) -> np.ndarray:
        """The values ``(budget, m)`` of the candidates of one search, in the order of proposal, higher is better."""

        def key(genotype: Any) -> str:
            return self.space.canonical(genotype)

        trials = history(
            searcher, self.space, lambda genotype: self.scores[key(genotype)], joint(self.directions),
            seed=seed, budget=budget, feasible=lambda genotype: key(genotype) in self.scores,
        )  # fmt: skip
        return np.asarray(self.signs * np.array([[trial.scores[name] for name in self.directions] for trial in trials]))


@dataclass(frozen=True, kw_only=True)
class Fronts:
    """``curves``: by searcher ``(seeds, budget)``, hypervolume so far. ``found``: each seed's front, ``(k, m)``."""

    objectives: MeasuredObjectives
    curves: dict[str, np.ndarray]
    found: dict[str, list[np.ndarray]]

    @property
    def baseline(self) -> str:
        """The searcher that the others are compared with: the first."""
        return next(iter(self.curves))

    def interval(self, searcher: str) -> np.ndarray:
        """``(2, budget)``: the bootstrap interval of the mean."""
        return bootstrap(self.curves[searcher])

    def advantage(self, searcher: str) -> tuple[float, float, float]:
        """The mean difference of the final hypervolume from the baseline's, and its bootstrap interval."""
        difference = self.curves[searcher][:, -1:] - self.curves[self.baseline][:, -1:]
        low, high = bootstrap(difference)[:, 0].tolist()
        return float(difference.mean()), low, high

    def recovered(self, searcher: str) -> float:
        """The mean share of the points of the table's own front that were found."""
        true = self.objectives.front
        return float(np.mean([(true[:, None] == each).all(axis=2).any(axis=1).mean() for each in self.found[searcher]]))

    def to_json(self) -> dict[str, Any]:
        """All figures, with the table, objectives, budget and seeds that they belong to."""
        seeds, budget = self.curves[self.baseline].shape
        own = self.objectives
        return {
            "table": own.table.description,
            "files": dict(own.table.files),
            "objectives": own.directions,
            "true_front": (own.signs * own.front).tolist(),
            "budget": budget,
            "batch": BATCH,
            "seeds": seeds,
            "hypervolume": {name: curves[:, -1].tolist() for name, curves in self.curves.items()},
            "interval": {name: self.interval(name)[:, -1].tolist() for name in self.curves},
            "advantage": {name: self.advantage(name) for name in self.curves if name != self.baseline},
            "recovered": {name: self.recovered(name) for name in self.curves},
        }


def bootstrap(samples: np.ndarray) -> np.ndarray:
    """``(2, k)``: the 95 % percentile bootstrap interval of the mean of samples ``(n, k)`` over the first axis."""
    n = len(samples)
    weights = np.random.default_rng(0).multinomial(n, np.full(n, 1 / n), size=RESAMPLES) / n
    return np.asarray(np.quantile(weights @ samples, [0.025, 0.975], axis=0))


def compare(
    objectives: MeasuredObjectives, searchers: Sequence[str], *, budget: int, seeds: int, console: Console | None = None
) -> Fronts:
    """Run each searcher with the seeds 0, 1, ...; progress is shown on ``console``.

    :raises UserError: a searcher is unknown.
    """
    for name in searchers:
        as_user_error(lambda: get_searcher(name))  # noqa: B023  # called at once
    curves: dict[str, list[list[float]]] = {name: [] for name in searchers}
    found: dict[str, list[np.ndarray]] = {name: [] for name in searchers}
    for seed in track(range(seeds), "searching", console=console, disable=console is None, transient=True):
        for name in searchers:
            values = objectives.search(name, seed, budget)
            curves[name].append([objectives.hypervolume(values[:n]) for n in range(1, budget + 1)])
            found[name].append(np.unique(values[front_numbers(values) == 0], axis=0))
    return Fronts(objectives=objectives, curves={name: np.array(each) for name, each in curves.items()}, found=found)


def markdown(fronts: Fronts) -> str:
    """The result as a table for a page of results."""
    seeds, budget = fronts.curves[fronts.baseline].shape
    own = fronts.objectives
    shown = sorted({n for n in (20, 50, 100, 200, 300, 1000) if n < budget} | {budget})
    goals = " and ".join(f"{direction} `{name}`" for name, direction in own.directions.items())
    lines = [
        f"{own.table.title}: {goals}; {budget} evaluations, {seeds} seeds. Hypervolume in percent of that of the"
        f" table's own front (points: {len(own.front)}): mean over seeds [95 % bootstrap interval].",
        "",
        "| searcher | " + " | ".join(map(str, shown)) + f" | at the end, against {fronts.baseline} | front found |",
        "|---|" + "---|" * (len(shown) + 2),
    ]
    for name, curves in fronts.curves.items():
        low, high = 100 * fronts.interval(name)
        means = 100 * curves.mean(axis=0)
        figures = [f"{means[n - 1]:.2f} [{low[n - 1]:.2f}, {high[n - 1]:.2f}]" for n in shown]
        more, least, most = (100 * figure for figure in fronts.advantage(name))
        against = "" if name == fronts.baseline else f"{more:+.2f} [{least:+.2f}, {most:+.2f}]"
        lines.append(f"| {name} | {' | '.join(figures)} | {against} | {fronts.recovered(name):.0%} |")
    return "\n".join(lines) + "\n"


def save(fronts: Fronts, folder: Path) -> None:
    """The figures, curves, picture and Markdown in ``folder``, which is created if it does not exist."""
    make_folder(folder)
    write_json(folder / "comparison.json", fronts.to_json())
    write(folder / "front.md", markdown(fronts))
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["searcher", "evaluations", "mean", "low", "high"])
    for name, curves in fronts.curves.items():
        for n, figures in enumerate(zip(curves.mean(axis=0), *fronts.interval(name), strict=True), start=1):
            rows.writerow([name, n, *(f"{figure:.6f}" for figure in figures)])
    write(folder / "curves.csv", text.getvalue())
    write(folder / "front.png", _picture(fronts))


def _picture(fronts: Fronts) -> bytes:
    """Hypervolume over evaluations, and the fronts found by the first two objectives with the table's own behind."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10.4, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    own = fronts.objectives
    y, x = list(own.directions)[:2]
    right.plot(*_places(own, own.signed), ".", color="0.85", markersize=2, label="cells of the table")
    line = own.front[front_numbers(own.front[:, :2]) == 0]
    line = line[np.argsort(own.signs[1] * line[:, 1])]
    right.step(*_places(own, line), where="pre" if own.signs[1] > 0 else "post", color="0.35", linewidth=3, alpha=0.6)
    right.plot(*_places(own, line), "s", color="0.35", markersize=6, label="its own front")
    for name, curves in fronts.curves.items():
        low, high = 100 * fronts.interval(name)
        evaluations = np.arange(1, len(low) + 1)
        (drawn,) = left.plot(evaluations, 100 * curves.mean(axis=0), label=name)
        left.fill_between(evaluations, low, high, color=drawn.get_color(), alpha=0.2, linewidth=0)
        points = np.vstack(fronts.found[name])
        right.plot(
            *_places(own, points), "o", color=drawn.get_color(), markersize=3, alpha=0.4, label=f"found by {name}"
        )
    reached = np.vstack([each for found in fronts.found.values() for each in found])
    for axis, column in (("x", 1), ("y", 0)):
        ends = own.signs[column] * np.vstack([reached, own.front])[:, column]
        margin = 0.05 * (np.ptp(ends) or 1.0)
        right.set(**{f"{axis}lim": (ends.min() - margin, ends.max() + margin)})
    left.set_ylim(min(100 * fronts.interval(name)[0][min(9, len(evaluations) - 1)] for name in fronts.curves), 100.2)
    left.set_xlabel("evaluations")
    left.set_ylabel("hypervolume, percent of the table's front")
    right.set_xlabel(x, parse_math=False)
    right.set_ylabel(y, parse_math=False)
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.legend(loc="lower right", fontsize=8)
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=150)
    return png.getvalue()


def _places(own: MeasuredObjectives, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The second and the first objective of rows of values, in their own units."""
    return own.signs[1] * values[:, 1], own.signs[0] * values[:, 0]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit code: 0, or 2 after one line on the error stream."""
    return run_command(command, arguments)


def command(argv: Sequence[str]) -> int:
    """Runs the command with the arguments after the program's name; returns the exit code."""
    parser = Parser(prog="front_on_table", description="Searchers on several measured objectives of a table.")
    parser.add_argument("--table", default="nas_robbench_201", help="or nas_bench_201_r (default nas_robbench_201)")
    parser.add_argument(
        "--objectives", nargs="+", default=["cifar10/autoattack", "cifar10/val_acc"], metavar="NAME",
        help="metrics of the table, params, macs (default cifar10/autoattack cifar10/val_acc)",
    )  # fmt: skip
    parser.add_argument("--data-dir", default="data", help="where the table's files are (default data)")
    parser.add_argument("--budget", type=positive, default=300, help="candidates a search (default 300)")
    parser.add_argument("--seeds", type=positive, default=20, help="searches of each kind (default 20)")
    parser.add_argument(
        "--searchers", nargs="+", default=["random", "regularized_evolution", "nsga2"], metavar="NAME",
        help=f"the baseline first (default random regularized_evolution nsga2); any of {', '.join(SEARCHERS)}",
    )  # fmt: skip
    parser.add_argument("--out", type=output_folder, metavar="FOLDER", help="folder for the figures and the picture")
    options = parser.parse_args(argv)
    table = load_table(options.table, options.data_dir)
    if table.sampled:
        raise UserError(f"{table.title} has too few cells of its space for a search, expected another table")
    fronts = compare(
        MeasuredObjectives(table, options.objectives), list(dict.fromkeys(options.searchers)),
        budget=options.budget, seeds=options.seeds, console=Console(stderr=True),
    )  # fmt: skip
    Terminal().say(markdown(fronts))
    if options.out is not None:
        save(fronts, options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
