"""Pruning of an untrained supernet to a single cell, by what each removal costs the robustness proxy.

The rule is the perturbation rule of Wang, Cheng, Chen, Tang, Hsieh: "Rethinking Architecture Selection in
Differentiable NAS", ICLR 2021, https://arxiv.org/abs/2108.04392: for one edge after another, in random order, the
operation whose removal costs most stays. Then, where a node of a cell keeps only some of its edges, those whose removal
costs most stay. Xiang et al.: "Zero-Cost Operation Scoring in Differentiable Architecture Search" (Zero-Cost-PT),
https://arxiv.org/abs/2106.06799, apply the rule to an untrained supernet, with a zero-cost proxy for the accuracy.

As there, the operations of an edge that is not decided have equal weights that sum to 1, a removed operation leaves the
others' weights as they are, and an edge that is decided has the weight 1. Departures from it:

* the proxy is ``robust`` (:func:`proxies.robust.log_robustness`); :mod:`searchers.untrained_supernet` says how it is
  relaxed, and why ``none`` is left out;
* the edges of the normal and of the reduction cell are decided in one common random order, not in turns;
* the score of each removal is averaged over draws of the weights, the same for all removals of a step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from searchers.base import Searcher, check_whole
from searchers.supernet import Step, SupernetSearcher

if TYPE_CHECKING:
    from torch import Tensor

    from search_spaces.cells.supernet import Supernet

G = TypeVar("G")

Weights = dict[str, "Tensor"]


class ZeroCostPruning(SupernetSearcher[G]):
    """Proposes the cell derived after each decision, then the neighbours of the last one.

    A decision is that of an edge about its operation, or of a node about its edges. What is not decided yet is drawn
    from the seed.
    """

    @dataclass(frozen=True, kw_only=True)
    class Options(Searcher.Options):
        """How removals are scored."""

        draws: int = field(default=1, metadata={"help": "draws of the supernet's weights in a step, averaged over"})
        supernet_images: int = field(default=8, metadata={"help": "images of each score of the supernet"})

        def __post_init__(self) -> None:
            for name in ("draws", "supernet_images"):
                check_whole(name, getattr(self, name), 1)

    options: Options

    @property
    def ended(self) -> bool:
        return self.steps >= len(self._decisions)

    def advance(self) -> Step[G]:
        name, edges = self._decisions[self.steps]
        scores = self._decide_operation(name, edges[0]) if len(edges) == 1 else self._decide_edges(name, edges)
        mixing = {name: each / each.sum(-1, keepdim=True) for name, each in self._left.items()}
        strengths = {name: each * self._order[name] * self._kept[name][:, None] for name, each in mixing.items()}
        figures = {"least_log_robustness": min(scores), "most_log_robustness": max(scores)}
        return Step(derived=self.relaxable.derive(strengths), mixing=mixing, figures=figures)

    def _decide_operation(self, name: str, edge: int) -> list[float]:
        """Keep one operation; returns the score after the removal of each."""
        columns = self._left[name][edge].nonzero().flatten().tolist()

        def without(mixing: Weights, column: int) -> None:
            mixing[name][edge, column] = 0.0

        scores = self._scores(without, columns)
        self._left[name][edge] = 0.0
        self._left[name][edge, columns[scores.index(min(scores))]] = 1.0
        return scores

    def _decide_edges(self, name: str, edges: Sequence[int]) -> list[float]:
        """Keep some of the edges into a node; returns the score after the removal of each."""

        def without(mixing: Weights, edge: int) -> None:
            mixing[name][edge] = 0.0

        scores = self._scores(without, edges)
        for index in sorted(range(len(edges)), key=scores.__getitem__)[self._edges_of_node :]:
            self._kept[name][edges[index]] = 0.0
        return scores

    def _scores(self, remove: Callable[[Weights, int], None], candidates: Sequence[int]) -> list[float]:
        """For each candidate, the score of the supernet without it, averaged over the draws."""
        import torch

        from searchers.untrained_supernet import drawn_supernet, relaxed_score

        totals = [0.0] * len(candidates)
        for draw in range(self.options.draws):
            supernet = drawn_supernet(self.relaxable, self.material, self.seed, self.steps, draw)
            for position, candidate in enumerate(candidates):
                mixing = self._mixing()
                remove(mixing, candidate)
                mixing = {name: each.to(self.material.device) for name, each in mixing.items()}
                with torch.no_grad():
                    score = relaxed_score(self.material, supernet, mixing, self.options.supernet_images)
                totals[position] += score.item() / self.options.draws
        return totals

    def _mixing(self) -> Weights:
        """The weights of the operations; those of an edge sum to 1, or are 0 where the edge is removed."""
        return {
            name: left / left.sum(-1, keepdim=True) * self._kept[name][:, None] for name, left in self._left.items()
        }

    @cached_property
    def _layout(self) -> Supernet:
        from searchers.untrained_supernet import drawn_supernet

        return drawn_supernet(self.relaxable, self.material, self.seed)

    @property
    def _edges_of_node(self) -> int:
        """How many edges a node keeps; all, where a derived cell has as many edges as the supernet's."""
        nodes = next(iter(self._layout.groups.values()))
        every = sum(map(len, nodes))
        return every if self.relaxable.derived_edges == every else self.relaxable.derived_edges // len(nodes)

    @cached_property
    def _decisions(self) -> list[tuple[str, list[int]]]:
        """The name of the cell and one edge, or all edges of a node, in the order in which they are decided."""
        rng = np.random.default_rng(self.seed)
        groups = self._layout.groups
        edges = [(name, [edge]) for name, nodes in groups.items() for node in nodes for edge in node]
        nodes = [
            (name, list(node)) for name, each in groups.items() for node in each if len(node) > self._edges_of_node
        ]
        return [edges[i] for i in rng.permutation(len(edges))] + [nodes[i] for i in rng.permutation(len(nodes))]

    @cached_property
    def _order(self) -> Weights:
        """By name of the cell ``(edges, operations)``: nearly 1, drawn from the seed, to decide between equals."""
        import torch

        rng = np.random.default_rng((self.seed, len(self._decisions)))
        return {name: torch.from_numpy(rng.uniform(0.99, 1.0, each.shape)) for name, each in self._left.items()}

    @cached_property
    def _left(self) -> Weights:
        """By name of the cell ``(edges, operations)``: 1 for each operation that is not removed, 0 for the others."""
        from searchers.untrained_supernet import choosable

        return {name: each.float() for name, each in choosable(self._layout).items()}

    @cached_property
    def _kept(self) -> Weights:
        """By name of the cell ``(edges,)``: 1 for each edge that is not removed, 0 for the others."""
        return {name: each.new_ones(len(each)) for name, each in self._left.items()}

    def state_dict(self) -> dict[str, Any]:
        if not self.steps:
            return {**super().state_dict(), "left": None, "kept": None}
        copies = [{name: each.clone() for name, each in part.items()} for part in (self._left, self._kept)]
        return {**super().state_dict(), "left": copies[0], "kept": copies[1]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        if state["left"] is not None:
            for mine, stored in ((self._left, state["left"]), (self._kept, state["kept"])):
                for name, each in mine.items():
                    each.copy_(stored[name])
