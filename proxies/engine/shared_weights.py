"""What a network computes with while several passes share its parameters."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from torch import Tensor, nn


class SharedWeights(Protocol):
    """The tensors to differentiate by, and the way back to the parameters."""

    @property
    def leaves(self) -> list[Tensor]:
        """What to differentiate by."""

    def leaves_of(self, names: Collection[str]) -> list[int]:
        """The positions of the leaves that the gradients of these parameters take."""

    def gradients(self, leaf_gradients: Sequence[Tensor | None]) -> dict[str, Tensor]:
        """From one gradient a leaf (None: not reached) to the gradients of the parameters, by name."""


class _Parameters:
    """The parameters themselves."""

    def __init__(self, network: nn.Module):
        self._named = {name: each for name, each in network.named_parameters() if each.requires_grad}
        self.leaves: list[Tensor] = list(self._named.values())

    def leaves_of(self, names: Collection[str]) -> list[int]:
        return [i for i, name in enumerate(self._named) if name in names]

    def gradients(self, leaf_gradients: Sequence[Tensor | None]) -> dict[str, Tensor]:
        return {name: each for name, each in zip(self._named, leaf_gradients, strict=True) if each is not None}


@contextmanager
def shared_weights(network: nn.Module) -> Iterator[SharedWeights]:
    """The network's own ``folded()`` where it has one, else its parameters."""
    folded = getattr(network, "folded", None)
    if folded is not None:
        with folded() as shared:
            yield shared
    else:
        yield _Parameters(network)
