"""``python -m nas.train``: trains a cell or a hand-crafted network adversarially.

From Python::

    from nas.training import TrainConfig, Trainer

    result = Trainer(TrainConfig(cell="ROBUST_ZCP", preset="quick")).run()
    print(result.best, result.checkpoint)
"""

from __future__ import annotations

if __name__ == "__main__":  # Ctrl-C during the imports that follow
    from nas.cli import interrupts

    interrupts.end_at_once()

import dataclasses
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas.cli.fields import option, path_option
from nas.training.config import TrainConfig

if TYPE_CHECKING:
    from search_spaces.base import SearchSpace


@dataclass(frozen=True, kw_only=True)
class OutputOptions:
    """Options for the output of a training: its directory, and what is printed."""

    out: str | None = path_option(
        None, "run directory, whose folder train is written (default: that of --run, else runs/train-NAME)"
    )
    resume: str | None = option(
        None, "resume the training in --out, or in the directory given here; options not given keep their values",
        const="",
    )  # fmt: skip
    quiet: bool = option(False, "no progress: print the path of the best model only")
    json: bool = option(False, "no progress: print the result as one JSON object")


def _stored(path: Path) -> dict[str, Any]:
    from nas.training.directory import read_training

    return read_training(path)


def _parse(argv: Sequence[str]) -> tuple[TrainConfig, OutputOptions]:
    """The options of the command line; for a resumed training, options not given have their stored values."""
    from nas.cli.options import parse_resumable

    config, output, path = parse_resumable(
        argv,
        "python -m nas.train",
        "Train the best cell of a search, a cell, or a hand-crafted network so that it withstands adversarial images.",
        (("training", TrainConfig), ("output", OutputOptions)),
        (),
        default_out=lambda config: config.run or "",
        read=_stored,
    )
    return config, output if path is None else dataclasses.replace(output, out=str(path))


def command(argv: Sequence[str], space: SearchSpace[Any] | None = None) -> int:
    """Run the command with its arguments and return the exit code; errors are raised.

    :param space: the search space of the cell, where ``argv`` names none.
    """
    from nas.spaces import named_space

    argv, named = named_space(argv)
    config, output = _parse(argv)
    from nas.training.directory import read_training
    from nas.training.progress import TrainProgress, plan, print_result
    from nas.training.trainer import Trainer

    trainer = Trainer(config, out=output.out, resume=output.resume is not None, space=named or space)
    show = not (output.quiet or output.json)
    _, trained, held = trainer.chosen
    title = plan(trainer.config, config.model or f"a {trainer.config.space} cell", len(trained), len(held))
    with TrainProgress(config.epochs, show=show, title=title) as bar:
        result = trainer.run(bar.epoch, bar.step)
    if output.json:
        about: dict[str, Any] = {"run": str(result.path), "checkpoint": str(result.checkpoint)}
        about |= {"train_images": result.train_images, "validation_images": result.validation_images}
        print(json.dumps({**about, "best": result.best, "history": result.history}))
    elif output.quiet:
        print(result.checkpoint)
    else:
        print_result(result, tensorboard=read_training(result.path)["tensorboard"])
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; the exit code is 0, 1 (the training stopped), 2 (wrong usage) or 130 (interrupted)."""
    from nas.cli.running import run_command

    return run_command(command, argv)


if __name__ == "__main__":
    sys.exit(main())
