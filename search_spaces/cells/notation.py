"""The text notations of genotypes of cells, and their canonical key.

The published text notation, ``Genotype(...)``, is parsed and never executed. The compact notation, one line of about
100 characters, is the canonical key. In it ``|`` separates the nodes of a cell and ``+`` the edges of a node, which are
written ``operation.predecessor``; after ``>`` come the concatenated nodes; a slash separates the cells, and ``layers:``
stands before those of a :class:`~search_spaces.cells.genotype.LayeredCells`::

    s3.0+s3.1|s3.0+s3.1|s3.1+sk.0|d3.2+sk.0>2,3,4,5/mp.0+mp.1|...>2,3,4,5
"""

from __future__ import annotations

import re

from search_spaces.cells.genotype import INPUTS, Cell, CellGenotype, CellStack, Edge, GenotypeError, LayeredCells, Node
from search_spaces.cells.literal import check_length, check_one, read_pasted, stripped_text

#: Names in the compact notation. Stored runs depend on them: never change one.
SHORT_NAMES = {
    "none": "no",
    "max_pool_3x3": "mp",
    "avg_pool_3x3": "ap",
    "skip_connect": "sk",
    "sep_conv_3x3": "s3",
    "sep_conv_5x5": "s5",
    "sep_conv_7x7": "s7",
    "dil_conv_3x3": "d3",
    "dil_conv_5x5": "d5",
    "conv_7x1_1x7": "c7",
}
_LONG_NAMES = {short: name for name, short in SHORT_NAMES.items()}
LAYERED = "layers:"
MOST_ORDERS = 2000  # of equal nodes that a cell's canonical form compares
_CALL = re.compile(r"(?:\b|(?<=m))Genotype\s*\(")  # m: the end of a terminal's colour code


def parse(text: str) -> CellGenotype:
    """A normal and a reduction cell from the published text notation, from JSON, or from the compact notation.

    The text may be a line of code or of a log that holds the genotype, the text of a Python dictionary, or the content
    of ``best.json``. It is never executed.

    :raises GenotypeError: naming the part that is wrong, or the character at which something else was expected.
    """
    check_length(text)
    stripped = stripped_text(text)
    calls = [] if stripped.startswith("{") else [call.start() for call in _CALL.finditer(text)]
    check_one(calls)
    if calls or "{" in text:
        value = read_pasted(text, calls[0] if calls else text.index("{"))
        return parse(value) if isinstance(value, str) else CellGenotype.from_json(value)
    if "/" in stripped and ">" in stripped:
        return parse_compact(stripped)
    raise GenotypeError(f"got {stripped!r:.60}, expected Genotype(normal=[...], ...), JSON, or a canonical key")


def parse_stack(text: str) -> CellStack:
    """A genotype of cells from any of the notations.

    :raises GenotypeError: naming the part that is wrong.
    """
    check_length(text)
    stripped = stripped_text(text)
    layered = stripped.removeprefix(LAYERED)
    if layered != stripped:
        return LayeredCells(tuple(_parse_cell(cell) for cell in layered.split("/")))
    return parse(text)


def format_compact(genotype: CellStack) -> str:
    """The compact notation of a genotype; nodes and edges keep their order."""
    layered = LAYERED if isinstance(genotype, LayeredCells) else ""
    return layered + "/".join(_format_cell(cell) for cell in genotype.named_cells().values())


def _format_cell(cell: Cell) -> str:
    return f"{'|'.join(_format_node(node) for node in cell.nodes)}>{','.join(map(str, cell.concat))}"


def _format_node(node: Node) -> str:
    return "+".join(f"{SHORT_NAMES[operation]}.{predecessor}" for operation, predecessor in node)


def parse_compact(text: str) -> CellGenotype:
    """The inverse of :func:`format_compact` for a normal and a reduction cell."""
    cells = text.split("/")
    if len(cells) != 2:
        raise GenotypeError(f"{len(cells)} cells in {text!r:.60}, expected 2 (normal/reduce)")
    return CellGenotype(*(_parse_cell(cell) for cell in cells))


def _parse_cell(text: str) -> Cell:
    body, _, concat = text.partition(">")
    entries = concat.split(",")
    if not all(_is_number(entry) for entry in entries):
        raise GenotypeError(f"concat {concat!r:.40} in {text!r:.60}, expected node numbers after '>'")
    return Cell(tuple(_parse_node(node) for node in body.split("|")), tuple(int(entry) for entry in entries))


def _parse_node(text: str) -> Node:
    edges = []
    for edge in text.split("+"):
        short, _, predecessor = edge.partition(".")
        if short not in _LONG_NAMES or not _is_number(predecessor):
            raise GenotypeError(f"edge {edge!r:.40}, expected operation.predecessor such as s3.0")
        edges.append((_LONG_NAMES[short], int(predecessor)))
    return tuple(edges)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) < 5


def canonical_form(genotype: CellGenotype) -> CellGenotype:
    """One genotype that represents all genotypes that build the same function.

    A cell's function does not depend on the order of a node's edges, of ``concat`` (the weights of the convolution that
    reads it are independent draws), and of the nodes. The representative has the least sequence of nodes.
    """
    return CellGenotype(canonical_cell(genotype.normal), canonical_cell(genotype.reduce))


def canonical_cell(cell: Cell) -> Cell:
    """The representative of a cell; see :func:`canonical_form`.

    Places one node after the other, each time the least that reads placed nodes only. Where nodes are equal so far, all
    of them are tried, unless they are also read in the same way: then the one that ``concat`` names most often comes
    first, which gives the least ``concat``.

    :raises GenotypeError: more than ``MOST_ORDERS`` orders of equal nodes would have to be compared.
    """
    readers = _readers(cell)
    orders: list[dict[int, int]] = [{0: 0, 1: 1}]  # each maps the old numbers of placed nodes to their new ones
    placed: list[Node] = []
    for number in range(INPUTS, INPUTS + len(cell.nodes)):
        ready = [_ready_nodes(cell, numbers) for numbers in orders]
        least = min(node for nodes in ready for node in nodes.values())
        following = []
        for numbers, nodes in zip(orders, ready, strict=True):
            chosen: dict[Node, int] = {}
            for old in sorted((old for old, node in nodes.items() if node == least), key=cell.concat.count):
                chosen[readers[old]] = old
            following += [{**numbers, old: number} for old in chosen.values()]
        if len(following) > MOST_ORDERS:
            raise GenotypeError(f"a cell with more than {MOST_ORDERS:,} orders of equal nodes: {cell!r:.60}")
        orders = following
        placed.append(least)
    return Cell(tuple(placed), min(tuple(sorted(numbers[each] for each in cell.concat)) for numbers in orders))


def _readers(cell: Cell) -> dict[int, Node]:
    """For each node, the nodes that read it, each with the operation through which it does."""
    readers: dict[int, list[Edge]] = {number: [] for number in range(INPUTS + len(cell.nodes))}
    for number, node in enumerate(cell.nodes, start=INPUTS):
        for operation, source in node:
            readers[source].append((operation, number))
    return {number: tuple(sorted(edges)) for number, edges in readers.items()}


def _ready_nodes(cell: Cell, numbers: dict[int, int]) -> dict[int, Node]:
    """By old number, the nodes that can be placed next, their edges sorted and with new numbers."""
    return {
        old: tuple(sorted((operation, numbers[source]) for operation, source in node))
        for old, node in enumerate(cell.nodes, start=INPUTS)
        if old not in numbers and all(source in numbers for _, source in node)
    }
