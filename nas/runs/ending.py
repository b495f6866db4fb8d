"""How a run ends before it is finished: what its manifest says then, and what the user is told."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from nas.cli.interrupts import under_way
from nas.errors import Unwritable, UserError
from nas.executors.failures import machine_failure
from nas.files import kind


def next_step(manifest: Path, reached: str, command: str) -> str:
    """What was reached and the command that goes on; or that nothing is left, where somebody has removed the run."""
    if kind(manifest) is None:
        return f"and nothing of it is left in {manifest.parent}"
    return f"after {reached}; to go on: {command}"


@contextmanager
def noted(note: Callable[[str], None], how_to_go_on: Callable[[], str]) -> Iterator[None]:
    """If the work inside ends early, its status is noted, and the error says how to go on where that is possible.

    It is ``interrupted`` after Ctrl-C, where the machine has failed, and where a file cannot be written; otherwise
    ``failed``. A status that cannot be written either is left as it is: the error that is raised says more.

    :param note: writes a status to the run's manifest.
    :param how_to_go_on: what was reached, and the command that goes on; it follows the message.
    :raises MachineFailed: the work has raised an error that is the machine's fault.
    """
    with under_way():
        try:
            yield
        except SystemExit:  # Ray Tune ends the thread of a trial so, also one that is finished
            raise
        except BaseException as error:
            stop = error if isinstance(error, KeyboardInterrupt | Unwritable) else machine_failure(error)
            with suppress(UserError):
                note("failed" if stop is None else "interrupted")
            if stop is None:
                raise
            said = "interrupted" if isinstance(stop, KeyboardInterrupt) else f"{stop}; stopped"
            raise type(stop)(f"{said} {how_to_go_on()}") from None
