"""The search space of NAS-Bench-201 (Dong and Yang, ICLR 2020, https://arxiv.org/abs/2001.00326).

15,625 cells: one of five operations on each of six edges. In the benchmark, networks have 16 channels and 15 cells,
five in each stage; ``NetworkSpec.layers`` is the number of cells.

The canonical key is the text of the cell with the least digits among those that build the same network. There are 5,924
networks. The benchmark counts 6,466 classes, which compare texts and can hold different networks; see
:func:`search_spaces.nasbench201.equivalence.published_key`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np

from search_spaces.base import Cost, NetworkSpec, SearchSpace, unknown_name
from search_spaces.nasbench201 import genotype as edge_cells
from search_spaces.nasbench201.encoding import encoded
from search_spaces.nasbench201.equivalence import representative
from search_spaces.nasbench201.genotype import EDGES, OPERATIONS, STAGES, EdgeGenotype

if TYPE_CHECKING:
    from torch import Tensor

    from search_spaces.cells.supernet import Supernet
    from search_spaces.nasbench201.network import EdgeNetwork


class NasBench201Space(SearchSpace[EdgeGenotype]):
    """Cells of four nodes with an operation on every edge, and the networks stacked from one cell."""

    name = "nasbench201"
    default_layers = 15
    derived_edges = len(EDGES)

    def sample(self, rng: np.random.Generator) -> EdgeGenotype:
        """A cell, drawn uniformly from all 15,625."""
        drawn = rng.integers(len(OPERATIONS), size=len(EDGES)).tolist()
        return EdgeGenotype(tuple(OPERATIONS[digit] for digit in drawn))

    def mutate(self, genotype: EdgeGenotype, rng: np.random.Generator) -> EdgeGenotype:
        """Another operation on one edge; edge and operation are drawn uniformly."""
        edge = int(rng.integers(len(EDGES)))
        others = _others(genotype, edge)
        return _with_operation(genotype, edge, others[rng.integers(len(others))])

    def crossover(self, a: EdgeGenotype, b: EdgeGenotype, rng: np.random.Generator) -> EdgeGenotype:
        """Takes the operation of each edge from one of the parents, at random."""
        from_b = rng.integers(2, size=len(EDGES)).tolist()
        pairs = zip(a.operations, b.operations, from_b, strict=True)
        return EdgeGenotype(tuple(theirs if other else ours for ours, theirs, other in pairs))

    def neighbours(self, genotype: EdgeGenotype) -> Iterator[EdgeGenotype]:
        """The 24 cells that differ in one edge."""
        for edge in range(len(EDGES)):
            for operation in _others(genotype, edge):
                yield _with_operation(genotype, edge, operation)

    def canonical(self, genotype: EdgeGenotype) -> str:
        """The text of the representative; see :func:`search_spaces.nasbench201.equivalence.representative`."""
        return str(representative(genotype))

    def parse(self, text: str) -> EdgeGenotype:
        """A genotype from the benchmark's text (canonical keys have this form), from six digits, or from JSON.

        :raises GenotypeError: naming the part that is wrong.
        """
        return edge_cells.parse(text)

    def format(self, genotype: EdgeGenotype) -> str:
        return str(genotype)

    def count(self, genotype: EdgeGenotype, path: str) -> int:
        """The number of edges with an operation: ``cell.skip_connect`` or ``skip_connect``."""
        cell, dot, operation = path.rpartition(".")
        if dot and cell != "cell":
            raise ValueError(f"path '{path}': {unknown_name('cell', cell, ['cell'])}")
        if operation not in OPERATIONS:
            raise ValueError(f"path '{path}': {unknown_name('operation', operation, OPERATIONS)}")
        return genotype.count(operation)

    def encode(self, genotype: EdgeGenotype) -> np.ndarray:
        """See :mod:`search_spaces.nasbench201.encoding`."""
        return encoded(representative(genotype))

    def check_spec(self, spec: NetworkSpec) -> None:
        _, layers = spec.stack
        if layers % STAGES:
            raise ValueError(
                f"layers must be a multiple of {STAGES} in the space '{self.name}', which has {STAGES} stages of"
                f" equally many cells (the benchmark: {self.default_layers}), got {layers}"
            )
        self._refuse_auxiliary(spec)

    def cost(self, genotype: EdgeGenotype, spec: NetworkSpec) -> Cost:
        """Parameters as published. The published FLOPs are these MACs plus one for each class (the bias)."""
        self.check_spec(spec)
        (c, layers), (h, w) = spec.stack, spec.image_size
        taps = genotype.count("nor_conv_1x1") + 9 * genotype.count("nor_conv_3x3")  # weights for each pair of channels
        norms = genotype.count("nor_conv_1x1") + genotype.count("nor_conv_3x3")
        stem = 9 * spec.image_channels * c
        params, macs = stem + 2 * c, stem * h * w
        for stage in range(STAGES):
            if stage > 0:
                h, w = -(-h // 2), -(-w // 2)
                weights = (9 + 2 * 9 + 1) * 2 * c * c  # C to 2 C, 2 C to 2 C, the shortcut
                params += weights + 2 * 2 * 2 * c  # two norms of 2 C channels
                macs += weights * h * w
                c *= 2
            cells = layers // STAGES
            params += cells * (taps * c * c + norms * 2 * c)
            macs += cells * taps * c * c * h * w
        params += 2 * c + (c + 1) * spec.classes
        return Cost(params, macs + c * spec.classes)

    def build(self, genotype: EdgeGenotype, spec: NetworkSpec) -> EdgeNetwork:
        from search_spaces.nasbench201.network import EdgeNetwork

        self.check_spec(spec)
        return EdgeNetwork(genotype, spec)

    def supernet(self, spec: NetworkSpec, *, partial_channels: int = 1) -> Supernet:
        from search_spaces.nasbench201.supernet import EdgeSupernet

        self.check_spec(spec)
        return EdgeSupernet(spec, partial_channels)

    def derive(self, strengths: Mapping[str, Tensor]) -> EdgeGenotype:
        """An edge takes its strongest operation, which may be ``none``."""
        return EdgeGenotype(tuple(OPERATIONS[index] for index in strengths["cell"].argmax(-1).tolist()))


def _others(genotype: EdgeGenotype, edge: int) -> list[str]:
    return [operation for operation in OPERATIONS if operation != genotype.operations[edge]]


def _with_operation(genotype: EdgeGenotype, edge: int, operation: str) -> EdgeGenotype:
    return EdgeGenotype((*genotype.operations[:edge], operation, *genotype.operations[edge + 1 :]))
