"""``python -m nas.report RUN``: writes ``RUN/report.html`` and prints its path."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from nas.cli.arguments import Parser
from nas.files import as_path
from nas.report import write_report


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command. The exit code is 0, or 2 after one line on stderr that says what is wrong with the run."""
    from nas.cli.running import run_command

    return run_command(command, arguments)


def command(argv: Sequence[str]) -> int:
    """Write the page of the run that ``argv`` names."""
    parser = Parser(prog="python -m nas.report", description="Writes a run as one HTML page.")
    parser.add_argument("run", metavar="RUN", help="run directory, with manifest.json and trials.jsonl")
    print(write_report(as_path("run", parser.parse_args(argv).run)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
