"""The command line of ``python -m experiments.correlation``: options, progress, what is written and printed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from experiments.correlation import tables
from experiments.correlation.config import PROGRAM, CorrelationConfig
from nas.cli.bars import Bars
from nas.cli.fields import option, path_option
from nas.cli.options import parse_resumable
from nas.cli.printing import Terminal, complain
from nas.files import as_path


@dataclass(frozen=True, kw_only=True)
class OutputOptions:
    """Where the output goes."""

    out: str | None = path_option(None, "directory of the output (default: runs/correlation-TABLE)")
    resume: str | None = option(
        None, "go on in --out, or in the directory given here; options not given are those it was begun with", const=""
    )


def parse(argv: Sequence[str]) -> tuple[CorrelationConfig, Path, bool]:
    """Configuration, output directory, and whether to resume the run in it."""
    config, output, path = parse_resumable(
        argv,
        PROGRAM,
        "How well does each proxy predict measured robust accuracy? Rank correlations with bootstrap intervals, beside"
        " the baselines that only count.",
        (("correlation", CorrelationConfig), ("output", OutputOptions)),
        ("--proxy",),
        default_out,
        _stored,
    )
    return config, path or as_path("out", default_out(config) if output.out is None else output.out), path is not None


def _stored(path: Path) -> dict[str, Any]:
    from experiments.correlation.experiment import read_correlation

    return read_correlation(path)


def default_out(config: CorrelationConfig) -> str:
    """The output directory if none is given."""
    return f"runs/correlation-{config.table}"


class Bar(Bars):
    """A progress bar on the error stream, with the current stage, the rate and the time left."""

    def __init__(self) -> None:
        super().__init__(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            show=True,
        )
        self._task = self.progress.add_task("", total=None, rate="", visible=False)
        self._prefix = ""

    def __exit__(self, *exception: object) -> None:
        if exception[0] is None:
            self.progress.update(self._task, description=self._prefix)
        super().__exit__(*exception)

    def begin(self, what: str, total: int, done: int = 0) -> None:
        """Start a stage of ``total`` steps, ``done`` of which are finished already."""
        self.start()
        self._prefix = what
        self.progress.reset(self._task, total=total, completed=done, description=what, visible=True, rate="")

    def warn(self, text: str) -> None:
        """Print what changes the meaning of the result, before hours are spent on it."""
        complain(f"warning: {text}")

    def step(self, name: str = "") -> None:
        """Advance by one step; ``name``, if given, is shown as the item in progress."""
        speed = self.progress.tasks[0].speed
        rate = f"{speed:,.{0 if speed >= 10 else 2}f}/s" if speed else ""
        self.progress.update(self._task, advance=1, rate=rate, description=f"{self._prefix} {name}".strip())


def command(argv: Sequence[str]) -> int:
    """Runs the command with the arguments after the program's name; returns the exit code."""
    config, path, resume = parse(argv)
    from experiments.correlation.experiment import FILES, Correlation

    with Bar() as bar:
        result = Correlation(config, path, resume=resume).run(bar)
    console = Terminal()
    console.print(tables.drawn(result.findings, result.facts))
    for note in tables.notes(result.findings, result.facts):
        console.print(note, highlight=False, markup=False)
    files = ", ".join(FILES)
    console.say(f"{files} in {path}")
    return 0
