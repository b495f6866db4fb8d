"""Batch norms folded into the convolutions before them, while a context is open.

In eval mode a batch norm is a fixed affine map, which can be folded into the weight and bias of the convolution before
it. Inside :meth:`FoldingNetwork.folded` the network computes with folded weights and biases. They are made once for all
passes; each pass is differentiated with respect to the folded tensors, and the sum of these gradients is propagated to
the parameters once. Outside the context the network runs its modules unchanged.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.module import _has_any_global_hook
from torch.nn.utils.parametrize import is_parametrized


class Foldable(nn.Module, ABC):
    """A module that can compute with folded tensors instead of calling its children."""

    #: the folded tensors to compute with; None outside :meth:`FoldingNetwork.folded`
    folded_tensors: tuple[Tensor, ...] | None = None

    @abstractmethod
    def fold(self) -> tuple[Tensor, ...] | None:
        """The folded tensors, as differentiable functions of the parameters; None if the module cannot be folded."""

    @abstractmethod
    def fold_parameters(self) -> tuple[Tensor, ...]:
        """The parameters that the folded tensors are computed from."""


class Folded:
    """The folded tensors of a network, and how their gradients become those of its parameters.

    ``leaves`` are what to differentiate with respect to: the parameters that are not folded, then the folded tensors.
    """

    def __init__(self, network: nn.Module, foldable: Sequence[Foldable]):
        self._made: list[Tensor] = []
        self._makers: list[Foldable] = []
        made_of: set[Tensor] = set()
        owners: Counter[Tensor | None] = Counter()
        for module in network.modules():
            owners.update(module._parameters.values())
        stand_ins: list[Tensor] = []
        for module in foldable:
            tensors = module.fold() if all(map(_is_plain, module.children())) else None
            if tensors is None or any(owners[each] > 1 for each in module.fold_parameters()):
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
        """The indices of the leaves whose gradients determine the gradients of the named parameters."""
        direct = [i for i, name in enumerate(self._direct) if name in names]
        folded = {self._indirect[name] for name in names if name in self._indirect}
        makers = enumerate(self._makers, start=len(self._direct))
        return direct + [i for i, maker in makers if not folded.isdisjoint(maker.fold_parameters())]

    def gradients(self, leaf_gradients: Sequence[Tensor | None]) -> dict[str, Tensor]:
        """The gradients of the parameters by name, from one gradient for each leaf (None: it has no influence)."""
        given = iter(leaf_gradients)
        found = {name: next(given) for name in self._direct}
        reached = [(made, grad) for made, grad in zip(self._made, given, strict=True) if grad is not None]
        if reached:
            made, grads = zip(*reached, strict=True)
            back = torch.autograd.grad(made, list(self._indirect.values()), grads, retain_graph=True, allow_unused=True)
            found.update(zip(self._indirect, back, strict=True))
        return {name: grad for name in self._names if (grad := found.get(name)) is not None}


def _is_plain(module: nn.Module) -> bool:
    """Whether folding may replace a call of ``module``: it has no hooks, no replaced forward, no parametrization."""
    hooks = module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks
    return not (any(hooks) or vars(module).keys() & {"forward", "_conv_forward"} or is_parametrized(module))


class FoldingNetwork(nn.Module):
    """A network whose :class:`Foldable` modules are folded on demand."""

    #: whether everything that it computes besides convolutions, linear layers, norms, ReLUs and max pooling is linear;
    #: the proxy ``grasp`` then takes three fifths of the time
    linear_between = False

    #: whether it computes in contiguous layout, not in channels_last; a training on a GPU sets what is faster there
    contiguous_layout = False

    @contextmanager
    def folded(self) -> Iterator[Folded]:
        """Inside the context the network uses folded tensors; its parameters, buffers and modes must not change."""
        heard = _has_any_global_hook()  # type: ignore[no-untyped-call]
        foldable = [] if heard else [module for module in self.modules() if isinstance(module, Foldable)]
        before = [module.folded_tensors for module in foldable]  # of a context around this one
        try:
            for module in foldable:
                module.folded_tensors = None
            with torch.enable_grad():
                scope = Folded(self, foldable)
            yield scope
        finally:
            for module, tensors in zip(foldable, before, strict=True):
                module.folded_tensors = tensors
