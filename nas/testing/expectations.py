"""How a check says what is wrong."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


def expect(condition: bool, message: str) -> None:
    """:raises AssertionError: with ``message``, where the condition does not hold; also under ``python -O``."""
    if not condition:
        raise AssertionError(message)


def expect_equal(got: Any, expected: Any, what: str) -> None:
    """:raises AssertionError: the two differ."""
    expect(got == expected, f"{what}: got {got!r:.500}, expected {expected!r:.500}")


def expect_close(got: float, expected: float, what: str, tolerance: float = 1e-12) -> None:
    """:raises AssertionError: the two differ by more than ``tolerance``, relative to the expected value."""
    close = abs(got - expected) <= max(tolerance * abs(expected), 1e-12)
    expect(close, f"{what}: got {got!r}, expected {expected!r}")


@contextmanager
def expect_error(kind: type[Exception], pattern: str, what: str) -> Iterator[None]:
    """:raises AssertionError: the block raises no error of this kind whose message has the pattern."""
    try:
        yield
    except kind as error:
        expect(re.search(pattern, str(error)) is not None, f"{what}: got the message {str(error)!r}, not /{pattern}/")
    else:
        raise AssertionError(f"{what}: got no error, expected a {kind.__name__}")


@contextmanager
def during(check: Callable[..., None], on: str) -> Iterator[None]:
    """Inside, an AssertionError is raised again with the names of the check and of what it looks at."""
    try:
        yield
    except AssertionError as error:
        raise AssertionError(f"{check.__name__}, {on}: {error}") from error
