"""The contract of a search space."""

from __future__ import annotations

import difflib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar, runtime_checkable

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor, nn

    from search_spaces.cells.stacked import StackedNetwork
    from search_spaces.cells.supernet import Supernet

G = TypeVar("G")
G_co = TypeVar("G_co", covariant=True)


#: Upper bounds, far above what is used: no input, such as a damaged checkpoint, may ask for all memory there is.
MOST = {"channels": 10_000, "layers": 1_000, "classes": 100_000, "image_channels": 1_000, "image_size": 100_000}
MOST_PARAMS = 2 * 10**9


@dataclass(frozen=True, kw_only=True)
class NetworkSpec:
    """The size of the network that is built from a genotype: whole numbers from 1 to those in ``MOST``.

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
            if name not in ("channels", "layers") or getattr(self, name) is not None:
                object.__setattr__(self, name, whole_number(name, getattr(self, name), 1, MOST[name]))
        if not isinstance(self.image_size, Sequence) or len(self.image_size) != 2:
            raise ValueError(f"image_size must be height and width, got {self.image_size!r:.60}")
        height, width = (whole_number("image size", side, 1, MOST["image_size"]) for side in self.image_size)
        object.__setattr__(self, "image_size", (height, width))

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
    """Size and operations of a network, counted without running it."""

    params: int
    macs: int  # multiply-accumulates of convolutions and linear layers, one image

    def check(self) -> None:
        """:raises ValueError: the network has more than ``MOST_PARAMS`` parameters."""
        if self.params > MOST_PARAMS:
            raise ValueError(f"a network has at most {MOST_PARAMS:,} parameters, got one of {self.params:,}")


def whole_number(name: str, value: Any, least: int = 1, most: int | None = None) -> int:
    """``value`` as an ``int``; it may be one of numpy's whole numbers.

    :raises ValueError: it is no whole number from ``least`` to ``most``; the message begins with ``name``.
    """
    if not isinstance(value, Integral) or isinstance(value, bool):
        raise ValueError(f"{name} must be a whole number, got {value!r:.60}")
    number = int(value)
    got = number if abs(number) < 10**18 else f"one of {number.bit_length()} bits"  # Python prints not all of them
    if number < least:
        raise ValueError(f"{name} must be at least {least}, got {got}")
    if most is not None and number > most:
        raise ValueError(f"{name} must be at most {most}, got {got}")
    return number


def unknown_name(kind: str, got: str, valid: Iterable[str]) -> str:
    """The error message for an unknown name: similar valid names first, then all valid names."""
    names = sorted(valid)
    folded = {name.lower(): name for name in names}
    near = [folded[match] for match in difflib.get_close_matches(got[:100].lower(), list(folded), n=3, cutoff=0.5)]
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    return f"unknown {kind} {got!r:.60}; {hint}expected one of {', '.join(names)}"


class SearchSpace(ABC, Generic[G]):
    """A set of genotypes of type ``G``, which are hashable values, and the networks that are built from them.

    Methods that draw at random take a generator; generators in the same state give the same genotypes.
    """

    name: str
    #: Channels of the first cell and number of cells in the space's standard network; None if its networks have no such
    #: number, and ``NetworkSpec`` holds None for it.
    default_channels: int | None = NetworkSpec.channels
    default_layers: int | None = NetworkSpec.layers
    #: channels of the published networks, where these do not have the channels of networks of cells
    published_channels: int | None = None

    @abstractmethod
    def sample(self, rng: np.random.Generator) -> G:
        """A genotype, drawn uniformly at random."""

    def sample_published(self, seed: int) -> G:
        """The genotype that the published program of this space draws from ``seed``.

        :raises ValueError: the space has no published sampler.
        """
        raise ValueError(f"space '{self.name}' has no published sampler, expected the sampler 'uniform'")

    def published(self) -> dict[str, G]:
        """The genotypes of the space that were published, by name."""
        return {}

    @abstractmethod
    def mutate(self, genotype: G, rng: np.random.Generator) -> G:
        """A neighbour of ``genotype``, drawn at random."""

    @abstractmethod
    def crossover(self, a: G, b: G, rng: np.random.Generator) -> G:
        """A genotype each part of which is taken from ``a`` or from ``b``."""

    @abstractmethod
    def neighbours(self, genotype: G) -> Iterator[G]:
        """All genotypes that differ from ``genotype`` by one change, each once."""

    @abstractmethod
    def canonical(self, genotype: G) -> str:
        """A text that is the same for all genotypes that build one function; ``parse`` turns it into one of them."""

    @abstractmethod
    def parse(self, text: str) -> G:
        """The inverse of ``format``; also reads canonical keys and the names of published genotypes."""

    @abstractmethod
    def format(self, genotype: G) -> str:
        """The genotype as text, in the notation of the space's publication."""

    @abstractmethod
    def count(self, genotype: G, path: str) -> int:
        """The number of operations of the kind that ``path`` names, such as ``normal.skip_connect``.

        :raises ValueError: unknown path.
        """

    def encode(self, genotype: G) -> np.ndarray:
        """A vector of one length for all genotypes, ``(d,)``, from which a model can predict their scores.

        It is the same for genotypes with the same canonical key.

        :raises ValueError: the space, or a genotype that it never samples, has no encoding.
        """
        raise ValueError(f"space '{self.name}' has no encoding of cells, which models that predict scores need")

    def check_spec(self, spec: NetworkSpec) -> None:
        """Check that the space has networks of that size.

        :raises ValueError: it has none; the message says which part of ``spec`` is wrong.
        """
        return

    def _refuse_auxiliary(self, spec: NetworkSpec) -> None:
        """For spaces whose networks have no auxiliary head; :raises ValueError: one is asked for."""
        if spec.auxiliary:
            got = "got auxiliary=True, expected none (--auxiliary 0)"
            raise ValueError(f"networks of the space '{self.name}' have no auxiliary head, {got}")

    @abstractmethod
    def cost(self, genotype: G, spec: NetworkSpec) -> Cost:
        """Parameters and MACs of the network without its auxiliary head, counted without building it."""

    @abstractmethod
    def build(self, genotype: G, spec: NetworkSpec) -> nn.Module:
        """The network, ``(N, image_channels, H, W)`` -> ``(N, classes)``; weights from torch's global generator."""

    def stack(self, genotypes: Sequence[G], spec: NetworkSpec) -> StackedNetwork | None:
        """The networks of several genotypes as one, whose weights are to be drawn; None if they cannot be one.

        For the meaning of a stack see :mod:`proxies.stack`; a space need not have any.
        """
        return None



@runtime_checkable
class Relaxable(Protocol[G_co]):
    """A search space whose choice of operations can be relaxed to weights: differentiable searchers need it.

    ``derived_edges`` is the number of edges of a derived cell (of each, where a genotype holds several).
    """

    derived_edges: int

    def supernet(self, spec: NetworkSpec, *, partial_channels: int = 1) -> Supernet:
        """The network in which each edge is a weighted sum of all operations; weights from torch's global generator.

        :param partial_channels: K of PC-DARTS: one Kth of an edge's channels goes through the operations. With K above
            1 the edges that enter a node have weights of their own as well.
        """

    def derive(self, strengths: Mapping[str, Tensor]) -> G_co:
        """The genotype of the strongest operations and edges.

        :param strengths: by name of a cell, ``(edges, operations)``: what :meth:`Supernet.strengths` returns, or others
            of this shape. Ties go to the earlier edge and the earlier operation.
        """
