"""``nas COMMAND ...``: the same as ``python -m nas.COMMAND ...``."""

from __future__ import annotations

import importlib
import sys

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


def main() -> int:
    """Hand the rest of the command line to the command named first."""
    from nas.cli.options import USER_ERROR
    from nas.errors import unknown

    name, *rest = sys.argv[1:] or ["--help"]
    if name in ("-h", "--help"):
        print("usage: nas COMMAND [options]\n")
        print("\n".join(f"  {command:10}{help}" for command, help in COMMANDS.items()))
        print("\n'nas COMMAND --help' lists a command's options.")
        return 0
    if name not in COMMANDS:
        print(f"error: {unknown('command', name, COMMANDS)}", file=sys.stderr)
        return USER_ERROR
    module = "nas.report.__main__" if name == "report" else f"nas.{name}"
    result: int = importlib.import_module(module).main(rest)
    return result


if __name__ == "__main__":
    sys.exit(main())
