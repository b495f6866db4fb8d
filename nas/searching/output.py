"""What a search prints: the progress bar and the table of the best cells."""

from __future__ import annotations

import math
import shlex
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from nas.cli.bars import Bars
from nas.cli.printing import Terminal
from nas.runs.architecture import cautions, read_steps
from nas.searching.config import SearchConfig
from search_spaces import SPACES
from searchers.base import Objectives, Trial
from searchers.fronts import spread
from searchers.objectives import rank

if TYPE_CHECKING:
    from nas.searching.score_source import ScoreSource
    from nas.searching.search import SearchResult
    from search_spaces.base import SearchSpace


#: time between two updates of the bar
DRAW_SECONDS = 0.1
MOST_OF_FRONT = 20  # cells in the table


class StatusColumn(ProgressColumn):
    """The current status of the executor, in its own words."""

    def __init__(self, status: Callable[[], str]):
        super().__init__()
        self._status = status

    def render(self, task: Task) -> Text:
        return Text(self._status())


class SearchProgress(Bars):
    """A bar with rate, best score and time left; :meth:`update` is to be called with each finished trial."""

    def __init__(
        self, budget: int, objectives: Objectives, names: Sequence[str], status: Callable[[], str], *, show: bool
    ):
        super().__init__(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            *([TextColumn("best {task.fields[best]}")] if len(names) == 1 else []),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            StatusColumn(status),
            show=show,
        )
        self._task = self.progress.add_task("searching", total=budget, rate="", best="-")
        self._objectives = objectives
        self._score = names[0] if len(names) == 1 else None
        self._show = show
        self._best: Trial[Any] | None = None
        self._unseen: list[Trial[Any]] = []  # finished since the bar was last drawn
        self._drawn = float("-inf")
        self._failed = 0
        self._comparing: TaskID | None = None

    def __exit__(self, *exception: object) -> None:
        if self.started:
            self._draw()
        super().__exit__(*exception)

    def update(self, trial: Trial[Any]) -> None:
        """Count one finished trial. The first call shows the bar."""
        self.start()
        self._unseen.append(trial)
        if self._show and time.monotonic() - self._drawn >= DRAW_SECONDS:
            self._draw()

    def compared(self, trial: Trial[Any], total: int) -> None:
        """Count one of the cells that the winner is compared with, on a bar of its own."""
        if self._comparing is None:
            self._comparing = self.progress.add_task("comparing", total=total, rate="", best="-")
        self.progress.advance(self._comparing)

    def _draw(self) -> None:
        """Update the bar with all trials finished since the last update.

        They are taken together, since a resumed search begins with all its stored trials at once.
        """
        advance, self._drawn = len(self._unseen), time.monotonic()
        self._failed += sum(trial.status == "failed" for trial in self._unseen)
        contenders = [trial for trial in self._unseen if trial.ranked]
        self._unseen = []
        if contenders and self._score is not None:
            contenders += [self._best] if self._best is not None else []
            (self._best,) = rank(contenders, self._objectives, 1)
        best = "-" if self._best is None or self._score is None else format_score(self._best.scores[self._score])
        speed = self.progress.tasks[0].speed
        rate = f"{speed:.2f}/s" if speed else ""
        if self._failed:
            rate += f" [red]{self._failed} failed[/red]"
        self.progress.update(self._task, advance=advance, best=best, rate=rate)


def format_score(score: float) -> str:
    """Six significant digits; whole numbers in full."""
    return f"{score:,.0f}" if score == math.floor(score) and abs(score) < 1e15 else f"{score:.6g}"


def print_result(result: SearchResult, source: ScoreSource, config: SearchConfig) -> None:
    """Print the best cells as a table, then the counts of the search and the paths of the run and its report.

    With several objectives these are the cells of the front, at most ``MOST_OF_FRONT`` of them.
    """
    console = Terminal()
    several = len(source.directions) > 1
    shown = spread(result.front, source.directions, MOST_OF_FRONT, result.best.id) if several else result.top
    columns = {name: [format_score(trial.scores[name]) for trial in shown] for name in source.shown}
    columns["params"] = [f"{trial.params:,}" for trial in shown]  # replaces a score of this name
    columns["MACs"] = [f"{trial.macs / 1e6:#.3g} M".replace(". M", " M") for trial in shown]
    kind = f"front of {len(result.front)} cells among" if several else "best of"
    table = Table(title=f"{kind} {result.summary['trials']} {config.space} cells", title_justify="left")
    table.add_column("", justify="right", min_width=1)
    for head, column in columns.items():
        options_below = head.replace("(", "\n(", 1)
        table.add_column(options_below, justify="right", min_width=max(map(len, column)), overflow="fold")
    named = "knee" if several else "best"
    places = [named if trial.id == result.best.id else str(place) for place, trial in enumerate(shown, start=1)]
    for place, row in zip(places, zip(*columns.values(), strict=True), strict=True):
        table.add_row(place if several or place != named else "1", *row)
    console.print(table)
    cells = [source.space.format(trial.genotype) for trial in shown]  # not wrapped, to be copied
    lines = [f"{f'{place}:':7} {cell}" for place, cell in zip(places, cells, strict=True)]
    for line in [*lines, *_about(result, source, len(shown)), *_notes(result, config, source.space)]:
        console.say(line)


def _about(result: SearchResult, source: ScoreSource, shown: int) -> list[str]:
    """What the rows are, and in which order."""
    lines = [f"table:  {source.about}"] if source.about else []
    if len(source.directions) > 1:
        goals = " and ".join(f"{direction} {name}" for name, direction in source.directions.items())
        left = f"; {len(result.front) - shown} more in front.json" if shown < len(result.front) else ""
        lines.append(f"rows:   {goals}: no candidate is better by all; the knee is the best compromise{left}")
    elif source.directions:
        lines.append(f"rows:   by {next(iter(source.directions))}")
    elif len(source.shown) > 1:
        lines.append("rows:   by the mean rank of the scores, each in its own direction")
    return lines + [f"{each.proxy} compares the candidates of this run" for each in source.relative]


def _notes(result: SearchResult, config: SearchConfig, space: SearchSpace[Any]) -> list[str]:
    counts = result.summary
    numbers = [f"{value} {name}" for name in ("channels", "layers") if (value := getattr(config, name)) is not None]
    notes = [f"parameters and MACs at {', '.join(numbers)}"] if numbers else []
    rejected = "draws rejected by the constraints" + (" or missing from the table" if config.table else "")
    told = {"failed": "failed", "reused": "met again, scored once", "rejected": rejected}
    reduced = sum(trial.fidelity < 1 for trial in result.trials)
    notes += [f"{reduced:,} scored at a reduced size and not ranked"] if reduced else []
    notes += [f"{counts[name]:,} {words}" for name, words in told.items() if counts[name]]
    lines = [", ".join(notes)] if notes else []
    steps = read_steps(result.path)
    lines += cautions(steps)
    if steps and steps[-1]["cell"] != space.format(result.best.genotype):
        cell = steps[-1]["cell"]
        lines.append(f"derived: after the last step, not the best by score; nas.train --cell trains it: {cell}")
    if result.comparison is not None:
        lines += [f"beside: {sentence}" for sentence in result.comparison.sentences]
    lines.append(f"run:    {result.path}")
    lines += [f"report: {result.report}"] if result.report else []
    if config.table is None:
        kind = type(space)
        own = f" --space {kind.__module__}:{kind.__qualname__}" if config.space not in SPACES else ""
        lines.append(
            f"next:   python -m nas.train --run {shlex.quote(str(result.path))}{own}  (until then the score is a guess)"
        )
    return lines
