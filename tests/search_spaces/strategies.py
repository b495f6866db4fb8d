"""Random cells for property tests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from hypothesis import strategies as st

from search_spaces.cells.genotype import INPUTS, Cell, CellGenotype
from search_spaces.cells.notation import SHORT_NAMES

NAMES = tuple(SHORT_NAMES)


@st.composite
def cells(
    draw: st.DrawFn, operations: Sequence[str] = NAMES, max_nodes: int = 5, max_edges: int = 3, max_concat: int = 4
) -> Cell:
    """Cells of any shape: nodes may read one predecessor twice, ``concat`` may repeat and omit nodes."""
    nodes = []
    for i in range(draw(st.integers(1, max_nodes))):
        edge = st.tuples(st.sampled_from(operations), st.integers(0, INPUTS + i - 1))
        nodes.append(tuple(draw(st.lists(edge, min_size=1, max_size=max_edges))))
    entries = st.integers(INPUTS, INPUTS + len(nodes) - 1)
    return Cell(tuple(nodes), tuple(draw(st.lists(entries, min_size=1, max_size=max_concat))))


@st.composite
def relabellings(draw: st.DrawFn, cell: Cell) -> Cell:
    """The same cell with its nodes in another order that respects the edges, its edges and ``concat`` shuffled."""
    numbers = {0: 0, 1: 1}
    nodes = []
    for _ in cell.nodes:
        ready = [
            old
            for old, node in enumerate(cell.nodes, start=INPUTS)
            if old not in numbers and all(source in numbers for _, source in node)
        ]
        old = draw(st.sampled_from(ready))
        edges = [(operation, numbers[source]) for operation, source in cell.nodes[old - INPUTS]]
        nodes.append(tuple(draw(st.permutations(edges))))
        numbers[old] = INPUTS + len(nodes) - 1
    return Cell(tuple(nodes), tuple(draw(st.permutations([numbers[entry] for entry in cell.concat]))))


@st.composite
def changes(draw: st.DrawFn, cell: Cell, operations: Sequence[str]) -> Cell:
    """``cell`` with one edge or one entry of ``concat`` drawn anew."""
    if draw(st.booleans()):
        place = draw(st.integers(0, len(cell.concat) - 1))
        entry = draw(st.integers(INPUTS, INPUTS + len(cell.nodes) - 1))
        return replace(cell, concat=(*cell.concat[:place], entry, *cell.concat[place + 1 :]))
    i = draw(st.integers(0, len(cell.nodes) - 1))
    j = draw(st.integers(0, len(cell.nodes[i]) - 1))
    edge = (draw(st.sampled_from(operations)), draw(st.integers(0, INPUTS + i - 1)))
    node = (*cell.nodes[i][:j], edge, *cell.nodes[i][j + 1 :])
    return replace(cell, nodes=(*cell.nodes[:i], node, *cell.nodes[i + 1 :]))


def genotypes(max_nodes: int = 5) -> st.SearchStrategy[CellGenotype]:
    return st.builds(CellGenotype, cells(max_nodes=max_nodes), cells(max_nodes=max_nodes))


@st.composite
def pairs_of_one_function(draw: st.DrawFn) -> tuple[CellGenotype, CellGenotype]:
    """A genotype, and the same with both cells relabelled."""
    genotype = draw(genotypes(max_nodes=4))
    return genotype, CellGenotype(draw(relabellings(genotype.normal)), draw(relabellings(genotype.reduce)))


@st.composite
def pairs_of_small_cells(draw: st.DrawFn) -> tuple[Cell, Cell]:
    """Two cells that are often isomorphic: drawn from few, or derived by relabelling and perhaps one change."""
    operations = ("skip_connect", "sep_conv_3x3")
    small = cells(operations=operations, max_nodes=4, max_edges=2, max_concat=3)
    cell = draw(small)
    how = draw(st.sampled_from(("drawn", "relabelled", "changed")))
    if how == "drawn":
        return cell, draw(small)
    other = draw(relabellings(cell))
    return cell, draw(changes(other, operations)) if how == "changed" else other
