"""Is the cell that a search derived more robust than random cells, after the same short adversarial training?

    python -m experiments.derived_vs_random --cell runs/darts --dataset folder:DIR --out runs/derived

Each given cell and ``--random`` cells drawn from the space are trained once, with the same preset, images and seed, and
attacked on the same test images. A single training of each says how a cell stands among the others; the spread of the
random cells holds that of the trainings. Trainings and attacks that are finished in ``--out`` are not repeated.
"""

from __future__ import annotations

import contextlib
import csv
import io
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from rich.table import Table
from scipy.stats import binomtest, spearmanr

from experiments.arguments import output_folder, positive
from experiments.robustness_over_minutes import PGD, Point, measure
from nas.cli.arguments import Parser
from nas.cli.printing import Terminal
from nas.cli.running import run_command
from nas.errors import as_user_error
from nas.files import write
from nas.runs.cells import read_cell
from search_spaces import get_space
from search_spaces.base import NetworkSpec


@dataclass(frozen=True)
class Trained:
    """One cell after its training. ``name`` is as given, or ``random 0``, ``random 1``, ..."""

    name: str
    genotype: str
    params: int
    macs: int
    point: Point

    @property
    def robust(self) -> float:
        """The accuracy under PGD, percent."""
        return self.point.accuracy(PGD)


def save(trained: Sequence[Trained], folder: Path) -> None:
    """``cells.csv`` and ``cells.png``."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["cell", "params", "macs", "natural", "pgd-20", "low", "high", "samples", "genotype"])
    for each in trained:
        accuracies = (each.point.accuracy("natural"), each.robust, *each.point.interval)
        shares = (f"{accuracy / 100:.4f}" for accuracy in accuracies)
        writer.writerow([each.name, each.params, each.macs, *shares, each.point.samples, each.genotype])
    write(folder / "cells.csv", text.getvalue())
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.add_subplot()
    for random, colour, label in ((True, "tab:gray", "random cells"), (False, "tab:red", "given cells")):
        group = [each for each in trained if each.name.startswith("random ") is random]
        heights = np.array([each.robust for each in group])
        low, high = (np.array([each.point.interval[end] for each in group]) for end in (0, 1))
        axes.errorbar(
            [each.params / 1e3 for each in group], heights, yerr=[heights - low, high - heights], fmt="o", capsize=2,
            color=colour, label=label,
        )  # fmt: skip
    for each in trained:
        if not each.name.startswith("random "):
            axes.annotate(each.name, (each.params / 1e3, each.robust), textcoords="offset points", xytext=(6, 4))
    axes.set(xlabel="parameters (thousands)", ylabel=f"test accuracy under {PGD} (%), 95 % interval")
    axes.legend(frameon=False)
    axes.grid(alpha=0.3)
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=150)
    write(folder / "cells.png", png.getvalue())


def drawn(trained: Sequence[Trained]) -> Table:
    """The figures as a table, the most robust cell first."""
    table = Table(title=f"accuracy on {trained[0].point.samples} test images", title_justify="left")
    for name in ("cell", "parameters", "MACs", "natural", PGD, "95 % interval"):
        table.add_column(name, justify="left" if name == "cell" else "right")
    for each in sorted(trained, key=lambda each: -each.robust):
        low, high = each.point.interval
        table.add_row(
            each.name, f"{each.params:,}", f"{each.macs / 1e6:.1f} M", f"{each.point.accuracy('natural'):.1f} %",
            f"{each.robust:.1f} %", f"{low:.1f} to {high:.1f} %",
        )  # fmt: skip
    return table


def findings(trained: Sequence[Trained]) -> list[str]:
    """For each given cell, how many random cells it beats, with an exact 95 % interval; then what size explains."""
    random = [each for each in trained if each.name.startswith("random ")]
    lines = []
    for each in trained:
        if each not in random:
            beaten = sum(each.robust > other.robust for other in random)
            smaller = sum(each.params > other.params for other in random)
            interval = binomtest(beaten, len(random)).proportion_ci()
            lines.append(
                f"{each.name} is more robust than {beaten} of {len(random)} random cells"
                f" ({100 * interval.low:.0f} to {100 * interval.high:.0f} %), and larger than {smaller} of them"
            )
    correlation = spearmanr([each.params for each in random], [each.robust for each in random])
    lines.append(f"Spearman's correlation of parameters and accuracy over random cells: {correlation.statistic:+.2f}")
    return lines


def _measured(run: Path, words: Sequence[str], dataset: Sequence[str], samples: int) -> Point:
    """As :func:`measure`, without what the commands print as their results."""
    with contextlib.redirect_stdout(io.StringIO()):
        return measure(run, words, dataset, samples)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit code: 0, or 2 after one line on the error stream."""
    return run_command(command, arguments)


