"""What values a file may hold: described once, beside the code that writes the file, and checked when it is read.

A description is made of :data:`Check` functions::

    EPOCH = fields({"epoch": WHOLE, "loss": FINITE}, {"note": maybe(TEXT)})
    EPOCH(value, "history[3]")  # ValueError: history[3].loss 'low', expected a finite number
"""

from __future__ import annotations

import math
import reprlib
from collections.abc import Callable, Mapping
from typing import Any

#: function that raises ValueError if its first argument is not what is expected; the second one names it in the message
Check = Callable[[Any, str], None]

MOST = 2**63 - 1  # of a whole number: what every part of this program can compute with, and print
MOST_NESTED = 30  # lists and objects inside each other
MOST_VALUES = 10**6  # in one file


def shown(value: Any) -> str:
    """``value`` for a message, at most 60 characters; it may be nested deeply, or a number of any length."""
    try:
        return f"{_SHORT.repr(value):.60}"
    except (ValueError, RecursionError):
        return f"{type(value).__name__} of a great length"


_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxlong = _SHORT.maxother = 40


def kind(words: str, holds: Callable[[Any], bool]) -> Check:
    """A check of the values that ``holds`` returns True for, which messages call ``words``."""

    def check(value: Any, name: str) -> None:
        if not holds(value):
            raise ValueError(f"{name or 'got'} {shown(value)}, expected {words}")

    return check


def is_number(value: Any) -> bool:
    """Whether it is a float, which may be infinite or NaN, or a whole number that a float can stand for."""
    return type(value) is float or (type(value) is int and abs(value) <= MOST)


WHOLE = kind("a whole number from 0", lambda value: type(value) is int and 0 <= value <= MOST)
COUNT = kind("a whole number from 1", lambda value: type(value) is int and 1 <= value <= MOST)
FINITE = kind("a finite number", lambda value: is_number(value) and math.isfinite(value))
POSITIVE = kind("a number from 0", lambda value: is_number(value) and 0 <= value < math.inf)
TEXT = kind("a text", lambda value: type(value) is str)
SWITCH = kind("true or false", lambda value: type(value) is bool)
OBJECT = kind("an object", lambda value: isinstance(value, dict) and all(type(name) is str for name in value))


def one_of(*words: str) -> Check:
    """A check of a text that is one of ``words``."""
    return kind(f"one of {', '.join(words)}", lambda value: type(value) is str and value in words)


def maybe(check: Check) -> Check:
    """A check of what ``check`` accepts, or None."""

    def checked(value: Any, name: str) -> None:
        if value is not None:
            check(value, name)

    return checked


def each(check: Check) -> Check:
    """A check of a list whose members ``check`` accepts."""

    def checked(value: Any, name: str) -> None:
        if type(value) not in (list, tuple):
            raise ValueError(f"{name} {shown(value)}, expected a list")
        for place, member in enumerate(value):
            check(member, f"{name}[{place}]")

    return checked


def by_name(check: Check) -> Check:
    """A check of an object whose values ``check`` accepts."""

    def checked(value: Any, name: str) -> None:
        OBJECT(value, name)
        for key, member in value.items():
            check(member, f"{name}[{shown(key)}]")

    return checked


def fields(needed: Mapping[str, Check], other: Mapping[str, Check] | None = None) -> Check:
    """A check of an object with the fields ``needed``, and perhaps ``other``; further fields may hold anything."""

    def checked(value: Any, name: str) -> None:
        OBJECT(value, name)
        inside = f"{name}." if name else ""
        for field, check in needed.items():
            if field not in value:
                raise ValueError(f"{inside}{field} is missing")
            check(value[field], inside + field)
        for field, check in (other or {}).items():
            if field in value:
                check(value[field], inside + field)

    return checked


def plain(value: Any, name: str) -> None:
    """A check of plain values: those that JSON has, and tuples; a number and a depth of them that can be handled."""
    left, seen = [(value, name, 0)], 0
    while left:
        member, place, depth = left.pop()
        seen += 1
        if depth > MOST_NESTED or seen > MOST_VALUES:
            limit = f"{MOST_NESTED} lists inside each other" if depth > MOST_NESTED else f"{MOST_VALUES:,} values"
            raise ValueError(f"{name} holds more than {limit}".strip())
        if isinstance(member, dict):
            OBJECT(member, place)
            left += [(each, f"{place}.{key:.40}".lstrip("."), depth + 1) for key, each in member.items()]
        elif type(member) in (list, tuple):
            left += [(each, f"{place}[{number}]", depth + 1) for number, each in enumerate(member)]
        elif type(member) not in (str, bool, type(None)) and not is_number(member):
            raise ValueError(f"{place} {shown(member)}, expected a plain value")
