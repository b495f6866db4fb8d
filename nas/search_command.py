"""The command line of ``python -m nas.search``: options, output, what is printed."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nas.config import SearchConfig, option

if TYPE_CHECKING:
    from nas.search import SearchResult
    from search_spaces.base import SearchSpace


@dataclass(frozen=True, kw_only=True)
class OutputOptions:
    """Where a search's output goes."""

    out: str | None = option(None, "run directory (default: runs/SPACE-SEARCHER-seedN, with a number if it exists)")
    resume: str | None = option(
        None, "go on with the run in --out, or in the directory given here; options not given are the run's", const=""
    )
    quiet: bool = option(False, "no progress and no table: print the best genotype only")
    json: bool = option(False, "no table: print the result as one JSON object")
    no_report: bool = option(False, "write no report.html")


def _parse(argv: Sequence[str]) -> tuple[SearchConfig, OutputOptions]:
    """Options from the command line; those of a resumed run are its manifest's unless given."""
    from nas.cli import parse_resumable

    config, output, path = parse_resumable(
        argv,
        "python -m nas.search",
        "Search a cell space for the cell whose untrained network a zero-cost proxy ranks best, or a table of measured"
        " accuracies for its best cell.",
        (("search", SearchConfig), ("output", OutputOptions)),
        ("--proxy", "--require"),
    )
    return config, output if path is None else dataclasses.replace(output, out=str(path))


def command(argv: Sequence[str]) -> int:
    """The command's work after the name of the program."""
    config, output = _parse(argv)
    from nas import progress
    from nas.search import Search

    options = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    search = Search(
        options.pop("space"), options.pop("searcher"), options.pop("proxy"),
        out=output.out, resume=output.resume is not None, report=not output.no_report, **options,
    )  # fmt: skip
    source = search.source
    bar = progress.SearchProgress(
        config.budget, source.fitness, source.names, search.executor.status, show=not (output.quiet or output.json)
    )
    with contextlib.redirect_stdout(sys.stderr), bar:  # Ray prints on its own when a worker dies
        result = search.run(watch=bar.update)
    if output.json:
        print(json.dumps(result_to_json(result, source.space)))
    elif output.quiet:
        print(source.space.format(result.best.genotype))
    else:
        progress.print_result(result, source, search.config)
    return 0


def result_to_json(result: SearchResult, space: SearchSpace[Any]) -> dict[str, Any]:
    """What ``--json`` prints."""
    from nas.search import best_to_json

    return {
        "run": str(result.path),
        "report": None if result.report is None else str(result.report),
        "best": best_to_json(result.best, space),
        "top": [best_to_json(trial, space) for trial in result.top],
        "summary": result.summary,
    }
