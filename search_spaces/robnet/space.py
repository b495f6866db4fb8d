"""The search space of RobNet (Guo et al., CVPR 2020, https://arxiv.org/abs/1911.10695).

A cell has four nodes; each reads both inputs and all nodes before it, 14 edges in all. An edge carries a separable
convolution, a skip connection, their sum, or nothing. A genotype is a list of cells in the order of the layers
(:class:`~search_spaces.cells.genotype.LayeredCells`): RobNet-free has 20 for its 20 layers, RobNet-large repeats one.
The layers that halve the resolution are those of DARTS, whose network this is.

A sampled genotype has 8 cells, one for each layer of the space's standard network, however many layers are built from
it: a search at 8 layers scores all of them, and in a network of 20 layers a cell stands at two or three layers. With
fewer layers than cells, some cells are not built. A subclass with another number of ``cells`` searches another space.

Departures from the published program: batch norms in cells have a scale and a shift, as in all spaces here; those of
the program have none, although it trains the networks. RobNet-free has 5,513,806 parameters here and 5,439,790 there,
at 36 channels and 20 layers. The MACs are equal, 780.2 million. A table that prints 800.4 adds one for each value of a
ReLU and of a norm without a scale, and two for one of the stem's norm.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import cache, lru_cache
from importlib import resources
from typing import TYPE_CHECKING, Any

import numpy as np

from search_spaces.base import Cost, NetworkSpec, SearchSpace, unknown_name
from search_spaces.cells.genotype import INPUTS, Cell, GenotypeError, LayeredCells, Node
from search_spaces.cells.literal import check_length, read_pasted, stripped_text
from search_spaces.cells.notation import LAYERED, canonical_cell, format_compact, parse_stack

if TYPE_CHECKING:
    from search_spaces.cells.network import CellNetwork

NODES = range(INPUTS, INPUTS + 4)
EDGES = tuple((source, target) for target in NODES for source in range(target))
#: The operations of an edge by the code of the published program.
CODES = {"00": (), "01": ("sep_conv_3x3",), "10": ("skip_connect",), "11": ("sep_conv_3x3", "skip_connect")}
NAMES = ("none", *CODES["11"])
_NOTHING = ("none", 0)  # the edge of a node that reads nothing


class RobNetSpace(SearchSpace[LayeredCells]):
    """Cells of four nodes with any of two operations on each of 14 edges, which may differ from layer to layer."""

    name = "robnet"
    default_layers = 8
    cells = 8  # of a sampled genotype

    def sample(self, rng: np.random.Generator) -> LayeredCells:
        """Uniform over the four choices of all edges."""
        drawn = rng.integers(len(CODES), size=(self.cells, len(EDGES))).tolist()
        codes = list(CODES)
        return LayeredCells(tuple(cell_of([codes[choice] for choice in choices]) for choices in drawn))

    def published(self) -> dict[str, LayeredCells]:
        return dict(_published())

    def mutate(self, genotype: LayeredCells, rng: np.random.Generator) -> LayeredCells:
        """Another choice on one edge of one cell; cell, edge and choice are drawn uniformly."""
        place, edge = int(rng.integers(len(genotype.cells))), int(rng.integers(len(EDGES)))
        changed = _changes(genotype, place, edge)
        return changed[rng.integers(len(changed))]

    def crossover(self, a: LayeredCells, b: LayeredCells, rng: np.random.Generator) -> LayeredCells:
        """Takes each cell from one of the parents, at random.

        One parent, drawn at random, determines the number of cells. Those of the other are taken at the same depth.
        """
        shape, other = (a, b) if rng.integers(2) else (b, a)
        count = len(shape.cells)
        from_other = rng.integers(2, size=count).tolist()
        cells = (other.cell(i, count) if taken else shape.cells[i] for i, taken in enumerate(from_other))
        return LayeredCells(tuple(cells))

    def neighbours(self, genotype: LayeredCells) -> Iterator[LayeredCells]:
        """All genotypes with another choice on one edge of one cell: 42 for each cell."""
        for place in range(len(genotype.cells)):
            for edge in range(len(EDGES)):
                yield from _changes(genotype, place, edge)

    def canonical(self, genotype: LayeredCells) -> str:
        """The compact notation of the representative.

        A cell's function does not depend on the order of its nodes, nor on skip connections from a node that reads
        nothing. Cells that are equal for another reason, as where a node is nothing but the copy of an input, have
        different keys.
        """
        return format_compact(LayeredCells(tuple(map(_representative, _checked(genotype).cells))))

    def parse(self, text: str) -> LayeredCells:
        """A genotype from the name of a published network, the compact notation, or the lists of the published program.

        The lists have 14 codes for each cell, ``[['11', '10', ...], ...]``.

        :raises GenotypeError: naming the part that is wrong.
        """
        check_length(text)
        stripped = stripped_text(text)
        if stripped.startswith(LAYERED):
            genotype = parse_stack(stripped)
            assert isinstance(genotype, LayeredCells)
            return _checked(genotype)
        starts = [place for place in map(text.find, "[{") if place >= 0]
        if not starts:
            known = {name.lower(): network for name, network in _published().items()}
            if stripped.lower() not in known:
                names = unknown_name("network", stripped, _published())
                raise GenotypeError(f"{names}; or {LAYERED}..., or a list of 14 codes for each cell")
            return known[stripped.lower()]
        value = read_pasted(text, min(starts))
        if isinstance(value, str):  # of best.json
            return self.parse(value)
        if not isinstance(value, list):
            raise GenotypeError(f"got {value!r:.60}, expected a list of cells")
        return LayeredCells(tuple(cell_of(codes, f"cells.{place}") for place, codes in enumerate(value)))

    def format(self, genotype: LayeredCells) -> str:
        """The compact notation, ``layers:s3.0+sk.0+sk.1|...>2,3,4,5/...``; the published lists are read, too."""
        return format_compact(genotype)

    def count(self, genotype: LayeredCells, path: str) -> int:
        """How many edges carry an operation, in one cell (``cells.3.skip_connect``) or in all (``skip_connect``)."""
        found = genotype.count(path)
        name, _, operation = path.rpartition(".")
        if operation not in NAMES:
            raise ValueError(f"path '{path}': {unknown_name('operation', operation, NAMES)}")
        if operation != "none":
            return found
        cells = [genotype.named_cells()[name]] if name else genotype.cells
        return sum(codes_of(cell).count("00") for cell in cells)

    def encode(self, genotype: LayeredCells) -> np.ndarray:
        """``(cells * 30,)``: for each cell, a bit for each operation on each edge, and how many edges carry each.

        :raises ValueError: a genotype with another number of cells than those that are sampled.
        """
        if len(genotype.cells) != self.cells:
            raise ValueError(f"a genotype of {len(genotype.cells)} cells has no encoding, expected {self.cells}")
        cells = self.parse(self.canonical(genotype)).cells
        bits = np.array([[list(map(int, code)) for code in codes_of(cell)] for cell in cells])
        return np.concatenate([bits, bits.sum(axis=1, keepdims=True)], axis=1, dtype=float).ravel()

    def cost(self, genotype: LayeredCells, spec: NetworkSpec) -> Cost:
        from search_spaces.cells.cost import network_cost

        return network_cost(_checked(genotype), spec)

    def build(self, genotype: LayeredCells, spec: NetworkSpec) -> CellNetwork:
        from search_spaces.cells.network import CellNetwork

        return CellNetwork(_checked(genotype), spec)


def cell_of(codes: Any, name: str = "cell") -> Cell:
    """The cell of 14 codes, in the order of ``EDGES``; an edge without an operation is left out.

    :raises GenotypeError: they are no such codes; the message begins with ``name``.
    """
    right = isinstance(codes, Sequence) and len(codes) == len(EDGES)
    if not right or not all(isinstance(code, str) and code in CODES for code in codes):
        raise GenotypeError(f"part '{name}': got {codes!r:.100}, expected {len(EDGES)} of {', '.join(CODES)}")
    nodes: dict[int, Node] = dict.fromkeys(NODES, ())
    for (source, target), code in zip(EDGES, codes, strict=True):
        nodes[target] += tuple((operation, source) for operation in CODES[code])
    return Cell(tuple(node or (_NOTHING,) for node in nodes.values()), tuple(NODES))


def codes_of(cell: Cell, name: str = "cell") -> list[str]:
    """The inverse of :func:`cell_of`; the order of a node's edges and of the concatenation do not matter.

    :raises GenotypeError: the cell is none of the space; the message begins with ``name``.
    """
    if len(cell.nodes) != len(NODES) or sorted(cell.concat) != list(NODES):
        got = f"{len(cell.nodes)} nodes, concatenated {list(cell.concat)}"
        raise GenotypeError(f"part '{name}': {got:.100}, expected {len(NODES)}, concatenated {list(NODES)}")
    carried: dict[tuple[int, int], set[str]] = {edge: set() for edge in EDGES}
    for target, node in zip(NODES, cell.nodes, strict=True):
        for operation, source in node:
            if operation not in NAMES:
                raise GenotypeError(f"part '{name}': {unknown_name('operation', operation, NAMES)}")
            if operation != "none" and operation in carried[source, target]:
                raise GenotypeError(f"part '{name}': edge ('{operation}', {source}) of node {target} is there twice")
            carried[source, target].add(operation)
    code_of = {frozenset(operations): code for code, operations in CODES.items()}
    return [code_of[frozenset(operations - {"none"})] for operations in carried.values()]


def _checked(genotype: LayeredCells) -> LayeredCells:
    """``genotype``, if it is one of the space, with its edges in the order of ``EDGES`` and without ``none``."""
    return LayeredCells(tuple(cell_of(codes_of(cell, name)) for name, cell in genotype.named_cells().items()))


def _changes(genotype: LayeredCells, place: int, edge: int) -> list[LayeredCells]:
    """``genotype`` with each of the other choices on one edge of one cell."""
    codes = codes_of(genotype.cells[place])
    changed = (cell_of([*codes[:edge], code, *codes[edge + 1 :]]) for code in CODES if code != codes[edge])
    before, after = genotype.cells[:place], genotype.cells[place + 1 :]
    return [LayeredCells((*before, cell, *after)) for cell in changed]


@lru_cache(maxsize=4096)
def _representative(cell: Cell) -> Cell:
    """One cell for all with the same function: without skip connections from nodes whose value is zero."""
    zero: set[int] = set()
    nodes: list[Node] = []
    for number, node in zip(NODES, cell.nodes, strict=True):
        kept = tuple(edge for edge in node if edge != _NOTHING and not (edge[0] == "skip_connect" and edge[1] in zero))
        nodes.append(kept or (_NOTHING,))
        if not kept:
            zero.add(number)
    return canonical_cell(Cell(tuple(nodes), cell.concat))


@cache
def _published() -> dict[str, LayeredCells]:
    text = resources.files("search_spaces.robnet").joinpath("known_networks.json").read_text(encoding="utf-8")
    networks: dict[str, Any] = json.loads(text)["networks"]
    return {
        name: LayeredCells(tuple(cell_of(codes.split(), name) for codes in network["cells"]))
        for name, network in networks.items()
    }
