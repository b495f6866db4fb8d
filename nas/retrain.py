"""``python -m nas.retrain``: trains the best cells of a search; only the most robust are trained to the last epoch.

From Python::

    from nas.retraining import RetrainConfig, Retrainer

    result = Retrainer(RetrainConfig(run="runs/first", top=5, preset="quick")).run()
    print(result.best["run"])
"""

from __future__ import annotations

if __name__ == "__main__":  # Ctrl-C during the imports that follow
    from nas.cli import interrupts

    interrupts.end_at_once()

import contextlib
import dataclasses
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nas.cli.fields import option
from nas.cli.printing import complain
from nas.errors import UserError
from nas.files import as_path
from nas.retraining.config import RetrainConfig


@dataclass(frozen=True, kw_only=True)
class OutputOptions:
    """Options for what is printed, and whether to resume."""

    resume: str | None = option(
        None, "resume the retraining of --run, or of the run given here; options not given keep their values", const=""
    )
    space: str | None = option(None, "search space of the run, where it is your own: module:Class, which is imported")
    quiet: bool = option(False, "no progress and no table: print the best cell's run directory only")
    json: bool = option(False, "no progress: print the cells as one JSON object")


def _stored(run: Path) -> dict[str, Any]:
    from nas.retraining.retrainer import read_retraining

    return read_retraining(run)


def command(argv: Sequence[str]) -> int:
    """Run the command with its arguments and return the exit code; errors are raised."""
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
    if path is not None and (config.run is None or as_path("run", config.run) != path):
        if any(word.partition("=")[0] == "--run" for word in argv):
            raise UserError(f"--resume {path} and --run {config.run} name two runs, expected one")
        config = dataclasses.replace(config, run=str(path))  # the run directory was moved since
    from nas.retraining.output import RetrainProgress, print_result
    from nas.retraining.retrainer import Retrainer
    from nas.training.progress import plan

    retrainer = Retrainer(config, resume=path is not None, space=space)
    show = not (output.quiet or output.json)
    _, trained, held = retrainer.chosen
    title = plan(retrainer.contenders[0].config, f"{len(retrainer.contenders)} cells", len(trained), len(held))
    with contextlib.redirect_stdout(sys.stderr):  # Ray prints messages of its own to stdout
        with RetrainProgress(config.epochs, show=show, title=title) as bars:
            result = retrainer.run(bars.update)
    if output.json or output.quiet:
        for cell in result.cells:
            if cell["status"] == "failed":
                complain(f"warning: cell-{cell['number']} failed: {cell['error']}")
    if output.json:
        print(json.dumps({"path": str(result.path), "cells": result.cells}))
    elif output.quiet:
        print(result.best["run"])
    else:
        print_result(result, list(result.best["scores"]))
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; the exit code is 0, 1 (no cell could be trained), 2 (wrong usage) or 130 (interrupted)."""
    from nas.cli.running import run_command

    return run_command(command, argv)


if __name__ == "__main__":
    sys.exit(main())
