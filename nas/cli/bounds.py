"""Checks of the values of options. Their errors name the flag, the value given and the values allowed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from nas.errors import UserError


def flag(name: str) -> str:
    """The flag of a field on the command line."""
    return "--" + name.replace("_", "-")


def whole(name: str, value: Any, least: int = 1) -> None:
    """:raises UserError: ``value`` is not a whole number of at least ``least``."""
    if type(value) is not int:
        raise UserError(f"{flag(name)} must be a whole number, got {value!r:.60}")
    if value < least:
        raise UserError(f"{flag(name)} must be at least {least}, got {value}")


def number(name: str, value: Any, least: float = -math.inf, most: float = math.inf, shown: Any = None) -> None:
    """:raises UserError: ``value`` is not a finite number from ``least`` to ``most``.

    :param shown: the value as the user wrote it, for the message.
    """
    if type(value) not in (int, float) or not math.isfinite(value):
        raise UserError(f"{flag(name)} must be a finite number, got {value!r:.60}")
    if not least <= value <= most:
        bounds = f"from {least:g} to {most:g}" if most < math.inf else f"at least {least:g}"
        raise UserError(f"{flag(name)} must be {bounds}, got {value if shown is None else shown}")


def positive(name: str, value: Any) -> None:
    """:raises UserError: ``value`` is not a finite number above 0."""
    number(name, value)
    if value <= 0:
        raise UserError(f"{flag(name)} must be above 0, got {value}")


def seed(value: Any) -> None:
    """:raises UserError: ``value`` is not a whole number from 0 to 2^63 - 1."""
    if type(value) is not int or not 0 <= value < 2**63:
        raise UserError(f"--seed must be a whole number from 0 to 2^63 - 1, got {value!r:.60}")


def fraction(name: str, value: Any) -> float:
    """The number that ``value`` gives: a number, or a text such as ``8/255``.

    :raises UserError: ``value`` is neither.
    """
    above, slash, below = str(value).partition("/") if isinstance(value, str) else (value, "", "")
    try:
        if type(above) in (int, float, str):
            return float(above) / float(below) if slash else float(above)
    except (ValueError, ZeroDivisionError):
        pass
    raise UserError(f"{flag(name)} must be a number or a fraction such as 8/255, got {value!r:.60}")


def texts(value: Any) -> tuple[str, ...]:
    """The value of a repeatable option as a tuple; ``value`` is one text, several texts, or None for an empty tuple."""
    return (value,) if isinstance(value, str) else tuple(value or ())


def word(name: str, value: Any, allowed: Sequence[str]) -> None:
    """:raises UserError: ``value`` is not one of the words ``allowed``."""
    if value not in allowed:
        raise UserError(f"{flag(name)} must be {' or '.join(allowed)}, got {value!s:.60}")
