from __future__ import annotations

import operator
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search_spaces.base import Cost, NetworkSpec
from searchers.constraints import Constraint, Constraints
from tests.searchers.toy_space import Digits, ToySpace

SPEC = NetworkSpec(channels=10)
CELL = (1, 1, 2, 0, 0, 0, 0, 0)  # params 40, macs 4,000

COMPARISONS: dict[str, Callable[[int, int], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
}


@pytest.mark.parametrize("text", ["normal.skip_connect == 2", "normal.skip_connect==2", "  normal.skip_connect  ==2 "])
def test_parses_with_and_without_spaces(text: str) -> None:
    assert Constraint.parse(text) == Constraint("normal.skip_connect", "==", 2)


@pytest.mark.parametrize("comparison", COMPARISONS)
@given(count=st.integers(0, 20), value=st.integers(0, 20))
def test_compares_as_written(comparison: str, count: int, value: int) -> None:
    constraint = Constraint.parse(f"skip_connect {comparison} {value}")
    assert constraint.allows(count) == COMPARISONS[comparison](count, value)
    assert Constraint.parse(str(constraint)) == constraint


@pytest.mark.parametrize(
    "text",
    [
        "",
        "normal.skip_connect",
        "normal.skip_connect = 2",
        "normal.skip_connect === 2",
        "normal.skip_connect == two",
        "normal.skip_connect == 2.5",
        "normal.skip_connect == -1",
        "normal.skip_connect == 9999999999",
        "normal.skip_connect == 2 and 1",
        "2 == normal.skip_connect",
        "normal..skip == 2",
        "normal. == 2",
        "== 2",
        "__import__('os') == 2",
        "a b == 2",
        "normal.skip_connect == \N{ARABIC-INDIC DIGIT TWO}",
        "a == 2\nb == 3",
    ],
)
def test_other_texts_are_refused_and_repeated(text: str) -> None:
    with pytest.raises(ValueError, match="expected an operation count, one of == != <= >= < >, and an int") as error:
        Constraint.parse(text)
    assert repr(text) in str(error.value)


@given(st.text(max_size=40))
def test_any_text_parses_or_is_a_value_error(text: str) -> None:
    try:
        constraint = Constraint.parse(text)
    except ValueError:
        return
    assert Constraint.parse(str(constraint)) == constraint


def test_an_unknown_comparison_is_refused() -> None:
    with pytest.raises(ValueError, match="comparison must be one of == != <= >= < >, got '=<'"):
        Constraint("skip_connect", "=<", 2)


def constraints(*require: str, max_params: int | None = None, max_macs: int | None = None) -> Constraints:
    return Constraints(require=tuple(map(Constraint.parse, require)), max_params=max_params, max_macs=max_macs)


@pytest.mark.parametrize(
    ("required", "violation"),
    [
        (constraints(), None),
        (constraints("digit.1 == 2", max_params=40, max_macs=4_000), None),
        (constraints("digit.1 == 2", "digit.2 > 1"), "digit.2 must be > 1, got 1"),
        (constraints("digit.1 == 3", "digit.2 > 1"), "digit.1 must be == 3, got 2"),
        (constraints(max_params=39, max_macs=3_999), "params must be at most 39, got 40"),
        (constraints(max_params=40, max_macs=3_999), "macs must be at most 3,999, got 4,000"),
        (constraints("digit.1 != 2", max_params=1), "digit.1 must be != 2, got 2"),
    ],
)
def test_names_the_first_violation_with_its_value(
    space: ToySpace, required: Constraints, violation: str | None
) -> None:
    assert required.violation(CELL, space, SPEC) == violation
    assert required.feasible(space, SPEC)(CELL) == (violation is None)


class Costly(ToySpace):
    def cost(self, genotype: Digits, spec: NetworkSpec) -> Cost:
        raise AssertionError("cost was counted without need")


@pytest.mark.parametrize("required", [constraints("digit.1 == 2"), constraints("digit.1 == 3", max_params=1)])
def test_cost_is_counted_only_where_it_decides(required: Constraints) -> None:
    required.violation(CELL, Costly(), SPEC)


def test_unknown_paths_are_refused_up_front(space: ToySpace) -> None:
    required = constraints("digit.1 == 2", "normal.skip == 2")
    message = r"requirement 'normal.skip == 2': unknown operation 'normal.skip', expected digit.0"
    with pytest.raises(ValueError, match=message):
        required.validate(space)
    with pytest.raises(ValueError, match=message):
        required.feasible(space, SPEC)


def test_limits_below_one_are_refused() -> None:
    with pytest.raises(ValueError, match="max_params must be at least 1, got 0"):
        Constraints(max_params=0)
    with pytest.raises(ValueError, match="max_macs must be at least 1, got 0"):
        Constraints(max_macs=0)
