"""Constraints on candidates that need no forward pass: operation counts, parameters, multiply-accumulates (MACs).

A requirement is an expression such as ``normal.skip_connect == 2``. It is read by a regular expression, and never
executed as code.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from search_spaces.base import NetworkSpec, SearchSpace, whole_number

G = TypeVar("G")

_COMPARISONS: dict[str, Callable[[int, int], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
}
_EXPRESSION = re.compile(r"\s*(\w+(?:\.\w+)*)\s*(==|!=|<=|>=|<|>)\s*([0-9]{1,9})\s*", re.ASCII)


@dataclass(frozen=True)
class Constraint:
    """A requirement on the count of one operation: ``path comparison value``."""

    path: str
    comparison: str
    value: int

    def __post_init__(self) -> None:
        if self.comparison not in _COMPARISONS:
            raise ValueError(f"comparison must be one of {' '.join(_COMPARISONS)}, got '{self.comparison}'")

    @classmethod
    def parse(cls, text: str) -> Constraint:
        """The inverse of ``str``.

        :raises ValueError: ``text`` cannot be read; the message repeats it.
        """
        match = _EXPRESSION.fullmatch(text)
        if match is None:
            raise ValueError(
                f"requirement {text!r:.80} cannot be read, expected an operation count, one of"
                f" {' '.join(_COMPARISONS)}, and an integer, such as 'normal.skip_connect == 2'"
            )
        return cls(match[1], match[2], int(match[3]))

    def allows(self, count: int) -> bool:
        """Whether an operation count of ``count`` meets the requirement."""
        return _COMPARISONS[self.comparison](count, self.value)

    def __str__(self) -> str:
        return f"{self.path} {self.comparison} {self.value}"


@dataclass(frozen=True, kw_only=True)
class Constraints:
    """The constraints that a candidate must meet to be scored; by default there are none."""

    require: tuple[Constraint, ...] = ()
    max_params: int | None = None
    max_macs: int | None = None

    def __post_init__(self) -> None:
        for name in ("max_params", "max_macs"):
            if getattr(self, name) is not None:
                whole_number(name, getattr(self, name))

    def validate(self, space: SearchSpace[Any]) -> None:
        """Check that ``space`` knows the operation of every requirement.

        :raises ValueError: the path of a requirement is unknown; the message repeats the requirement.
        """
        genotype = space.sample(np.random.default_rng(0))
        for constraint in self.require:
            try:
                space.count(genotype, constraint.path)
            except ValueError as error:
                raise ValueError(f"requirement '{constraint}': {error}") from None

    def violation(self, genotype: G, space: SearchSpace[G], spec: NetworkSpec) -> str | None:
        """A message about the first constraint that ``genotype`` violates; None if it meets all of them.

        Operation counts are checked first, since counting parameters and MACs takes longer.
        """
        for constraint in self.require:
            count = space.count(genotype, constraint.path)
            if not constraint.allows(count):
                return f"{constraint.path} must be {constraint.comparison} {constraint.value}, got {count}"
        if self.max_params is None and self.max_macs is None:
            return None
        cost = space.cost(genotype, spec)
        if self.max_params is not None and cost.params > self.max_params:
            return f"params must be at most {self.max_params:,}, got {cost.params:,}"
        if self.max_macs is not None and cost.macs > self.max_macs:
            return f"macs must be at most {self.max_macs:,}, got {cost.macs:,}"
        return None

    def feasible(self, space: SearchSpace[G], spec: NetworkSpec) -> Callable[[G], bool]:
        """A function that says whether a genotype meets all constraints: a searcher's argument ``feasible``.

        :raises ValueError: the path of a requirement is unknown, as in :meth:`validate`.
        """
        self.validate(space)
        return lambda genotype: self.violation(genotype, space, spec) is None
