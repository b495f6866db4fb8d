"""``python -m nas.attack``: the accuracy of a trained model under attacks.

Writes ``attack.json`` into the run directory, and ``attack-samples.jsonl``, from which an interrupted evaluation is
resumed and a larger one takes what is known. From Python: :func:`nas.attacking.evaluation.evaluate`.
"""

from __future__ import annotations

if __name__ == "__main__":  # Ctrl-C during the imports that follow
    from nas.cli import interrupts

    interrupts.end_at_once()

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nas.attacking.config import AttackConfig
from nas.cli.fields import option, path_option
from nas.files import as_path

if TYPE_CHECKING:
    from search_spaces.base import SearchSpace


@dataclass(frozen=True, kw_only=True)
class OutputOptions:
    """Where the result goes."""

    out: str | None = path_option(None, "folder of attack.json (default: the run directory or the checkpoint's folder)")
    quiet: bool = option(False, "no progress and no table: print a line for each attack, its name and accuracy")
    json: bool = option(False, "no progress and no table: print attack.json's object")


def command(argv: Sequence[str], space: SearchSpace[Any] | None = None) -> int:
    """Run the command.

    :param argv: the words after the name of the program.
    :param space: the search space of the model, where ``argv`` names none.
    :raises UserError: one of the words is wrong.
    """
    from nas.cli.options import parse_options, pick
    from nas.spaces import SpaceOptions, named_space

    argv, named = named_space(argv)
    values = parse_options(
        argv,
        "python -m nas.attack",
        "Attack a trained model: its accuracy on natural images and on those of each attack.",
        (("attack", AttackConfig), ("output", OutputOptions), ("space", SpaceOptions)),
        repeated=("--attack",),
    )
    config, output = pick(AttackConfig, values), pick(OutputOptions, values)
    from nas.attacking.measure import attack
    from nas.attacking.output import AttackProgress, print_evaluation, remarks

    with AttackProgress(show=not (output.quiet or output.json)) as bar:
        out = None if output.out is None else as_path("out", output.out)
        result = attack(config, out, bar.update, space=named or space)
    if output.json:
        print(json.dumps(result))
    elif output.quiet:
        for row in result["attacks"]:
            print(f"{row['attack']} {row['accuracy']:.4f}")
        for line in remarks(result):
            print(line, file=sys.stderr)
    else:
        print_evaluation(result)
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command. Exit codes: 0, 1 (an attack broke its rules), 2 (wrong input), 130 (interrupted)."""
    from nas.cli.running import run_command

    return run_command(command, argv)


if __name__ == "__main__":
    sys.exit(main())
