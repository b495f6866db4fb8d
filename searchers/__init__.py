"""Searchers propose which genotype to try next. Each algorithm has its own file, which is imported on demand."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, cast

from search_spaces.base import unknown_name

if TYPE_CHECKING:
    from searchers.base import Searcher

#: Name -> module and class.
SEARCHERS = {
    "random": ("searchers.random_search", "RandomSearch"),
    "regularized_evolution": ("searchers.regularized_evolution", "RegularizedEvolution"),
    "local_search": ("searchers.local_search", "LocalSearch"),
    "bananas": ("searchers.bananas", "Bananas"),
    "nsga2": ("searchers.nsga2", "NSGA2"),
    "successive_halving": ("searchers.successive_halving", "SuccessiveHalving"),
    "darts": ("searchers.darts", "Darts"),
    "zero_shot_gradient": ("searchers.zero_shot_gradient", "ZeroShotGradient"),
    "zero_cost_pruning": ("searchers.zero_cost_pruning", "ZeroCostPruning"),
}


def get_searcher(name: str) -> type[Searcher[Any]]:
    """The class of the searcher ``name``.

    :raises ValueError: the name is unknown; the message lists the known names, the most similar first.
    """
    if name not in SEARCHERS:
        raise ValueError(unknown_name("searcher", name, SEARCHERS))
    module, attribute = SEARCHERS[name]
    return cast("type[Searcher[Any]]", getattr(import_module(module), attribute))
