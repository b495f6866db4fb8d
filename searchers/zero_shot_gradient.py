"""Ascent of the robustness proxy on a supernet's architecture weights, without any training.

The relaxation is that of DARTS (Liu et al., ICLR 2019, https://arxiv.org/abs/1806.09055): an edge is the sum of all
operations, weighted with a softmax. The softmax is moved by Adam along the gradient of the log robustness
(Feng et al., ICLR 2025, Eq. 4; :func:`proxies.robust.log_robustness`) of the untrained supernet, whose weights are
drawn anew in each step. :mod:`searchers.untrained_supernet` says how the score is relaxed.

What the optimum looks like: the proxy prefers small outputs and many parameters, so on ``darts`` nearly all edges end
at ``sep_conv_5x5``, on ``nasbench201`` at ``nor_conv_3x3``. These are the largest cells of their spaces.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from searchers.base import Searcher, check_number, check_whole
from searchers.supernet import Step, SupernetSearcher

if TYPE_CHECKING:
    from torch import Tensor

G = TypeVar("G")

BETAS = (0.5, 0.999)  # of Adam, as DARTS moves its architecture weights
SETTLED, SETTLING_STEPS = 0.05, 5  # nats, steps


class ZeroShotGradient(SupernetSearcher[G]):
    """Proposes the derived cell of each step of the ascent, then the neighbours of the last one.

    It begins with equal weights for all operations. It ends after ``steps`` steps, or when the mean entropy of the
    edges has settled: it has changed by less than 0.05 nats over the last 5 steps, beginning with the sixth step.
    """

    @dataclass(frozen=True, kw_only=True)
    class Options(Searcher.Options):
        """The ascent."""

        steps: int = field(default=50, metadata={"help": "steps at most; fewer where the entropy has settled"})
        draws: int = field(default=1, metadata={"help": "draws of the supernet's weights in a step, averaged over"})
        supernet_images: int = field(default=8, metadata={"help": "images of each score of the supernet"})
        architecture_learning_rate: float = field(default=0.3, metadata={"help": "of Adam"})

        def __post_init__(self) -> None:
            for name in ("steps", "draws", "supernet_images"):
                check_whole(name, getattr(self, name), 1)
            check_number("architecture_learning_rate", self.architecture_learning_rate)

    options: Options

    @property
    def ended(self) -> bool:
        if self.steps <= SETTLING_STEPS:
            return self.steps >= self.options.steps
        entropies = [record["entropy"] for record in self.records[-1 - SETTLING_STEPS :]]
        return self.steps >= self.options.steps or abs(entropies[0] - entropies[-1]) < SETTLED

    def advance(self) -> Step[G]:
        import torch

        from searchers.untrained_supernet import drawn_supernet, relaxed_score

        options, scores = self.options, []
        for draw in range(options.draws):
            supernet = drawn_supernet(self.relaxable, self.material, self.seed, self.steps, draw)
            score = relaxed_score(self.material, supernet, self._mixing(), options.supernet_images)
            leaves = list(self._weights.values())
            gradients = torch.autograd.grad(-score / options.draws, leaves, materialize_grads=True)
            for weights, gradient in zip(leaves, gradients, strict=True):
                weights.grad = gradient if weights.grad is None else weights.grad + gradient
            scores.append(score.item())
        self._adam.step()
        self._adam.zero_grad()
        mixing = {name: weights.detach().cpu() for name, weights in self._mixing().items()}
        figures = {"log_robustness": sum(scores) / len(scores)}
        return Step(derived=self.relaxable.derive(mixing), mixing=mixing, figures=figures)

    def _mixing(self) -> dict[str, Tensor]:
        """The softmax over all operations but ``none``, whose weight is 0."""
        return {
            name: weights.masked_fill(~self._choosable[name], -float("inf")).softmax(-1)
            for name, weights in self._weights.items()
        }

    @cached_property
    def _choosable(self) -> dict[str, Tensor]:
        from searchers.untrained_supernet import choosable, drawn_supernet

        supernet = drawn_supernet(self.relaxable, self.material, self.seed)
        return {name: each.to(self.material.device) for name, each in choosable(supernet).items()}

    @cached_property
    def _weights(self) -> dict[str, Tensor]:
        """By name of the cell ``(edges, operations)``: the architecture weights before the softmax."""
        import torch

        return {
            name: torch.zeros(each.shape, device=each.device, requires_grad=True)
            for name, each in self._choosable.items()
        }

    @cached_property
    def _adam(self) -> Any:
        import torch

        rate = self.options.architecture_learning_rate
        return torch.optim.Adam(self._weights.values(), lr=rate, betas=BETAS)

    def state_dict(self) -> dict[str, Any]:
        if not self.steps:
            return {**super().state_dict(), "weights": None, "adam": None}
        weights = {name: each.detach().clone() for name, each in self._weights.items()}
        return {**super().state_dict(), "weights": weights, "adam": copy.deepcopy(self._adam.state_dict())}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        if state["weights"] is not None:
            for name, weights in self._weights.items():
                weights.data.copy_(state["weights"][name])
            self._adam.load_state_dict(state["adam"])
