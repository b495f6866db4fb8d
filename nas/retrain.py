"""``python -m nas.retrain``: the best cells of a search trained side by side, and the best of them to the end.

From Python::

    from nas.retraining import RetrainConfig, Retrainer

    result = Retrainer(RetrainConfig(run="runs/first", top=5, preset="quick")).run()
    print(result.best["run"])
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nas.cli.fields import option
from nas.errors import UserError
from nas.retraining.config import RetrainConfig


@dataclass(frozen=True, kw_only=True)
class OutputOptions:
    """What is shown, and whether to go on."""

    resume: str | None = option(
        None, "go on with the retraining of --run, or of the run given here; options not given are its own", const=""
    )
    space: str | None = option(None, "search space of the run, where it is your own: module:Class, which is imported")
    quiet: bool = option(False, "no progress and no table: print the best cell's run directory only")
    json: bool = option(False, "no progress: print the cells as one JSON object")


def _stored(run: Path) -> dict[str, Any]:
    from nas.retraining.retrainer import read_retraining

    return read_retraining(run)


def command(argv: Sequence[str]) -> int:
    """The command's work after the name of the program."""
    from nas.cli.options import parse_resumable
    from nas.spaces import named_space

    argv, space = named_space(argv)
    config, output, path = parse_resumable(
        argv,
        "python -m nas.retrain",
        "Train the best cells of a search side by side; those that fall behind in robust accuracy are stopped early.",
        (("retraining", RetrainConfig), ("output", OutputOptions)),
        (),
        default_out=lambda config: config.run or "",
        read=_stored,
    )
    if path is not None and Path(config.run or "") != path:
        if any(word.partition("=")[0] == "--run" for word in argv):
            raise UserError(f"--resume {path} and --run {config.run} name two runs, expected one")
        config = dataclasses.replace(config, run=str(path))  # it was moved
    from nas.retraining.output import RetrainProgress, print_result
    from nas.retraining.retrainer import Retrainer
    from nas.training.progress import plan

    retrainer = Retrainer(config, resume=path is not None, space=space)
    show = not (output.quiet or output.json)
    title = plan(retrainer.contenders[0].config, f"{len(retrainer.contenders)} cells")
    with contextlib.redirect_stdout(sys.stderr):  # Ray prints on its own
        with RetrainProgress(config.epochs, show=show, title=title) as bars:
            result = retrainer.run(bars.update)
    if output.json:
        print(json.dumps({"path": str(result.path), "cells": result.cells}))
    elif output.quiet:
        print(result.best["run"])
    else:
        print_result(result, list(result.best["scores"]))
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; the exit code is 0, 1 (no cell could be trained), 2 (a user's slip) or 130 (interrupted)."""
    from nas.cli.options import run_command

    return run_command(command, argv)


if __name__ == "__main__":
    sys.exit(main())
