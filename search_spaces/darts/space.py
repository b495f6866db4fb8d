"""The DARTS search space (Liu et al., ICLR 2019, https://arxiv.org/abs/1806.09055).

A cell has four nodes; each reads two different earlier inputs or nodes through one operation each, and the cell's
output concatenates the four. The published cells of other shapes (CRoZe's 14 edges, NASNet's five nodes, larger
kernels) can be parsed, built, mutated and crossed as well, but are never sampled.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from search_spaces.base import Cost, NetworkSpec, SearchSpace, unknown_name
from search_spaces.cells import notation
from search_spaces.cells.genotype import INPUTS, Cell, CellGenotype, Edge, GenotypeError, Node
from search_spaces.darts.known_cells import known_cell

if TYPE_CHECKING:
    from torch import Tensor

    from search_spaces.cells.network import CellNetwork

NODES = 4
CELLS = ("normal", "reduce")

#: What is sampled, in the order of the published program, which has ``none`` before them.
DARTS_OPERATIONS = (
    "max_pool_3x3",
    "avg_pool_3x3",
    "skip_connect",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "dil_conv_3x3",
    "dil_conv_5x5",
)

#: Per node the pairs of predecessors.
_PAIRS = tuple(tuple(combinations(range(INPUTS + i), 2)) for i in range(NODES))
#: Per node of both cells the number of choices: a pair, an operation, an operation.
_CHOICES = 2 * [size for pairs in _PAIRS for size in (len(pairs), len(DARTS_OPERATIONS), len(DARTS_OPERATIONS))]

#: Weights of the search network with 16 channels and 8 layers, drawn by the published program before its architecture.
SUPERNET_DRAWS = 1_930_522


class DartsSpace(SearchSpace[CellGenotype]):
    """Cells of four nodes with two edges each, and the networks stacked from them."""

    name = "darts"
    default_layers = 8

    def sample(self, rng: np.random.Generator) -> CellGenotype:
        """Uniform over pairs of predecessors and over operations; edges in the order of their predecessors."""
        draws = iter(rng.integers(0, _CHOICES).tolist())
        return CellGenotype(_drawn_cell(draws), _drawn_cell(draws))

    def sample_published(self, seed: int) -> CellGenotype:
        """The cell that the robustness proxy's program (Feng et al., ICLR 2025) draws from ``seed``.

        It seeds torch, builds the search network and then draws both architectures as ``1e-3 * randn``. The network
        itself is not needed, only its draws. Reproduces every cell of Tiny-RobustBench.
        """
        import torch

        generator = torch.Generator().manual_seed(seed)
        torch.empty(SUPERNET_DRAWS).uniform_(generator=generator)
        edges = sum(INPUTS + i for i in range(NODES))
        alphas = [1e-3 * torch.randn(edges, 1 + len(DARTS_OPERATIONS), generator=generator) for _ in CELLS]
        return CellGenotype(*(_strongest_cell(alpha.softmax(-1)) for alpha in alphas))

    def mutate(self, genotype: CellGenotype, rng: np.random.Generator) -> CellGenotype:
        """Another operation or another predecessor on one edge (Real et al., AAAI 2019), never both.

        Cell and edge are uniform; where another predecessor is free, operation and predecessor are equally likely.
        """
        name = CELLS[rng.integers(len(CELLS))]
        cell: Cell = getattr(genotype, name)
        places = [(i, j) for i, node in enumerate(cell.nodes) for j in range(len(node))]
        i, j = places[rng.integers(len(places))]
        kinds = [edges for edges in (_other_operations(cell, i, j), _other_predecessors(cell, i, j)) if edges]
        edges = kinds[rng.integers(len(kinds))]
        return _with_edge(genotype, name, i, j, edges[rng.integers(len(edges))])

    def crossover(self, a: CellGenotype, b: CellGenotype, rng: np.random.Generator) -> CellGenotype:
        """Each node of each cell from either parent.

        Of parents that differ in shape, one gives a cell its number of nodes and its concatenation.
        """
        return CellGenotype(_crossed_cell(a.normal, b.normal, rng), _crossed_cell(a.reduce, b.reduce, rng))

    def neighbours(self, genotype: CellGenotype) -> Iterator[CellGenotype]:
        """All results that :meth:`mutate` can have; of two equal edges of a node only the first is changed."""
        for name, cell in genotype.named_cells().items():
            for i, node in enumerate(cell.nodes):
                for j in range(len(node)):
                    if node[j] not in node[:j]:
                        for edge in _other_operations(cell, i, j) + _other_predecessors(cell, i, j):
                            yield _with_edge(genotype, name, i, j, edge)

    def canonical(self, genotype: CellGenotype) -> str:
        """The compact notation of the representative; see :func:`search_spaces.cells.notation.canonical_form`."""
        return notation.format_compact(notation.canonical_form(_validated(genotype)))

    def parse(self, text: str) -> CellGenotype:
        """A genotype from the name of a published cell, the field's text, JSON, or a canonical key.

        :raises GenotypeError: naming the part that is wrong, and for a wrong name the nearest right ones.
        """
        stripped = text.strip()
        if any(mark in stripped for mark in "({/"):
            return _validated(notation.parse(stripped))
        try:
            return known_cell(stripped)
        except GenotypeError as error:
            raise GenotypeError(f"{error}; or Genotype(normal=[...], ...), JSON, a canonical key") from None

    def format(self, genotype: CellGenotype) -> str:
        return str(genotype)

    def count(self, genotype: CellGenotype, path: str) -> int:
        """Edges by operation, in a cell (``normal.skip_connect``) or in both (``skip_connect``)."""
        found, operation = genotype.count(path), path.rpartition(".")[2]
        if operation not in notation.SHORT_NAMES:
            raise ValueError(f"path '{path}': {unknown_name('operation', operation, notation.SHORT_NAMES)}")
        return found

    def cost(self, genotype: CellGenotype, spec: NetworkSpec) -> Cost:
        from search_spaces.cells.cost import network_cost

        return network_cost(_validated(genotype), spec)

    def build(self, genotype: CellGenotype, spec: NetworkSpec) -> CellNetwork:
        from search_spaces.cells.network import CellNetwork

        return CellNetwork(_validated(genotype), spec)


def _validated(genotype: CellGenotype) -> CellGenotype:
    """``genotype``, if a network can be built from it."""
    for name, cell in genotype.named_cells().items():
        for operation, _ in cell.edges:
            if operation not in notation.SHORT_NAMES:
                raise GenotypeError(f"part '{name}': {unknown_name('operation', operation, notation.SHORT_NAMES)}")
    if min(genotype.reduce.concat) < INPUTS:
        raise GenotypeError(
            f"part 'reduce_concat': got input {min(genotype.reduce.concat)}, expected nodes from {INPUTS} on:"
            " the inputs of a reduction cell have twice the resolution of its nodes"
        )
    return genotype


def _drawn_cell(draws: Iterator[int]) -> Cell:
    nodes = []
    for pairs in _PAIRS:
        pair = pairs[next(draws)]
        nodes.append(tuple((DARTS_OPERATIONS[next(draws)], source) for source in pair))
    return Cell(tuple(nodes), tuple(range(INPUTS, INPUTS + NODES)))


def _strongest_cell(weights: Tensor) -> Cell:
    """DARTS' derivation of a cell from the weights ``(14, 8)`` of its edges' operations, ``none`` first.

    Per node the two edges with the greatest weight of any operation but ``none``, the greatest first, each with that
    operation. Where weights tie, the earlier predecessor and the earlier operation.
    """
    rows = iter(weights[:, 1:].tolist())
    nodes: list[Node] = []
    for i in range(NODES):
        edges = [next(rows) for _ in range(INPUTS + i)]
        best = [max(edge) for edge in edges]
        strongest = sorted(range(len(edges)), key=best.__getitem__, reverse=True)[:2]  # stable in reverse as well
        nodes.append(tuple((DARTS_OPERATIONS[edges[source].index(best[source])], source) for source in strongest))
    return Cell(tuple(nodes), tuple(range(INPUTS, INPUTS + NODES)))


def _other_operations(cell: Cell, i: int, j: int) -> list[Edge]:
    """What edge ``j`` of ``cell.nodes[i]`` can become by its operation."""
    operation, source = cell.nodes[i][j]
    return [(other, source) for other in DARTS_OPERATIONS if other != operation]


def _other_predecessors(cell: Cell, i: int, j: int) -> list[Edge]:
    """What edge ``j`` of ``cell.nodes[i]`` can become by its predecessor; none that the node reads already."""
    taken = {source for _, source in cell.nodes[i]}
    return [(cell.nodes[i][j][0], source) for source in range(INPUTS + i) if source not in taken]


def _with_edge(genotype: CellGenotype, name: str, i: int, j: int, edge: Edge) -> CellGenotype:
    """``genotype`` with edge ``j`` of node ``i`` of one cell replaced."""
    cell: Cell = getattr(genotype, name)
    node = (*cell.nodes[i][:j], edge, *cell.nodes[i][j + 1 :])
    changed = replace(cell, nodes=(*cell.nodes[:i], node, *cell.nodes[i + 1 :]))
    return CellGenotype(changed, genotype.reduce) if name == "normal" else CellGenotype(genotype.normal, changed)


def _crossed_cell(a: Cell, b: Cell, rng: np.random.Generator) -> Cell:
    shape, other = (a, b) if rng.integers(2) else (b, a)
    from_other = rng.integers(2, size=len(shape.nodes)).tolist()
    nodes = tuple(
        other.nodes[i] if from_other[i] and i < len(other.nodes) else node for i, node in enumerate(shape.nodes)
    )
    return Cell(nodes, shape.concat)
