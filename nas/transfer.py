"""``python -m nas.transfer``: how well adversarial images made on one model deceive another."""

from __future__ import annotations

if __name__ == "__main__":  # Ctrl-C during the imports that follow
    from nas.cli import interrupts

    interrupts.end_at_once()

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from nas.attacking.transfer import TransferConfig, transfer
from nas.cli.fields import option, path_option
from nas.files import as_path


@dataclass(frozen=True, kw_only=True)
class OutputOptions:
    """Where the result goes."""

    out: str = path_option("runs/transfer", "directory of transfer.json, transfer.csv and transfer.png")
    quiet: bool = option(False, "no progress and no table")
    json: bool = option(False, "no progress and no table: print transfer.json's object")


def command(argv: Sequence[str]) -> int:
    """Run the command.

    :param argv: the words after the name of the program.
    :raises UserError: one of them is wrong.
    """
    from nas.cli.options import parse_options, pick
    from nas.spaces import SpaceOptions, named_space

    argv, space = named_space(argv)
    values = parse_options(
        argv,
        "python -m nas.transfer",
        "Make adversarial images on each model and show them to every other one.",
        (("models and attack", TransferConfig), ("output", OutputOptions), ("space", SpaceOptions)),
        repeated=("--model",),
    )
    config, output = pick(TransferConfig, values), pick(OutputOptions, values)
    from nas.attacking.transfer_output import TransferProgress, print_matrix

    with TransferProgress(show=not (output.quiet or output.json)) as bar:
        result = transfer(config, as_path("out", output.out), bar.update, space=space)
    if output.json:
        print(json.dumps(result))
    elif not output.quiet:
        print_matrix(result, output.out)
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command. Exit codes: 0, 1 (an attack broke its rules), 2 (wrong input), 130 (interrupted)."""
    from nas.cli.running import run_command

    return run_command(command, argv)


if __name__ == "__main__":
    sys.exit(main())
