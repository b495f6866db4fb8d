"""Errors that a command tells in one line: what is the user's to mend (exit code 2), and what stopped the work (1)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

from search_spaces.base import unknown_name

T = TypeVar("T")


class UserError(ValueError):
    """What was wrong, what was got, what was expected, in one line."""


class Stopped(RuntimeError):
    """Work that cannot go on, and why, in one line; what was finished is kept."""


class SearchStopped(Stopped):
    """A search that cannot go on."""


class TrainingStopped(Stopped):
    """A training that cannot go on."""


class AttackFailed(Stopped):
    """An attack gave back what no attack may."""


class ExportFailed(Stopped):
    """A file does not compute what its model does."""


def unknown(kind: str, got: str, valid: Iterable[str]) -> UserError:
    """The error for a name that does not exist, with the nearest valid names first."""
    return UserError(unknown_name(kind, got, valid))


def as_user_error(make: Callable[[], T]) -> T:
    """``make()``; what it finds wrong with an option is the user's to mend."""
    try:
        return make()
    except UserError:
        raise
    except ValueError as error:
        raise UserError(" ".join(str(error).split())) from None
