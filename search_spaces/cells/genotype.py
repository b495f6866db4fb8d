"""``CellStack``: the architecture of a cell-based network, as a value.

A cell has two inputs, numbered 0 and 1, and nodes, numbered 2, 3, ... A node is the sum of its edges; each edge applies
one operation to one input or earlier node. The cell's output concatenates the nodes named in ``concat``. A genotype
says which cell each layer has: :class:`CellGenotype` repeats a normal and a reduction cell, :class:`LayeredCells` has
a list of cells in the order of the layers. The former has three notations, handled here and in
:mod:`search_spaces.cells.notation`:

* the published text notation, ``Genotype(normal=[('sep_conv_3x3', 0), ...], normal_concat=[2, 3, 4, 5], ...)``;
* JSON, the same names as keys;
* a networkx ``DiGraph`` per cell.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

from search_spaces.base import unknown_name

if TYPE_CHECKING:
    import networkx

INPUTS = 2  # every cell reads the outputs of the two cells before it
MOST_NODES = 100  # of a cell; published ones have up to five
MOST_EDGES = 1000  # of a cell, and entries of its concatenation

Edge = tuple[str, int]  # operation, predecessor
Node = tuple[Edge, ...]


class GenotypeError(ValueError):
    """A genotype that is not valid; the message names the part that is wrong."""


@dataclass(frozen=True)
class Cell:
    """One cell. ``nodes[i]`` holds the edges into node ``i + 2``; ``concat`` may repeat a node, as in CRoZe's cell."""

    nodes: tuple[Node, ...]
    concat: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.nodes:
            raise GenotypeError("a cell needs at least one node, got none")
        for what, got, most in (
            ("nodes", len(self.nodes), MOST_NODES),
            ("edges", sum(map(len, self.nodes)), MOST_EDGES),
            ("entries of concat", len(self.concat), MOST_EDGES),
        ):
            if got > most:
                raise GenotypeError(f"a cell has at most {most} {what}, got {got}")
        for number, node in enumerate(self.nodes, start=INPUTS):
            if not node:
                raise GenotypeError(f"node {number} needs at least one input edge, got none")
            for operation, predecessor in node:
                if not 0 <= predecessor < number:
                    raise GenotypeError(
                        f"edge ('{operation}', {predecessor}) of node {number}: expected a predecessor"
                        f" from 0 to {number - 1}"
                    )
        if not self.concat:
            raise GenotypeError("concat must name at least one node, got []")
        for entry in self.concat:
            if not 0 <= entry < INPUTS + len(self.nodes):
                raise GenotypeError(f"concat names node {entry}, expected one from 0 to {len(self.nodes) + 1}")

    @property
    def edges(self) -> tuple[Edge, ...]:
        """All edges, node by node."""
        return tuple(edge for node in self.nodes for edge in node)

    def count(self, operation: str) -> int:
        """How many edges carry ``operation``."""
        return sum(name == operation for name, _ in self.edges)

    def to_networkx(self) -> networkx.DiGraph:
        """The cell as a graph: nodes ``0, 1, 2, ..., "output"``.

        An edge's ``operations`` is a sorted tuple, since a node may read one predecessor through several operations;
        an edge into ``"output"`` has ``times``, the number of times that ``concat`` names the node.
        """
        import networkx

        graph = networkx.DiGraph()
        graph.add_nodes_from(range(INPUTS + len(self.nodes)))
        for number, node in enumerate(self.nodes, start=INPUTS):
            for predecessor in sorted({source for _, source in node}):
                names = tuple(sorted(name for name, source in node if source == predecessor))
                graph.add_edge(predecessor, number, operations=names)
        for entry in sorted(set(self.concat)):
            graph.add_edge(entry, "output", times=self.concat.count(entry))
        return graph

    @classmethod
    def from_networkx(cls, graph: networkx.DiGraph) -> Cell:
        """The inverse of :meth:`to_networkx`, up to the order of a node's edges and of ``concat``."""
        numbers = sorted(node for node in graph if node != "output" and node >= INPUTS)
        nodes = tuple(
            tuple((name, source) for source in sorted(graph.pred[n]) for name in graph.edges[source, n]["operations"])
            for n in numbers
        )
        concat = tuple(n for n in sorted(graph.pred["output"]) for _ in range(graph.edges[n, "output"]["times"]))
        return cls(nodes, concat)


class CellStack(ABC):
    """Which cell each layer of a network has. A hashable value."""

    @abstractmethod
    def named_cells(self) -> dict[str, Cell]:
        """The cells of the genotype by name, in the order of its notation."""

    @abstractmethod
    def cell(self, layer: int, layers: int) -> Cell:
        """The cell of ``layer``, from 0, in a network of ``layers``."""

    def count(self, path: str) -> int:
        """Operations counted by a path: ``normal.skip_connect`` or, over all cells, ``skip_connect``."""
        name, dot, operation = path.rpartition(".")
        cells = self.named_cells()
        if dot and name not in cells:
            raise GenotypeError(f"path '{path}': {unknown_name('cell', name, cells)}")
        return sum(cell.count(operation) for cell in ([cells[name]] if dot else cells.values()))


