"""The tensors that a network computes with, and with respect to which it is differentiated, during some passes."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from torch import Tensor, nn


class SharedWeights(Protocol):
    """The tensors to differentiate with respect to (leaves), and how their gradients give those of the parameters."""

    @property
    def leaves(self) -> list[Tensor]:
        """The tensors to differentiate with respect to."""

    def leaves_of(self, names: Collection[str]) -> list[int]:
        """The positions of the leaves that the gradients of these parameters are computed from."""

    def gradients(self, leaf_gradients: Sequence[Tensor | None]) -> dict[str, Tensor]:
        """The gradients of the parameters by name, from one for each leaf; None where a pass does not depend on it."""


class _Parameters:
    """The leaves are the parameters themselves."""

    def __init__(self, network: nn.Module):
        self._named = {name: each for name, each in network.named_parameters() if each.requires_grad}
        self.leaves: list[Tensor] = list(self._named.values())

    def leaves_of(self, names: Collection[str]) -> list[int]:
        return [i for i, name in enumerate(self._named) if name in names]

    def gradients(self, leaf_gradients: Sequence[Tensor | None]) -> dict[str, Tensor]:
        return {name: each for name, each in zip(self._named, leaf_gradients, strict=True) if each is not None}


@contextmanager
def shared_weights(network: nn.Module) -> Iterator[SharedWeights]:
    """What the network's method ``folded()`` gives where it has one, its parameters otherwise."""
    folded = getattr(network, "folded", None)
    if folded is not None:
        with folded() as shared:
            yield shared
    else:
        yield _Parameters(network)
