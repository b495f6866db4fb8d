"""``nas COMMAND ...``: the same as ``python -m nas.COMMAND ...``."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

#: command -> what it does
COMMANDS = {
    "search": "search a space for the cell that a proxy ranks best",
    "train": "train the best cell adversarially",
    "retrain": "train the best cells side by side, and the best of them to the end",
    "attack": "measure what a trained model withstands",
    "transfer": "show adversarial images made on one model to others",
    "export": "write a trained model for other programs",
    "report": "write a run's report.html again",
}


def script() -> int:
    """The console script ``nas``: :func:`main`, where Ctrl-C during its imports ends in one line."""
    from nas.cli import interrupts

    interrupts.end_at_once()
    return main()


def main() -> int:
    """Hand the rest of the command line to the command named first."""
    name, *rest = sys.argv[1:] or ["--help"]
    if name in COMMANDS:
        module = "nas.report.__main__" if name == "report" else f"nas.{name}"
        result: int = importlib.import_module(module).main(rest)
        return result
    from nas.cli.running import run_command

    return run_command(_help, [name])


def _help(argv: Sequence[str]) -> int:
    """Print the commands; :raises UserError: ``argv`` names an unknown one."""
    from nas.errors import unknown

    if argv[0] not in ("-h", "--help"):
        raise unknown("command", argv[0], COMMANDS)
    print("usage: nas COMMAND [options]\n")
    print("\n".join(f"  {command:10}{help}" for command, help in COMMANDS.items()))
    print("\n'nas COMMAND --help' lists a command's options.")
    return 0


if __name__ == "__main__":
    sys.exit(script())
