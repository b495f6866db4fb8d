"""Errors that are the user's to mend: one clear line, exit code 2."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

from search_spaces.base import unknown_name

T = TypeVar("T")


class UserError(ValueError):
    """What was wrong, what was got, what was expected, in one line."""


class SearchStopped(RuntimeError):
    """A search that cannot go on, and why; what was finished is kept."""


class TrainingStopped(SearchStopped):
    """A training that cannot go on, and why; the epochs that were finished are kept."""


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
