"""The command line of ``python -m experiments.correlation``: options, progress, what is written and printed."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from experiments.correlation import tables
from experiments.correlation.config import PROGRAM, CorrelationConfig
from nas.cli import check_config_files, join_repeated, make_parser, pick
from nas.config import option
from nas.errors import UserError
from nas.runs import read_manifest


@dataclass(frozen=True, kw_only=True)
class OutputOptions:
    """Where the output goes."""

    out: str | None = option(None, "directory of the output (default: runs/correlation-TABLE)")
    resume: str | None = option(
        None, "go on in --out, or in the directory given here; options not given are those it was begun with", const=""
    )


def parse(argv: Sequence[str]) -> tuple[CorrelationConfig, Path, bool]:
    """Configuration, output directory, and whether to go on in it."""
    words = join_repeated(argv, ("--proxy",))
    parser = make_parser(
        PROGRAM,
        "How well does each proxy predict measured robust accuracy? Rank correlations with bootstrap intervals, beside"
        " the baselines that only count.",
        ("correlation", CorrelationConfig),
        ("output", OutputOptions),
    )
    check_config_files(words, parser.expected)
    values = parser.parse_args(words)
    output = pick(OutputOptions, values)
    if output.resume is None:
        config = pick(CorrelationConfig, values)
        return config, Path(output.out or f"runs/correlation-{config.table}"), False
    if output.resume and output.out and Path(output.resume) != Path(output.out):
        raise UserError(f"--resume {output.resume} and --out {output.out} name two directories, expected one")
    path = Path(output.resume or output.out or f"runs/correlation-{values.table}")
    stored = read_manifest(path)["configuration"]
    known = {field.name for field in dataclasses.fields(CorrelationConfig)}
    parser.set_defaults({name: value for name, value in stored.items() if name in known})
    return pick(CorrelationConfig, parser.parse_args(words)), path, True


class Bar:
    """A bar on the error stream: what is being done, rate and time left."""

    def __init__(self) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=Console(file=sys.stderr),
        )
        self._task = self._progress.add_task("", total=None, rate="", visible=False)
        self._prefix = ""

    def __enter__(self) -> Bar:
        self._progress.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._progress.stop()

    def begin(self, what: str, total: int, done: int = 0) -> None:
        """A new stage of so many steps."""
        self._prefix = what
        self._progress.reset(self._task, total=total, completed=done, description=what, visible=True, rate="")

    def step(self, name: str = "") -> None:
        """One step is done, or, with a name, begins."""
        speed = self._progress.tasks[0].speed
        rate = f"{speed:.2g}/s" if speed else ""
        self._progress.update(self._task, advance=1, rate=rate, description=f"{self._prefix} {name}".strip())


def command(argv: Sequence[str]) -> int:
    """The command's work after the name of the program."""
    config, path, resume = parse(argv)
    from experiments.correlation.experiment import Correlation

    with Bar() as bar:
        result = Correlation(config, path, resume=resume).run(bar)
    console = Console()
    console.print(tables.drawn(result.findings, result.facts))
    for note in tables.notes(result.findings, result.facts):
        console.print(note, highlight=False, markup=False)
    files = "table.md, correlation.csv, correlation.json, correlation.png"
    console.print(f"{files} in {path}", highlight=False, markup=False, soft_wrap=True)
    return 0
