"""Checks of the values of options. Their errors name the flag, the value given and the values allowed."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any

from nas.errors import UserError, as_user_error
from search_spaces import base


def flag(name: str) -> str:
    """The flag of a field on the command line."""
    return "--" + name.replace("_", "-")


#: Upper bounds of whole numbers, by option: far above what is used, and far below what fills a memory. Others: 10^9.
MOST = {
    **base.MOST,
    "threads": 4096, "workers": 4096, "candidates_per_step": 10**6, "latency_batch": 10**4,
    "max_params": 10**18, "max_macs": 10**18,
}  # fmt: skip


def whole(name: str, value: Any, least: int = 1) -> None:
    """:raises UserError: ``value`` is not a whole number from ``least`` to the upper bound of the option."""
    as_user_error(lambda: base.whole_number(flag(name), value, least, MOST.get(name, 10**9)))


def number(name: str, value: Any, least: float = -math.inf, most: float = math.inf, shown: Any = None) -> None:
    """:raises UserError: ``value`` is not a finite number from ``least`` to ``most``.

    :param shown: the value as the user wrote it, for the message.
    """
    if not _is_number(value) or not abs(value) <= sys.float_info.max:
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
    if not isinstance(value, Integral) or isinstance(value, bool) or not 0 <= int(value) < 2**63:
        got = "a larger one" if isinstance(value, int) and value >= 2**200 else f"{value!r:.60}"
        raise UserError(f"--seed must be a whole number from 0 to 2^63 - 1, got {got}")


def fraction(name: str, value: Any) -> float:
    """The number that ``value`` gives: a number, or a text such as ``8/255``.

    :raises UserError: ``value`` is neither.
    """
    above, slash, below = str(value).partition("/") if isinstance(value, str) else (value, "", "")
    try:
        if isinstance(above, str) or _is_number(above):
            return float(above) / float(below) if slash else float(above)
    except (ValueError, ArithmeticError):
        pass
    raise UserError(f"{flag(name)} must be a number or a fraction such as 8/255, got {value!r:.60}")


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def texts(value: Any) -> tuple[str, ...]:
    """The value of a repeatable option as a tuple; ``value`` is one text, several texts, or None for an empty tuple."""
    return (value,) if isinstance(value, str) else tuple(value or ())


def word(name: str, value: Any, allowed: Sequence[str]) -> None:
    """:raises UserError: ``value`` is not one of the words ``allowed``."""
    if value not in allowed:
        raise UserError(f"{flag(name)} must be {' or '.join(allowed)}, got {value!s:.60}")
