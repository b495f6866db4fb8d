"""A transfer matrix in the terminal and as a picture: a progress bar for each model, a table, a heat map."""

from __future__ import annotations

import io
from typing import Any

from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import TimeRemainingColumn as TimeLeft
from rich.table import Table

from nas.cli.bars import Bars
from nas.cli.printing import Terminal


class TransferProgress(Bars):
    """A bar for each model that images are made on."""

    def __init__(self, *, show: bool):
        super().__init__(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
            TextColumn("left"), TimeLeft(), show=show,
        )  # fmt: skip
        self._tasks: dict[str, TaskID] = {}

    def update(self, name: str, done: int, samples: int) -> None:
        """``done`` of ``samples`` images are made on the model; the first call shows the bar."""
        self.start()
        if name not in self._tasks:
            self._tasks[name] = self.progress.add_task(f"made on {escape(name)}", total=samples)
        self.progress.update(self._tasks[name], completed=done)


def print_matrix(result: dict[str, Any], out: str) -> None:
    """Accuracies in percent: a row for each model that images were made on, a column for each that classifies them."""
    console, names = Terminal(), list(result["natural"])
    title = f"accuracy (%) on {result['images']['samples']} images of {result['images']['dataset']}, {result['attack']}"
    table = Table(title=escape(title), title_justify="left")
    table.add_column("made on", no_wrap=True)
    for name in names:
        table.add_column(escape(name), justify="right", overflow="fold", min_width=6)
    table.add_row("natural", *(f"{100 * result['natural'][name]:.2f}" for name in names), end_section=True)
    for made, row in result["accuracy"].items():
        table.add_row(escape(made), *(f"{100 * row[name]:.2f}" for name in names))
    console.print(table)
    console.say(f"files:  {out}")


def picture(result: dict[str, Any]) -> bytes:
    """The matrix as a heat map in PNG, natural accuracies in a row of their own above it."""
    from matplotlib.figure import Figure

    names = list(result["natural"])
    rows = [result["natural"], *result["accuracy"].values()]
    percent = [[100 * row[name] for name in names] for row in rows]
    figure = Figure(figsize=(2.4 + 0.9 * len(names), 1.8 + 0.6 * len(rows)), layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(percent, cmap="viridis", vmin=0, vmax=100, aspect="auto")
    axes.set_xticks(range(len(names)), names, rotation=30, ha="right", parse_math=False)
    axes.set_yticks(range(len(rows)), ["natural", *result["accuracy"]], parse_math=False)
    axes.axhline(0.5, color="white", linewidth=3)
    axes.set_xlabel("model that judges")
    axes.set_ylabel(f"made on ({result['attack']})", parse_math=False)
    for y, row in enumerate(percent):
        for x, value in enumerate(row):
            axes.text(x, y, f"{value:.1f}", ha="center", va="center", color="black" if value > 60 else "white")
    figure.colorbar(image, label="accuracy (%)")
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=150)
    return drawn.getvalue()
