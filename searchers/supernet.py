"""What the searchers that work on a supernet share.

This module does not import torch itself, so that the command line can list the options of all searchers at once.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

import numpy as np

from search_spaces.base import NetworkSpec, Relaxable, SearchSpace
from searchers.base import MAX_DRAWS, Objectives, Searcher, Trial

if TYPE_CHECKING:
    import torch
    from torch import Tensor

G = TypeVar("G")


@dataclass(frozen=True, kw_only=True, eq=False)
class Material:
    """What a searcher with a supernet computes with.

    ``images`` are the training images, uint8 ``(N, C, H, W)`` in 0..255, with ``labels`` ``(N,)``. ``probe_images``,
    float ``(n, C, H, W)`` in [0, 1], and ``probe_labels`` are the batch on which candidates are scored. ``budget`` is
    the number of candidates of the whole search.

    ``log_robustness`` is the score of the proxy ``robust`` as a differentiable function: network, images, labels and,
    by the keyword ``params``, the number of parameters to divide by -> a scalar, higher is more robust. The network may
    be any callable module; gradients reach what its output depends on.
    """

    spec: NetworkSpec
    images: Tensor
    labels: Tensor
    probe_images: Tensor
    probe_labels: Tensor
    device: torch.device
    budget: int
    log_robustness: Callable[..., Tensor]


@dataclass(frozen=True, kw_only=True, eq=False)
class Step(Generic[G]):
    """What one step has come to: the derived cell and the architecture weights that it was derived from.

    ``mixing`` holds, by the name of the cell, the weights ``(edges, operations)`` after the softmax, each row of sum 1.
    ``figures`` holds what else is known of the step, such as ``train_loss``.
    """

    derived: G
    mixing: Mapping[str, Tensor]
    figures: Mapping[str, float] = field(default_factory=dict)


class SupernetSearcher(Searcher[G]):
    """Proposes the cell that its supernet stands for after each step, and when it has ended, that cell's neighbours.

    A step is an epoch of a training, or a step without one. It depends on the seed, the number of the step and the
    state before it only: nothing else is random. A derived cell that violates the constraints is mutated until it meets
    them. After the last step come the neighbours of the last derived cell in random order, each once, those known left
    out, and then cells that several mutations separate from it.

    ``records`` holds one record for each step taken, as plain values: see :meth:`_record`. They are part of the state.
    """

    step: ClassVar[int] = 1
    needs_material: ClassVar[bool] = True

    def __init__(
        self,
        space: SearchSpace[G],
        *,
        seed: int,
        objectives: Objectives,
        feasible: Callable[[G], bool] | None = None,
        max_draws: int = MAX_DRAWS,
        options: Searcher.Options | None = None,
        start: Sequence[G] = (),
        material: Callable[[], Material],
    ):
        super().__init__(
            space,
            seed=seed,
            objectives=objectives,
            feasible=feasible,
            max_draws=max_draws,
            options=options,
            start=start,
        )
        if not isinstance(space, Relaxable):
            raise ValueError(f"{type(self).__name__} needs a space with a supernet, got {space.name}")
        self.relaxable: Relaxable[G] = space
        self.steps = 0  # steps taken
        self.proposals = 0  # candidates proposed since the last step
        self.derived: G | None = None  # after the last step
        self.records: list[dict[str, Any]] = []
        self._material = material
        self._known: set[str] = set()  # keys of all trials told
        self._asked: list[G] = []  # proposals since the last trial told

    @cached_property
    def material(self) -> Material:
        """What to compute with. The first access reads the images."""
        return self._material()

    @property
    @abstractmethod
    def ended(self) -> bool:
        """Whether the last step has been taken."""

    @abstractmethod
    def advance(self) -> Step[G]:
        """Take step number ``steps`` (from 0)."""

    def ask(self, n: int) -> list[G]:
        while len(self._asked) < n:
            self._asked.append(self._propose())
        return self._asked[:n]

    def observe(self, trial: Trial[G]) -> None:
        self._known.add(trial.key)
        self._asked = []

    def _propose(self) -> G:
        if not self.ended:
            step = self.advance()
            self.derived = step.derived
            self.steps += 1
            self.records.append(self._record(step))
            self.proposals = 0
            return self._near(self.derived, (self.seed, self.steps))
        self.proposals += 1
        assert self.derived is not None  # at least one step was taken
        return self._neighbour(self.derived)

    def _record(self, step: Step[G]) -> dict[str, Any]:
        """One line of ``architecture.jsonl``, for the step that was just counted.

        ``entropy`` is the mean over the edges of all cells, in nats. ``skip_connections`` are those of the first cell,
        which has so many ``edges``; ``collapsed`` says whether they are more than half of them.
        """
        skips = self.space.count(step.derived, f"{next(iter(step.mixing))}.skip_connect")
        entropies = [-weights.xlogy(weights).sum(-1) for weights in step.mixing.values()]
        edges = sum(map(len, entropies))
        return {
            "step": self.steps,
            "cell": self.space.format(step.derived),
            "skip_connections": skips,
            "edges": self.relaxable.derived_edges,
            "collapsed": 2 * skips > self.relaxable.derived_edges,
            "entropy": round(sum(float(each.sum()) for each in entropies) / edges, 6),
            "weights": {
                name: [[round(weight, 6) for weight in row] for row in weights.tolist()]
                for name, weights in step.mixing.items()
            },
            **step.figures,
        }

    def _near(self, genotype: G, seed: tuple[int, ...]) -> G:
        """``genotype``, or where it is infeasible, the first feasible cell of a walk of mutations from it."""
        rng, here = np.random.default_rng(seed), [genotype]

        def walk() -> G:
            here.append(here[-1] if len(here) == 1 else self.space.mutate(here[-1], rng))
            return here[-1]

        return self.draw(walk)

    def _neighbour(self, genotype: G) -> G:
        asked = {self.space.canonical(each) for each in self._asked}
        for neighbour in self._shuffled(genotype):
            if self.space.canonical(neighbour) not in self._known | asked:
                if self.feasible is None or self.feasible(neighbour):
                    return neighbour
                self.rejected += 1
        return self._near(
            self.space.mutate(genotype, np.random.default_rng((self.seed, self.steps, self.proposals))),
            (self.seed, self.steps, self.proposals),
        )

    def _shuffled(self, genotype: G) -> Iterator[G]:
        neighbours = list(self.space.neighbours(genotype))
        for index in np.random.default_rng((self.seed, self.steps)).permutation(len(neighbours)):
            yield neighbours[index]

    def state_dict(self) -> dict[str, Any]:
        derived = None if self.derived is None else self.space.format(self.derived)
        return {
            "steps": self.steps,
            "proposals": self.proposals,
            "derived": derived,
            "records": list(self.records),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.steps, self.proposals = int(state["steps"]), int(state["proposals"])
        self.derived = None if state["derived"] is None else self.space.parse(state["derived"])
        self.records = [dict(record) for record in state["records"]]
