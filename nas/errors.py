"""Errors that a command prints in one line: those the user can correct (exit code 2), and those that stop work (1)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

from search_spaces.base import unknown_name

T = TypeVar("T")


class UserError(ValueError):
    """An error that the user can correct: one line that says what is wrong, what was got, and what was expected."""


class Unwritable(UserError):
    """A file or folder cannot be written: a fault of the disk or its rights, never of a candidate."""


class Stopped(RuntimeError):
    """Work cannot continue; one line says why. Results that were finished before are kept."""


class SearchStopped(Stopped):
    """A search cannot continue."""


class MachineFailed(Stopped):
    """The machine failed: its disk, a device, the workers. What was being computed has no result, not a failed one."""


class OutOfMemory(MachineFailed):
    """Memory, or what threads need, ran out; it may suffice for less at a time."""


class TrainingStopped(Stopped):
    """A training cannot continue."""


class AttackFailed(Stopped):
    """An attack returned images outside of the epsilon ball or of [0, 1]."""


class ExportFailed(Stopped):
    """An exported file does not compute the same as its model."""


def unknown(kind: str, got: str, valid: Iterable[str]) -> UserError:
    """The error for an unknown name; the message lists the valid names, the most similar first."""
    return UserError(unknown_name(kind, got, valid))


def as_user_error(make: Callable[[], T]) -> T:
    """The result of ``make()``.

    :raises UserError: ``make`` raised a ValueError; the message is the same, in one line.
    """
    try:
        return make()
    except UserError:
        raise
    except ValueError as error:
        raise UserError(" ".join(str(error).split())) from None
