"""The DARTS search space (Liu et al., ICLR 2019, https://arxiv.org/abs/1806.09055).

A cell has four nodes. Each node reads two different inputs or earlier nodes, each through one operation, and the cell's
output concatenates the four nodes. Published cells of other shapes (CRoZe's 14 edges, NASNet's five nodes, larger
kernels) can be parsed, built, mutated and crossed as well, but are never sampled. :mod:`search_spaces.darts.variants`
has spaces of the same genotypes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from search_spaces.base import Cost, NetworkSpec, SearchSpace, unknown_name
from search_spaces.cells import notation
from search_spaces.cells.genotype import INPUTS, Cell, CellGenotype, Edge, GenotypeError, Node
from search_spaces.cells.literal import stripped_text
from search_spaces.darts.known_cells import known_cell, known_cells

if TYPE_CHECKING:
    from torch import Tensor

    from search_spaces.cells.network import CellNetwork
    from search_spaces.cells.stacked import StackedNetwork
    from search_spaces.cells.supernet import Supernet

NODES = 4
EDGES = sum(INPUTS + i for i in range(NODES))  # all that a cell can have
CELLS = ("normal", "reduce")

#: The operations that are sampled, in the order of the published program, whose list has ``none`` before them.
DARTS_OPERATIONS = (
    "max_pool_3x3",
    "avg_pool_3x3",
    "skip_connect",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "dil_conv_3x3",
    "dil_conv_5x5",
)

#: For each node, the possible pairs of predecessors.
_PAIRS = tuple(tuple(combinations(range(INPUTS + i), 2)) for i in range(NODES))
#: For each node of both cells, the number of choices of its pair, its first and its second operation.
_CHOICES = 2 * [size for pairs in _PAIRS for size in (len(pairs), len(DARTS_OPERATIONS), len(DARTS_OPERATIONS))]

#: Number of weights of the search network (16 channels, 8 layers), which the published program draws first.
SUPERNET_DRAWS = 1_930_522


class DartsSpace(SearchSpace[CellGenotype]):
    """Cells of four nodes with two edges each, and the networks stacked from them.

    Subclasses (:mod:`search_spaces.darts.variants`) sample other ``operations``, keep another number of
    ``derived_edges``, or build the ``imagenet`` network, which begins with two stems.
    """

    name = "darts"
    default_layers = 8
    derived_edges = 2 * NODES
    operations: tuple[str, ...] = DARTS_OPERATIONS
    imagenet = False

    def sample(self, rng: np.random.Generator) -> CellGenotype:
        """Uniform over pairs of predecessors and over operations; edges in the order of their predecessors."""
        draws = iter(rng.integers(0, _CHOICES).tolist())
        return CellGenotype(_drawn_cell(draws), _drawn_cell(draws))

    def sample_published(self, seed: int) -> CellGenotype:
        """The cell that the robustness proxy's program (Feng et al., ICLR 2025) draws from ``seed``.

        That program seeds torch, builds the search network and then draws the architecture weights of both cells as
        ``1e-3 * randn``. Here no network is built: as many random numbers as it has weights are drawn and discarded.
        Reproduces every cell of Tiny-RobustBench.
        """
        import torch

        generator = torch.Generator().manual_seed(seed)
        torch.empty(SUPERNET_DRAWS).uniform_(generator=generator)
        alphas = [1e-3 * torch.randn(EDGES, 1 + len(DARTS_OPERATIONS), generator=generator) for _ in CELLS]
        return CellGenotype(*(strongest_cell(alpha.softmax(-1)) for alpha in alphas))

    def published(self) -> dict[str, CellGenotype]:
        return known_cells()

    def mutate(self, genotype: CellGenotype, rng: np.random.Generator) -> CellGenotype:
        """Another operation or another predecessor on one edge (Real et al., AAAI 2019), never both.

        Cell and edge are drawn uniformly. If the node has a predecessor that it does not read yet, a change of the
        operation and of the predecessor are equally likely; otherwise the operation changes.
        """
        name = CELLS[rng.integers(len(CELLS))]
        cell: Cell = getattr(genotype, name)
        places = [(i, j) for i, node in enumerate(cell.nodes) for j in range(len(node))]
        i, j = places[rng.integers(len(places))]
        others = _other_operations(cell, i, j, self.operations), _other_predecessors(cell, i, j)
        kinds = [edges for edges in others if edges]
        edges = kinds[rng.integers(len(kinds))]
        return _with_edge(genotype, name, i, j, edges[rng.integers(len(edges))])

    def crossover(self, a: CellGenotype, b: CellGenotype, rng: np.random.Generator) -> CellGenotype:
        """Takes each node of each cell from one of the parents, at random.

        For each cell, one parent, drawn at random, determines the number of nodes and the concatenation.
        """
        return CellGenotype(_crossed_cell(a.normal, b.normal, rng), _crossed_cell(a.reduce, b.reduce, rng))

    def neighbours(self, genotype: CellGenotype) -> Iterator[CellGenotype]:
        """All genotypes that :meth:`mutate` can return; of two equal edges of a node only the first is changed."""
        for name, cell in genotype.named_cells().items():
            for i, node in enumerate(cell.nodes):
                for j in range(len(node)):
                    if node[j] not in node[:j]:
                        operations = _other_operations(cell, i, j, self.operations)
                        for edge in operations + _other_predecessors(cell, i, j):
                            yield _with_edge(genotype, name, i, j, edge)

    def canonical(self, genotype: CellGenotype) -> str:
        """The compact notation of the representative; see :func:`search_spaces.cells.notation.canonical_form`."""
        return notation.format_compact(notation.canonical_form(_validated(genotype)))

    def parse(self, text: str) -> CellGenotype:
        """A genotype from the name of a published cell, the published text notation, JSON, or a canonical key.

        See :func:`search_spaces.cells.notation.parse` for what may stand around it.

        :raises GenotypeError: naming the part that is wrong; for an unknown cell name, with similar known names.
        """
        if any(mark in text for mark in "({/"):
            return _validated(notation.parse(text))
        try:
            return known_cell(stripped_text(text))
        except GenotypeError as error:
            raise GenotypeError(f"{error}; or Genotype(normal=[...], ...), JSON, a canonical key") from None

    def format(self, genotype: CellGenotype) -> str:
        return str(genotype)

    def count(self, genotype: CellGenotype, path: str) -> int:
        """How many edges carry an operation, in one cell (``normal.skip_connect``) or in both (``skip_connect``)."""
        found, operation = genotype.count(path), path.rpartition(".")[2]
        if operation not in notation.SHORT_NAMES:
            raise ValueError(f"path '{path}': {unknown_name('operation', operation, notation.SHORT_NAMES)}")
        return found

    def encode(self, genotype: CellGenotype) -> np.ndarray:
        """``(30 * n,)``: for each cell, a bit for each of n operations on each of 14 edges, and how many carry each.

        Among the 110 cells of Tiny-RobustBench the counts rank better than the bits do (extra trees fitted to 77 cells
        have a rank correlation of 0.71 with the clean accuracy of the others, and 0.38); scores that depend on the
        place of an operation need the bits.

        :raises ValueError: a cell has another shape than those that are sampled.
        """
        cells = notation.canonical_form(_validated(genotype)).named_cells().values()
        return np.concatenate([_encoded_cell(cell, self.operations) for cell in cells])

    def cost(self, genotype: CellGenotype, spec: NetworkSpec) -> Cost:
        from search_spaces.cells.cost import network_cost

        self.check_spec(spec)
        return network_cost(_validated(genotype), spec, self.imagenet)

    def build(self, genotype: CellGenotype, spec: NetworkSpec) -> CellNetwork:
        from search_spaces.cells.network import CellNetwork

        self.check_spec(spec)
        return CellNetwork(_validated(genotype), spec, self.imagenet)

    def stack(self, genotypes: Sequence[CellGenotype], spec: NetworkSpec) -> StackedNetwork | None:
        from search_spaces.cells.stacked import StackedNetwork, can_stack

        own = self.imagenet or type(self).build is not DartsSpace.build  # other networks than those of a stack
        return StackedNetwork(genotypes, spec) if not own and can_stack(genotypes, spec) else None

    def supernet(self, spec: NetworkSpec, *, partial_channels: int = 1) -> Supernet:
        from search_spaces.darts.supernet import DartsSupernet

        self.check_spec(spec)
        return DartsSupernet(spec, partial_channels, self.operations, self.imagenet)

    def derive(self, strengths: Mapping[str, Tensor]) -> CellGenotype:
        """An edge takes its strongest operation other than ``none``, a node its two strongest edges.

        Where a derived cell has all 14 edges, a node takes them all, in the order of their predecessors.
        """
        cells = (strongest_cell(strengths[name], self.operations, self.derived_edges == EDGES) for name in CELLS)
        return CellGenotype(*cells)


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


def _encoded_cell(cell: Cell, operations: Sequence[str]) -> np.ndarray:
    edges = [(source, target) for target in range(INPUTS, INPUTS + NODES) for source in range(target)]
    bits = np.zeros((EDGES, len(operations)))
    for target, node in enumerate(cell.nodes, start=INPUTS):
        for operation, source in node:
            if (source, target) not in edges or operation not in operations:
                raise ValueError(
                    f"edge ('{operation}', {source}) of node {target} has no encoding, expected one of {NODES} nodes"
                    f" and of {', '.join(operations)}"
                )
            bits[edges.index((source, target)), operations.index(operation)] = 1
    return np.concatenate([bits.ravel(), bits.sum(axis=0)])


def _drawn_cell(draws: Iterator[int]) -> Cell:
    nodes = []
    for pairs in _PAIRS:
        pair = pairs[next(draws)]
        nodes.append(tuple((DARTS_OPERATIONS[next(draws)], source) for source in pair))
    return Cell(tuple(nodes), tuple(range(INPUTS, INPUTS + NODES)))


def strongest_cell(weights: Tensor, operations: Sequence[str] = DARTS_OPERATIONS, every_edge: bool = False) -> Cell:
    """The cell that DARTS derives from ``weights`` ``(14, 1 + operations)``, whose first column is that of ``none``.

    An edge takes its strongest operation other than ``none``; a node keeps its two strongest edges, the stronger one
    first, or ``every_edge`` in order. Ties go to the earlier predecessor and the earlier operation.
    """
    rows = iter(weights[:, 1:].tolist())
    nodes: list[Node] = []
    for i in range(NODES):
        edges = [next(rows) for _ in range(INPUTS + i)]
        best = [max(edge) for edge in edges]
        strongest = sorted(range(len(edges)), key=best.__getitem__, reverse=True)[:2]  # keeps ties in order
        kept = range(len(edges)) if every_edge else strongest
        nodes.append(tuple((operations[edges[source].index(best[source])], source) for source in kept))
    return Cell(tuple(nodes), tuple(range(INPUTS, INPUTS + NODES)))


def _other_operations(cell: Cell, i: int, j: int, operations: Sequence[str]) -> list[Edge]:
    """Edge ``j`` of ``cell.nodes[i]`` with each of the other operations."""
    operation, source = cell.nodes[i][j]
    return [(other, source) for other in operations if other != operation]


def _other_predecessors(cell: Cell, i: int, j: int) -> list[Edge]:
    """Edge ``j`` of ``cell.nodes[i]`` with each predecessor that the node does not read yet."""
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
