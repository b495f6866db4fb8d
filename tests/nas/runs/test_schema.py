"""What values a description accepts, and how a message names what is wrong."""

from __future__ import annotations

import math
from typing import Any

import pytest

from nas.runs.schema import (
    COUNT,
    FINITE,
    POSITIVE,
    SWITCH,
    TEXT,
    WHOLE,
    Check,
    by_name,
    each,
    fields,
    maybe,
    one_of,
    plain,
    shown,
)

EPOCH = fields({"epoch": COUNT, "loss": FINITE}, {"note": maybe(TEXT)})


@pytest.mark.parametrize(
    ("check", "values"),
    [
        (WHOLE, (0, 2**63 - 1)),
        (COUNT, (1,)),
        (FINITE, (0, -1.5, 2**63 - 1)),
        (POSITIVE, (0, 0.5)),
        (SWITCH, (True,)),
        (one_of("a", "b"), ("a",)),
        (each(TEXT), ([], ["a"], ("a",))),
        (by_name(maybe(WHOLE)), ({}, {"a": None, "b": 2})),
        (EPOCH, ({"epoch": 1, "loss": 0.5}, {"epoch": 1, "loss": 1, "note": None, "more": object()})),
        (plain, ({"a": [1, 2.5, math.nan, None, True, ("b",)]},)),
    ],
)
def test_what_is_accepted(check: Check, values: tuple[Any, ...]) -> None:
    for value in values:
        check(value, "value")


@pytest.mark.parametrize(
    ("check", "value", "message"),
    [
        (WHOLE, -1, "value -1, expected a whole number from 0"),
        (WHOLE, True, "value True, expected a whole number from 0"),
        (WHOLE, 1.0, "value 1.0, expected a whole number from 0"),
        (WHOLE, 10**400, "value 100000000000000000...0000000000000000000, expected a whole number from 0"),
        pytest.param(WHOLE, 10**5000, "value int of a great length, expected a whole number from 0", id="endless"),
        (COUNT, 0, "value 0, expected a whole number from 1"),
        (FINITE, 10**400, "value 100000000000000000...0000000000000000000, expected a finite number"),
        (FINITE, math.nan, "value nan, expected a finite number"),
        (POSITIVE, math.inf, "value inf, expected a number from 0"),
        (SWITCH, 1, "value 1, expected true or false"),
        (one_of("a", "b"), ["a"], "value ['a'], expected one of a, b"),
        (each(TEXT), "abc", "value 'abc', expected a list"),
        (each(TEXT), ["a", 3], "value[1] 3, expected a text"),
        (by_name(WHOLE), {"a": "b"}, "value['a'] 'b', expected a whole number from 0"),
        (by_name(WHOLE), {3: 3}, "value {3: 3}, expected an object"),
        (EPOCH, {"epoch": 1}, "value.loss is missing"),
        (EPOCH, {"epoch": 1, "loss": 1, "note": 5}, "value.note 5, expected a text"),
        (each(EPOCH), [{"epoch": 0, "loss": 1}], "value[0].epoch 0, expected a whole number from 1"),
        (plain, {"a": {1, 2}}, "value.a {1, 2}, expected a plain value"),
    ],
)
def test_what_is_refused(check: Check, value: Any, message: str) -> None:
    with pytest.raises(ValueError) as error:
        check(value, "value")
    assert str(error.value) == message


def test_what_is_nested_deeply_is_refused_and_shown() -> None:
    value: list[Any] = []
    for _ in range(100_000):
        value = [value]
    with pytest.raises(ValueError, match="value holds more than 30 lists inside each other"):
        plain(value, "value")
    with pytest.raises(ValueError, match=r"value \[\[\[.*, expected a text"):
        TEXT(value, "value")
    assert len(shown("x" * 1000)) <= 60
    while value:  # one by one, or freeing it would need as deep a stack
        value = value[0]
