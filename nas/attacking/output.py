"""An evaluation in the terminal: a progress bar for each attack, and the table of accuracies."""

from __future__ import annotations

from typing import Any

from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import TimeRemainingColumn as TimeLeft
from rich.table import Table

from nas.attacking.base import Attack
from nas.cli.bars import Bars
from nas.cli.printing import Terminal


class AttackProgress(Bars):
    """A bar for each attack, with the accuracy so far and the time left."""

    def __init__(self, *, show: bool):
        super().__init__(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
            TextColumn("accuracy {task.fields[accuracy]}"), TimeElapsedColumn(), TextColumn("left"), TimeLeft(),
            show=show,
        )  # fmt: skip
        self._tasks: dict[str, TaskID] = {}

    def update(self, attack: Attack, done: float, samples: int, correct: float) -> None:
        """``done`` of ``samples`` are attacked, and the share ``correct`` withstood; the first call shows the bar."""
        self.start()
        if attack.name not in self._tasks:
            self._tasks[attack.name] = self.progress.add_task(escape(attack.name), total=samples, accuracy="-")
        accuracy = f"{correct:.1%}" if done else "-"
        self.progress.update(self._tasks[attack.name], completed=done, total=samples, accuracy=accuracy)


def print_evaluation(result: dict[str, Any]) -> None:
    """Accuracy under every attack with its interval, then notes and warnings.

    :param result: the object of ``attack.json``.
    """
    console = Terminal()
    images = result["images"]
    title = f"{images['samples']} test images of {images['dataset']}, {result['norm']}, epsilon {result['epsilon']:.5g}"
    table = Table(title=escape(title), title_justify="left")
    for name in ("accuracy", "95 % interval", "correct", "seconds"):
        if name == "accuracy":
            table.add_column("attack", no_wrap=True)
        table.add_column(name, justify="right", no_wrap=True)
    for row in result["attacks"]:
        table.add_row(escape(row["attack"]), *_cells(row), f"{row['seconds']:,.1f}")
    if len(result["attacks"]) > 1:
        table.add_section()
        table.add_row("worst case", *_cells(result["worst_case"]), "")
    console.print(table)
    for line in remarks(result):
        console.say(line)
    console.say(f"model:   {result['model']['checkpoint']}")


def remarks(result: dict[str, Any]) -> list[str]:
    """Notes and warnings, a line each: without them the accuracies would be misread.

    :param result: the object of ``attack.json``.
    """
    notes = [f"note: {row['note']}" for row in result["attacks"] if "note" in row]
    return [*notes, *(f"warning: {sign}" for sign in result["warnings"])]


def _cells(row: dict[str, Any]) -> tuple[str, str, str]:
    low, high = row["interval"]
    return f"{row['accuracy']:.2%}", f"{low:.1%} - {high:.1%}", f"{row['correct']:,}/{row['samples']:,}"
