"""Batch norms folded into the convolutions before them, for as long as a context is open.

In eval mode a batch norm is a fixed affine map, which the convolution before it can absorb. Inside
:meth:`FoldingNetwork.folded` the network computes with folded weights and biases: several passes share them, each pass
is differentiated by the folded tensors, and the sum of these gradients goes back to the parameters once. Outside, a
network is its modules as they stand.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized


class Foldable(nn.Module, ABC):
    """A module that can compute with tensors made of the parameters of its children."""

    #: the tensors to compute with, inside :meth:`FoldingNetwork.folded`
    folded_tensors: tuple[Tensor, ...] | None = None

    @abstractmethod
    def fold(self) -> tuple[Tensor, ...] | None:
        """The tensors, differentiable functions of the parameters; None where there is nothing to fold."""

    @abstractmethod
    def fold_parameters(self) -> tuple[Tensor, ...]:
        """The parameters that the tensors are made of."""


class Folded:
    """What a network computes with at present, and the way back to its parameters.

    ``leaves`` are to be differentiated by: the folded tensors, and the parameters that none is made of.
    """

    def __init__(self, network: nn.Module, foldable: Sequence[Foldable]):
        self._made: list[Tensor] = []
        self._makers: list[Foldable] = []
        made_of: set[Tensor] = set()
        stand_ins: list[Tensor] = []
        for module in foldable:
            tensors = module.fold() if all(map(_is_plain, module.children())) else None
            if tensors is None:
                continue
            leaves = tuple(each.detach().requires_grad_(each.requires_grad) for each in tensors)
            module.folded_tensors = leaves
            made_of.update(module.fold_parameters())
            stand_ins += [leaf for leaf in leaves if leaf.requires_grad]
            self._made += [each for each in tensors if each.requires_grad]
            self._makers += [module] * (len(self._made) - len(self._makers))
        learned = {name: each for name, each in network.named_parameters() if each.requires_grad}
        self._direct = [name for name, each in learned.items() if each not in made_of]
        self._indirect = {name: each for name, each in learned.items() if each in made_of}
        self._names = list(learned)
        self.leaves = [*(learned[name] for name in self._direct), *stand_ins]

    def leaves_of(self, names: Collection[str]) -> list[int]:
        """The positions of the leaves that the gradients of these parameters take."""
        direct = [i for i, name in enumerate(self._direct) if name in names]
        folded = {self._indirect[name] for name in names if name in self._indirect}
        makers = enumerate(self._makers, start=len(self._direct))
        return direct + [i for i, maker in makers if not folded.isdisjoint(maker.fold_parameters())]

    def gradients(self, leaf_gradients: Sequence[Tensor | None]) -> dict[str, Tensor]:
        """From one gradient a leaf (None: not reached) to the gradients of the parameters, by name."""
        given = iter(leaf_gradients)
        found = {name: next(given) for name in self._direct}
        reached = [(made, grad) for made, grad in zip(self._made, given, strict=True) if grad is not None]
        if reached:
            made, grads = zip(*reached, strict=True)
            back = torch.autograd.grad(made, list(self._indirect.values()), grads, retain_graph=True, allow_unused=True)
            found.update(zip(self._indirect, back, strict=True))
        return {name: grad for name in self._names if (grad := found.get(name)) is not None}


def _is_plain(module: nn.Module) -> bool:
    """Whether folding may take the place of a call: nobody hooks it or changed what it computes."""
    hooks = module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks
    return not (any(hooks) or "forward" in vars(module) or is_parametrized(module))


class FoldingNetwork(nn.Module):
    """A network that may hold foldable modules."""

    #: whether all that it does besides convolutions, linear layers, norms, ReLUs and max poolings is linear; then the
    #: proxy ``grasp`` takes three fifths of the time
    linear_between = False

    @contextmanager
    def folded(self) -> Iterator[Folded]:
        """Inside, the network computes with folded tensors; its parameters, buffers and modes must not change."""
        foldable = [module for module in self.modules() if isinstance(module, Foldable)]
        try:
            with torch.enable_grad():
                scope = Folded(self, foldable)
            yield scope
        finally:
            for module in foldable:
                module.folded_tensors = None
