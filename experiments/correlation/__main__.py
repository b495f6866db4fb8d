"""The command ``python -m experiments.correlation``."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """The exit code is 0, 1 (a worker was lost), 2 (a usage error) or 130 (interrupted)."""
    from experiments.correlation.command import command
    from nas.cli.running import run_command

    return run_command(command, argv)


if __name__ == "__main__":
    sys.exit(main())