@dataclass(frozen=True)
class LayeredCells(CellStack):
    """Cells in the order of the layers, named ``cells.0``, ``cells.1``, ...

    In a network of as many layers each layer has a cell of its own. In a deeper one, layers next to each other share a
    cell; in a shallower one, cells are left out at equal distances: layer ``l`` of ``L`` has cell ``l * cells // L``.
    """

    cells: tuple[Cell, ...]

    def __post_init__(self) -> None:
        if not self.cells:
            raise GenotypeError("a genotype needs at least one cell, got none")

    def named_cells(self) -> dict[str, Cell]:
        return {f"cells.{layer}": cell for layer, cell in enumerate(self.cells)}

    def cell(self, layer: int, layers: int) -> Cell:
        return self.cells[layer * len(self.cells) // layers]


def reduction_layers(layers: int) -> frozenset[int]:
    """The layers that halve the resolution."""
    return frozenset({layers // 3, 2 * layers // 3})


@dataclass(frozen=True)
class CellGenotype(CellStack):
    """A normal and a reduction cell."""

    normal: Cell
    reduce: Cell

    def named_cells(self) -> dict[str, Cell]:
        return {"normal": self.normal, "reduce": self.reduce}

    def cell(self, layer: int, layers: int) -> Cell:
        return self.reduce if layer in reduction_layers(layers) else self.normal

    def to_json(self) -> dict[str, Any]:
        """``{"normal": [[operation, predecessor], ...], "normal_concat": [...], "reduce": ..., ...}``."""
        parts: dict[str, Any] = {}
        for name, cell in self.named_cells().items():
            parts |= {name: flat_edges(cell), f"{name}_concat": list(cell.concat)}
        return parts

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> CellGenotype:
        """The inverse of :meth:`to_json`; also reads the keys ``*_concate`` of Tiny-RobustBench's files."""
        if not isinstance(value, dict):
            raise GenotypeError(f"expected an object with normal and reduce, got {value!r:.60}")
        known = {f"{cell}{suffix}" for cell in ("normal", "reduce") for suffix in ("", "_concat", "_concate")}
        for key in value:
            if key not in known:
                raise GenotypeError(f"unknown part {key!r:.60}, expected normal, normal_concat, reduce, reduce_concat")
        return cls(_cell_from_json("normal", value), _cell_from_json("reduce", value))

    def __str__(self) -> str:
        parts = (
            f"{name}=[{_print_edges(flat_edges(cell))}], {name}_concat={list(cell.concat)}"
            for name, cell in self.named_cells().items()
        )
        return f"Genotype({', '.join(parts)})"


def _print_edges(edges: list[Any]) -> str:
    if edges and isinstance(edges[0][0], list):
        return ", ".join(f"[{_print_edges(node)}]" for node in edges)
    return ", ".join(f"('{operation}', {predecessor})" for operation, predecessor in edges)


def flat_edges(cell: Cell) -> list[Any]:
    """The edges as one flat list, as published genotypes have it, or else as one list for each node.

    A flat list is unambiguous only if every node has two edges, or if every node reads all inputs and nodes before it;
    the edges of other cells are listed node by node.
    """
    edges = [list(edge) for edge in cell.edges]
    try:
        if split_edges(edges, cell.concat) == cell.nodes:
            return edges
    except GenotypeError:
        pass
    return [[list(edge) for edge in node] for node in cell.nodes]


def split_edges(edges: Sequence[Any], concat: Sequence[int]) -> tuple[Node, ...]:
    """Edges by node, from a flat list (two per node, or all possible ones: CRoZe's 14) or from a list for each node."""
    if edges and all(_is_node(node) for node in edges):
        return tuple(tuple((str(name), int(source)) for name, source, *_ in node) for node in edges)
    for edge in edges:
        if not _is_edge(edge):
            raise GenotypeError(f"edge {edge!r:.60}, expected ('operation', predecessor), or with a weight such as 0.5")
    pairs = [(str(name), int(source)) for name, source, *_ in edges]
    last = max(concat, default=0)
    nodes = last - INPUTS + 1
    if len(pairs) == nodes * (nodes + 3) // 2 and nodes != 1:
        sizes = [INPUTS + i for i in range(nodes)]
    elif len(pairs) % 2 == 0 and len(pairs) >= 2 * nodes:
        sizes = [2] * (len(pairs) // 2)
    else:
        raise GenotypeError(
            f"{len(pairs)} edges for {nodes} nodes (concat reaches node {last}), expected {2 * nodes}"
            f" (two per node) or {nodes * (nodes + 3) // 2} (all)"
        )
    starts = [sum(sizes[:i]) for i in range(len(sizes))]
    return tuple(tuple(pairs[start : start + size]) for start, size in zip(starts, sizes, strict=True))


def _is_edge(value: Any) -> bool:
    """Whether ``value`` is an operation and a predecessor, perhaps with the weight that a program kept of the edge.

    A whole number in place of the weight may be the node that the edge leads to, and is no edge.
    """
    return (
        isinstance(value, list | tuple) and 2 <= len(value) <= 3 and isinstance(value[0], str)
        and _is_whole(value[1]) and (len(value) == 2 or (isinstance(value[2], Real) and not _is_whole(value[2])))
    )  # fmt: skip


def _is_whole(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def _is_node(value: Any) -> bool:
    return isinstance(value, list | tuple) and len(value) > 0 and all(_is_edge(edge) for edge in value)


def _cell_from_json(name: str, value: dict[str, Any]) -> Cell:
    if name not in value:
        raise GenotypeError(f"part '{name}' is missing")
    concat = value.get(f"{name}_concat", value.get(f"{name}_concate"))
    if concat is None:
        raise GenotypeError(f"part '{name}_concat' is missing")
    if not isinstance(value[name], list | tuple):
        raise GenotypeError(f"part '{name}': expected a list of edges, got {value[name]!r:.60}")
    if not isinstance(concat, list | tuple) or not all(map(_is_whole, concat)):
        raise GenotypeError(f"part '{name}_concat': expected a list of node numbers, got {concat!r:.60}")
    try:
        return Cell(split_edges(value[name], concat), tuple(map(int, concat)))
    except GenotypeError as error:
        raise GenotypeError(f"part '{name}': {error}") from None
