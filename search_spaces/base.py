"""The contract of a search space."""

from __future__ import annotations

import difflib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

import numpy as np

if TYPE_CHECKING:
    from torch import nn

G = TypeVar("G")


@dataclass(frozen=True, kw_only=True)
class NetworkSpec:
    """How large a network is built around a genotype.

    ``channels`` and ``layers`` are None in a space whose networks have no such number.
    """

    channels: int | None = 16
    layers: int | None = 8
    classes: int = 10
    image_size: tuple[int, int] = (32, 32)
    image_channels: int = 3
    auxiliary: bool = False

    def __post_init__(self) -> None:
        for name in ("channels", "layers", "classes", "image_channels"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if min(self.image_size) < 1:
            raise ValueError(f"images must be at least 1x1 pixels, got {self.image_size[0]}x{self.image_size[1]}")

    @property
    def stack(self) -> tuple[int, int]:
        """Channels of the first cell and number of cells, for a network that is a stack of cells.

        :raises ValueError: one of them is None.
        """
        if self.channels is None or self.layers is None:
            raise ValueError(f"a stack of cells needs channels and layers, got {self.channels} and {self.layers}")
        return self.channels, self.layers


@dataclass(frozen=True)
class Cost:
    """What a network costs, counted without running it."""

    params: int
    macs: int  # multiply-accumulates of convolutions and linear layers, one image


def unknown_name(kind: str, got: str, valid: Iterable[str]) -> str:
    """The message for a name that does not exist: the nearest names first, then all."""
    names = sorted(valid)
    folded = {name.lower(): name for name in names}
    near = [folded[match] for match in difflib.get_close_matches(got.lower(), list(folded), n=3, cutoff=0.5)]
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    return f"unknown {kind} {got!r:.60}; {hint}expected one of {', '.join(names)}"


class SearchSpace(ABC, Generic[G]):
    """What can be built: genotypes of type ``G``, which are hashable values, and the networks they stand for.

    Randomness enters as a generator; equal generators give equal genotypes.
    """

    name: str
    #: Channels of the first cell and number of cells in the space's standard network; None: its networks have no such
    #: number, and ``NetworkSpec`` holds None for it.
    default_channels: int | None = NetworkSpec.channels
    default_layers: int | None = NetworkSpec.layers

    @abstractmethod
    def sample(self, rng: np.random.Generator) -> G:
        """A genotype, uniformly at random."""

    def sample_published(self, seed: int) -> G:
        """The genotype that the published program of this space draws from ``seed``; some spaces have none."""
        raise ValueError(f"space '{self.name}' has no published sampler, expected the sampler 'uniform'")

    @abstractmethod
    def mutate(self, genotype: G, rng: np.random.Generator) -> G:
        """A neighbour of ``genotype``, at random."""

    @abstractmethod
    def crossover(self, a: G, b: G, rng: np.random.Generator) -> G:
        """A genotype whose every part comes from ``a`` or ``b``."""

    @abstractmethod
    def neighbours(self, genotype: G) -> Iterator[G]:
        """All genotypes one change away, each once, without ``genotype`` itself."""

    @abstractmethod
    def canonical(self, genotype: G) -> str:
        """A text equal for genotypes that build the same function; ``parse`` reads it as one of them."""

    @abstractmethod
    def parse(self, text: str) -> G:
        """The inverse of ``format``; also reads canonical keys and the names of published genotypes."""

    @abstractmethod
    def format(self, genotype: G) -> str:
        """The genotype in the field's notation."""

    @abstractmethod
    def count(self, genotype: G, path: str) -> int:
        """How many operations ``path`` names, such as ``normal.skip_connect``.

        :raises ValueError: unknown path.
        """

    def check_spec(self, spec: NetworkSpec) -> None:
        """Whether networks of that size exist in the space.

        :raises ValueError: they do not; the message says which part of ``spec`` is wrong.
        """
        return

    @abstractmethod
    def cost(self, genotype: G, spec: NetworkSpec) -> Cost:
        """Parameters and MACs of the network without its auxiliary head, counted without building it."""

    @abstractmethod
    def build(self, genotype: G, spec: NetworkSpec) -> nn.Module:
        """The network, ``(N, image_channels, H, W)`` -> ``(N, classes)``; weights from torch's global generator."""