def command(argv: Sequence[str]) -> int:
    """Runs the command with the arguments after the program's name; returns the exit code."""
    parser = Parser(prog="derived_vs_random", description="Given cells against random ones, each trained once.")
    parser.add_argument("--cell", action="append", required=True, help="a run, a name or a genotype; repeatable")
    parser.add_argument("--name", action="append", default=[], help="what to call it; once for each --cell")
    parser.add_argument("--space", default="darts", help="search space of the cells (default darts)")
    parser.add_argument("--random", type=positive, default=20, help="random cells (default 20)")
    parser.add_argument("--preset", default="quick", help="protocol of nas.train (default quick)")
    parser.add_argument("--channels", type=positive, default=8, help="channels of the first cell (default 8)")
    parser.add_argument("--layers", type=positive, default=5, help="cells in the network (default 5)")
    parser.add_argument("--epochs", type=positive, default=2, help="epochs of a training (default 2)")
    parser.add_argument("--images", type=positive, default=10_000, help="training images (default 10000)")
    parser.add_argument("--samples", type=positive, default=1000, help="test images attacked (default 1000)")
    parser.add_argument("--dataset", default="cifar10", help="as of nas.train (default cifar10)")
    parser.add_argument("--data-dir", default="data", help="where cifar10, cifar100 and svhn are kept (default data)")
    parser.add_argument("--device", default="auto", help="as of nas.train (default auto)")
    parser.add_argument("--workers", type=positive, default=2, help="trainings at a time (default 2)")
    parser.add_argument("--seed", type=int, default=0, help="of random cells and trainings (default 0)")
    parser.add_argument("--out", type=output_folder, required=True, metavar="FOLDER", help="folder of the output")
    options = parser.parse_args(argv)
    space = as_user_error(lambda: get_space(options.space))
    rng = np.random.default_rng(options.seed)
    cells = {}
    for index, cell in enumerate(options.cell):
        text = read_cell(cell, options.space)[0]
        name = options.name[index] if index < len(options.name) else f"cell {index}"
        cells[name] = as_user_error(partial(space.parse, text))
    cells |= {f"random {number}": space.sample(rng) for number in range(options.random)}
    dataset = ["--dataset", options.dataset, "--data-dir", options.data_dir, "--device", options.device]
    words = ["--space", options.space, "--preset", options.preset, "--seed", str(options.seed), "--quiet"]
    for name in ("channels", "layers", "epochs", "images"):
        words += [f"--{name}", str(getattr(options, name))]
    spec = NetworkSpec(channels=options.channels, layers=options.layers)
    with ProcessPoolExecutor(options.workers, mp_context=get_context("spawn")) as pool:
        futures = {
            name: pool.submit(
                _measured, options.out / name.replace(" ", "-"), [*words, "--cell", space.format(genotype)],
                [*dataset, "--threads", "1"], options.samples,
            )
            for name, genotype in cells.items()
        }  # fmt: skip
        trained = []
        for name, genotype in cells.items():
            cost = space.cost(genotype, spec)
            trained.append(Trained(name, space.format(genotype), cost.params, cost.macs, futures[name].result()))
            save(trained, options.out)
    terminal = Terminal()
    terminal.print(drawn(trained))
    for line in findings(trained):
        terminal.say(line)
    return 0


if __name__ == "__main__":
    sys.exit(main())
