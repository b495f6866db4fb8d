"""The text notations of genotypes of cells, and their canonical key.

The published text notation, ``Genotype(...)``, is parsed and never executed. The compact notation, one line of about
100 characters, is the canonical key. In it ``|`` separates the nodes of a cell and ``+`` the edges of a node, which are
written ``operation.predecessor``; after ``>`` come the concatenated nodes; a slash separates the cells, and ``layers:``
stands before those of a :class:`~search_spaces.cells.genotype.LayeredCells`::

    s3.0+s3.1|s3.0+s3.1|s3.1+sk.0|d3.2+sk.0>2,3,4,5/mp.0+mp.1|...>2,3,4,5
"""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from typing import Any

from search_spaces.cells.genotype import INPUTS, Cell, CellGenotype, CellStack, GenotypeError, LayeredCells, Node

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


def parse(text: str) -> CellGenotype:
    """A normal and a reduction cell from the published text notation, from JSON, or from the compact notation.

    :raises GenotypeError: naming the part that is wrong.
    """
    stripped = text.strip()
    try:
        if stripped.startswith("{"):
            return CellGenotype.from_json(_parse_json(stripped))
        if "(" in stripped:
            return CellGenotype.from_json(_parse_call(stripped))
        if "/" in stripped:
            return parse_compact(stripped)
    except RecursionError:
        raise GenotypeError(f"nested too deeply: {stripped!r:.60}") from None
    raise GenotypeError(f"got {stripped!r:.60}, expected Genotype(normal=[...], ...), JSON, or a canonical key")


def parse_stack(text: str) -> CellStack:
    """A genotype of cells from any of the notations.

    :raises GenotypeError: naming the part that is wrong.
    """
    layered = text.strip().removeprefix(LAYERED)
    if layered != text.strip():
        return LayeredCells(tuple(_parse_cell(cell) for cell in layered.split("/")))
    return parse(text)


def _parse_json(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise GenotypeError(f"JSON at character {error.pos}: {error.msg}") from None
    except ValueError as error:  # a number with thousands of digits
        raise GenotypeError(f"JSON: {error}") from None


def _parse_call(text: str) -> dict[str, Any]:
    """The keyword arguments of ``Genotype(...)`` as plain values."""
    try:
        call = ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError, MemoryError) as error:
        where = f" at character {error.offset}" if isinstance(error, SyntaxError) and error.offset else ""
        raise GenotypeError(f"not a readable Genotype(...){where}: {text!r:.60}") from None
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name) or call.func.id != "Genotype":
        raise GenotypeError(f"got {text!r:.60}, expected Genotype(normal=[...], ...)")
    if call.args or any(keyword.arg is None for keyword in call.keywords):
        raise GenotypeError(f"got an argument without a name, expected normal=, normal_concat=, ...: {text!r:.60}")
    parts: dict[str, Any] = {}
    for keyword in call.keywords:
        name = str(keyword.arg)
        if name in parts:
            raise GenotypeError(f"part '{name}' is there twice")
        parts[name] = _literal(name, keyword.value)
    return parts


def _literal(name: str, node: ast.expr) -> Any:
    """The value of a literal, of ``range(...)``, or of ``list(range(...))``."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords:
        if node.func.id in ("list", "tuple") and len(node.args) == 1:
            return _literal(name, node.args[0])
        if node.func.id == "range" and 1 <= len(node.args) <= 3:
            bounds = [_literal(name, argument) for argument in node.args]
            if all(type(bound) is int and abs(bound) < 1000 for bound in bounds) and bounds[2:] != [0]:
                return list(range(*bounds))
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError):
        raise GenotypeError(f"part '{name}': expected a list, got {ast.unparse(node)!r:.60}") from None


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
    """The representative of a cell; see :func:`canonical_form`."""
    return min(_least_orders(cell, {0: 0, 1: 1}, ()), key=lambda each: (each.nodes, each.concat))


def _least_orders(cell: Cell, numbers: dict[int, int], placed: tuple[Node, ...]) -> Iterator[Cell]:
    """The cells that can have the least sequence of nodes: a greedy search that branches only where nodes are equal.

    ``numbers`` maps the old numbers of the nodes already placed to their new ones.
    """
    if len(placed) == len(cell.nodes):
        yield Cell(placed, tuple(sorted(numbers[entry] for entry in cell.concat)))
        return
    ready = {
        old: tuple(sorted((operation, numbers[source]) for operation, source in node))
        for old, node in enumerate(cell.nodes, start=INPUTS)
        if old not in numbers and all(source in numbers for _, source in node)
    }
    least = min(ready.values())
    for old in (old for old, node in ready.items() if node == least):
        yield from _least_orders(cell, {**numbers, old: INPUTS + len(placed)}, (*placed, least))
