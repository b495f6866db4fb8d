"""Assertions for the conformance suites, which say what was got and what was expected."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


def expect(condition: bool, message: str) -> None:
    """:raises AssertionError: the condition is False. Unlike an assert statement, it also works under ``python -O``."""
    if not condition:
        raise AssertionError(message)


def expect_equal(got: Any, expected: Any, what: str) -> None:
    """:raises AssertionError: ``got`` and ``expected`` differ."""
    expect(got == expected, f"{what}: got {got!r:.500}, expected {expected!r:.500}")


def expect_close(got: float, expected: float, what: str, tolerance: float = 1e-12) -> None:
    """:raises AssertionError: they differ by more than 1e-12 and by more than ``tolerance`` times ``expected``."""
    close = abs(got - expected) <= max(tolerance * abs(expected), 1e-12)
    expect(close, f"{what}: got {got!r}, expected {expected!r}")


@contextmanager
def expect_error(kind: type[Exception], pattern: str, what: str) -> Iterator[None]:
    """:raises AssertionError: the block raises no error of this kind, or its message does not match ``pattern``."""
    try:
        yield
    except kind as error:
        expect(re.search(pattern, str(error)) is not None, f"{what}: got the message {str(error)!r}, not /{pattern}/")
    else:
        raise AssertionError(f"{what}: got no error, expected a {kind.__name__}")


@contextmanager
def during(check: Callable[..., None], on: str) -> Iterator[None]:
    """Raise an AssertionError of the block again, with the name of the check and of the object ``on`` that it tests."""
    try:
        yield
    except AssertionError as error:
        raise AssertionError(f"{check.__name__}, {on}: {error}") from error
