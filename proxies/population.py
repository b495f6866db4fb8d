"""The contract of proxies that score a network by comparing it with the others of a population."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar, TypeAlias

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn

from proxies.base import Direction, Proxy, ProxyError
from proxies.engine.scoring import scores_of

Scores: TypeAlias = npt.NDArray[np.float64]
Population: TypeAlias = Sequence[nn.Module] | Sequence[Mapping[str, float]]


class PopulationProxy(ABC):
    """Scores each network of a population, from the scores that all of them have by the ``components``.

    Scores from different populations cannot be compared.
    """

    name: ClassVar[str]
    direction: ClassVar[Direction]
    components: tuple[Proxy, ...]

    def combine(self, scores: Mapping[str, npt.ArrayLike]) -> Scores:
        """``(n,)``, float64: the score of each network, in the order of the component scores.

        :param scores: by component name, ``(n,)`` with n of at least 2; other names are ignored.
        :raises ProxyError: a component is missing, the lengths differ, there is only one network, or a score is not
            finite.
        """
        columns: dict[str, Scores] = {}
        for component in self.components:
            if component.name not in scores:
                raise ProxyError(f"{self.name} needs the scores of {component.name}, got {', '.join(scores) or 'none'}")
            columns[component.name] = np.asarray(scores[component.name], dtype=np.float64)
        shapes = {column.shape for column in columns.values()}
        if len(shapes) != 1 or len(next(iter(shapes))) != 1:
            raise ProxyError(f"{self.name} needs one score of each kind for each network, got shapes {sorted(shapes)}")
        (n,) = next(iter(shapes))
        if n < 2:
            raise ProxyError(f"{self.name} compares networks: expected at least 2, got {n}")
        for name, column in columns.items():
            _check_finite(column, name)
        return _check_finite(self._combined(columns), self.name)

    @abstractmethod
    def _combined(self, columns: Mapping[str, Scores]) -> Scores:
        """``(n,)``: the scores, from a finite column ``(n,)`` of each component, with n of at least 2."""


def _check_finite(column: Scores, name: str) -> Scores:
    wrong = np.flatnonzero(~np.isfinite(column))
    if wrong.size:
        raise ProxyError(f"{name} of network {wrong[0]} is {column[wrong[0]]}, expected a finite number")
    return column


def combine_all(
    proxies: Sequence[PopulationProxy],
    population: Population,
    images: Tensor | npt.ArrayLike | None,
    labels: Tensor | npt.ArrayLike | None,
) -> dict[str, Scores]:
    """``(n,)`` by name of the proxy; see :func:`proxies.score_population`."""
    components = {each.name: each for proxy in proxies for each in proxy.components}
    if (images is None or labels is None) and any(isinstance(each, nn.Module) for each in population):
        raise ValueError("expected images and labels to score the networks on, got none")
    rows = [each if isinstance(each, Mapping) else scores_of(each, images, labels, components) for each in population]
    for i, row in enumerate(rows):
        if missing := [name for name in components if name not in row]:
            raise ProxyError(f"network {i} has no score '{missing[0]}', got {', '.join(row) or 'none'}")
    columns = {name: [row[name] for row in rows] for name in components}
    return {proxy.name: proxy.combine(columns) for proxy in proxies}
