"""Runs a command: what it raises becomes one line and an exit code."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from nas.cli.interrupts import INTERRUPTED, raised_once
from nas.cli.printing import complain, discard_output, print_any_character
from nas.errors import Stopped, UserError
from nas.executors.failures import machine_failure

USER_ERROR = 2


def run_command(command: Callable[[Sequence[str]], int], argv: Sequence[str] | None = None) -> int:
    """Run ``command`` and return its exit code.

    A user's error is printed as one line on the error stream. SIGTERM and SIGHUP act like Ctrl-C.
    """
    print_any_character()
    try:
        with raised_once():
            return _exit_code(command, sys.argv[1:] if argv is None else argv)
    except KeyboardInterrupt as interrupt:
        complain(str(interrupt) or "interrupted")
        return INTERRUPTED


def _exit_code(command: Callable[[Sequence[str]], int], argv: Sequence[str]) -> int:
    try:
        code = command(argv)
        if sys.stdout is not None:  # None where the output was closed beforehand
            sys.stdout.flush()
        return code
    except UserError as error:
        complain(f"error: {error}")
        return USER_ERROR
    except Stopped as error:
        complain(f"error: {error}")
        return 1
    except BrokenPipeError:  # whoever reads the output has seen enough
        discard_output()
        return 0
    except OSError as error:  # of a file: see nas.files; so this is the output
        complain(f"error: {error.filename or 'the output'} cannot be written: {error.strerror or error}")
        discard_output()
        return 1
    except Exception as error:
        failure = machine_failure(error)
        if failure is None:
            raise
        complain(f"error: {failure}")
        return 1
