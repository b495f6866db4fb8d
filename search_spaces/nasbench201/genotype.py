"""``EdgeGenotype``: a NAS-Bench-201 cell as a value, one operation on each edge of a complete graph of four nodes.

NAS-Bench-201 (Dong and Yang, ICLR 2020, https://arxiv.org/abs/2001.00326). Node 0 is the cell's input and node 3 its
output; every node is the sum of its incoming edges. All notations list the edges in the same order, by target and then
by source: 0-1, 0-2, 1-2, 0-3, 1-3, 2-3. The notations are

* the benchmark's text, ``|op~0|+|op~0|op~1|+|op~0|op~1|op~2|``;
* six digits, as NAS-RobBench-201 (Wu et al., ICLR 2024) writes them: 0 none, 1 skip_connect, 2 nor_conv_1x1,
  3 nor_conv_3x3, 4 avg_pool_3x3. The benchmark's ids, 0 to 15624, cannot be computed from the digits: they are
  positions in its own shuffled list;
* JSON and a networkx ``DiGraph``.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

from search_spaces.base import unknown_name
from search_spaces.cells.genotype import GenotypeError
from search_spaces.cells.literal import check_length, check_one, read_pasted, stripped_text

if TYPE_CHECKING:
    import networkx

STAGES = 3  # of the network, each a stack of equal cells
NODES = 4
OUTPUT = NODES - 1
EDGES = tuple((source, target) for target in range(1, NODES) for source in range(target))  # (source, target)

#: In the order of their digits.
OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")

#: A cell's text inside of other text, such as ``Structure(4 nodes with |...|)``.
_CELL = re.compile(r"\|(?:[^|~\s]+~\d\|)+(?:\+\|(?:[^|~\s]+~\d\|)+)+", re.ASCII)
_EXPECTED = "expected |op~0|+|op~0|op~1|+|op~0|op~1|op~2|, six digits from 0 to 4, or JSON"


@dataclass(frozen=True, order=True)
class EdgeGenotype:
    """``operations[i]`` is the operation on the edge ``EDGES[i]``."""

    operations: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(self.operations) != len(EDGES):
            raise GenotypeError(f"{len(self.operations)} operations, expected {len(EDGES)}: one for each edge")
        for (source, target), operation in zip(EDGES, self.operations, strict=True):
            if operation not in OPERATIONS:
                raise GenotypeError(f"edge {source}-{target}: {unknown_name('operation', operation, OPERATIONS)}")

    @property
    def nodes(self) -> tuple[tuple[tuple[str, int], ...], ...]:
        """For each of the nodes 1, 2, 3, its edges as pairs of operation and source."""
        edges = zip(self.operations, EDGES, strict=True)
        grouped = groupby(edges, key=lambda edge: edge[1][1])
        return tuple(tuple((operation, source) for operation, (source, _) in group) for _, group in grouped)

    @property
    def digits(self) -> str:
        """The notation of six digits."""
        return "".join(str(OPERATIONS.index(operation)) for operation in self.operations)

    def count(self, operation: str) -> int:
        """How many edges carry ``operation``."""
        return self.operations.count(operation)

    def to_json(self) -> dict[str, Any]:
        """``{"cell": [[[operation, source]], [[operation, source], ...], ...]}``, a list for each node 1, 2, 3."""
        return {"cell": [[list(edge) for edge in node] for node in self.nodes]}

    @classmethod
    def from_json(cls, value: Any) -> EdgeGenotype:
        """The inverse of :meth:`to_json`."""
        nodes = value.get("cell") if isinstance(value, dict) and len(value) == 1 else None
        if not isinstance(nodes, list) or not all(isinstance(node, list) for node in nodes):
            raise GenotypeError(f'got {json.dumps(value)!r:.60}, expected {{"cell": [[[operation, source]], ...]}}')
        edges = [(target, edge) for target, node in enumerate(nodes, start=1) for edge in node]
        for target, edge in edges:
            if not (isinstance(edge, list) and len(edge) == 2 and isinstance(edge[0], str) and type(edge[1]) is int):
                raise GenotypeError(f"node {target}: edge {edge!r:.60}, expected [operation, source]")
        return _from_edges([(name, source, target) for target, (name, source) in edges])

    def to_networkx(self) -> networkx.DiGraph:
        """Nodes 0 to 3; each edge has its ``operation``. An edge whose operation is ``none`` is left out."""
        import networkx

        graph = networkx.DiGraph()
        graph.add_nodes_from(range(NODES))
        for (source, target), operation in zip(EDGES, self.operations, strict=True):
            if operation != "none":
                graph.add_edge(source, target, operation=operation)
        return graph

    @classmethod
    def from_networkx(cls, graph: networkx.DiGraph) -> EdgeGenotype:
        """The inverse of :meth:`to_networkx`."""
        for edge in graph.edges:
            if edge not in EDGES:
                raise GenotypeError(f"edge {edge!r:.40} of a graph, expected some of {EDGES}")
        return cls(tuple(graph.edges[edge]["operation"] if edge in graph.edges else "none" for edge in EDGES))

    def __str__(self) -> str:
        return "+".join(f"|{'|'.join(f'{name}~{source}' for name, source in node)}|" for node in self.nodes)


def parse(text: str) -> EdgeGenotype:
    """A genotype from the benchmark's text, six digits, or JSON.

    The benchmark's text may stand in other text, such as a line of a log, and the JSON may be that of ``best.json``.

    :raises GenotypeError: naming the part that is wrong.
    """
    check_length(text)
    stripped = stripped_text(text)
    if "{" in text:
        value = read_pasted(text, text.index("{"))
        return parse(value) if isinstance(value, str) else EdgeGenotype.from_json(value)
    if stripped.startswith("|"):
        return _parse_edges(stripped)
    if cells := list(_CELL.finditer(text)):
        check_one([cell.start() for cell in cells])
        return _parse_edges(cells[0][0])
    if not re.fullmatch(f"[0-{len(OPERATIONS) - 1}]{{{len(EDGES)}}}", stripped):
        raise GenotypeError(f"got {stripped!r:.60}, {_EXPECTED}")
    return EdgeGenotype(tuple(OPERATIONS[int(digit)] for digit in stripped))


def _parse_edges(text: str) -> EdgeGenotype:
    edges = []
    for target, node in enumerate(text.split("+"), start=1):
        if not re.fullmatch(r"\|([^|~]+~[0-9]\|)+", node):
            raise GenotypeError(f"node {target} is {node!r:.60}, {_EXPECTED}")
        for edge in node[1:-1].split("|"):
            name, source = edge.split("~")
            edges.append((name, int(source), target))
    return _from_edges(edges)


def _from_edges(edges: list[tuple[str, int, int]]) -> EdgeGenotype:
    """From operation, source and target of each edge, in the order of ``EDGES``."""
    for (_, source, target), expected in zip(edges, EDGES, strict=False):
        if (source, target) != expected:
            raise GenotypeError(f"edge {source}-{target}, expected {expected[0]}-{expected[1]} in its place")
    return EdgeGenotype(tuple(name for name, _, _ in edges))
