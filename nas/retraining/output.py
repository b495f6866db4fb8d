"""Terminal output of a retraining: a progress bar for each cell, and the table of results."""

from __future__ import annotations

from typing import Any

from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from nas.cli.bars import Bars
from nas.cli.printing import Terminal
from nas.retraining.halving import METRIC
from nas.retraining.retrainer import RetrainResult


class RetrainProgress(Bars):
    """A progress bar for each cell: epochs, and robust and clean validation accuracy after the latest epoch."""

    def __init__(self, epochs: int, *, show: bool, title: str = ""):
        super().__init__(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("epochs"),
            TextColumn("{task.fields[figures]}"), TimeElapsedColumn(),
            show=show, title=title,
        )  # fmt: skip
        self._epochs = epochs
        self._tasks: dict[int, TaskID] = {}

    def update(self, number: int, epoch: dict[str, Any]) -> None:
        """Show that cell ``number`` has finished an epoch; the first call shows the bars."""
        self.start()
        if number not in self._tasks:
            self._tasks[number] = self.progress.add_task(f"cell {number}", total=self._epochs, figures="")
        figures = f"robust {epoch[METRIC]:.1%} clean {epoch['validation_accuracy']:.1%}"
        self.progress.update(self._tasks[number], completed=epoch["epoch"], figures=figures)


def print_result(result: RetrainResult, proxies: list[str]) -> None:
    """Print the table of cells, best first, and the run directory of the best one."""
    table = Table(
        title="cells by robust accuracy on images held out of training, at the best epoch of each", title_justify="left"
    )
    table.add_column("cell", justify="right")
    for name in (*(f"proxy {name}" for name in proxies), "epochs", "best robust", "its clean"):
        table.add_column(name, justify="right")
    table.add_column("outcome")
    for cell in result.cells:
        best = cell["best"] or {}
        accuracies = [f"{best[name]:.1%}" if best else "-" for name in (METRIC, "validation_accuracy")]
        scores = [f"{cell['scores'][name]:.6g}" for name in proxies]
        table.add_row(
            str(cell["number"]), *scores, str(cell["epochs"]), *accuracies, escape(cell["error"] or cell["status"])
        )
    console = Terminal()
    console.print(table)
    for line in (
        f"best:   cell {result.best['number']}: {result.best['genotype']}",
        f"model:  {result.best['run']}",
        f"attack: python -m nas.attack --run {result.best['run']}",
    ):
        console.say(line)
