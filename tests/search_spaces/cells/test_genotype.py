from __future__ import annotations

import json
import pickle
from typing import Any

import pytest
from hypothesis import given, settings

from search_spaces.cells.genotype import Cell, CellGenotype, GenotypeError
from tests.search_spaces.strategies import cells, genotypes

CELL = Cell(((("sep_conv_3x3", 0), ("skip_connect", 1)), (("max_pool_3x3", 2), ("sep_conv_3x3", 0))), (2, 3))
GENOTYPE = CellGenotype(CELL, Cell(((("none", 0),),), (2,)))


@settings(max_examples=50, deadline=None)
@given(genotypes())
def test_json_comes_back(genotype: CellGenotype) -> None:
    assert CellGenotype.from_json(json.loads(json.dumps(genotype.to_json()))) == genotype


@settings(max_examples=50, deadline=None)
@given(cells())
def test_networkx_comes_back_up_to_order(cell: Cell) -> None:
    back = Cell.from_networkx(cell.to_networkx())
    assert [sorted(node) for node in back.nodes] == [sorted(node) for node in cell.nodes]
    assert list(back.concat) == sorted(cell.concat)
    assert Cell.from_networkx(back.to_networkx()) == back


@settings(max_examples=50, deadline=None)
@given(genotypes())
def test_pickle_comes_back_with_the_same_hash(genotype: CellGenotype) -> None:
    back = pickle.loads(pickle.dumps(genotype))
    assert back == genotype
    assert hash(back) == hash(genotype)


def test_graph_of_a_cell() -> None:
    graph = Cell(((("b", 0), ("a", 0)), (("c", 2),)), (3, 3, 2)).to_networkx()
    assert list(graph.nodes) == [0, 1, 2, 3, "output"]
    assert graph.edges[0, 2] == {"operations": ("a", "b")}
    assert graph.edges[2, 3] == {"operations": ("c",)}
    assert graph.edges[3, "output"] == {"times": 2}
    assert graph.edges[2, "output"] == {"times": 1}
    assert graph.number_of_edges() == 4


def test_a_genotype_prints_as_the_field_writes_it() -> None:
    two = Cell(((("sep_conv_3x3", 0), ("skip_connect", 1)),), (2,))
    assert str(CellGenotype(two, two)) == (
        "Genotype(normal=[('sep_conv_3x3', 0), ('skip_connect', 1)], normal_concat=[2], "
        "reduce=[('sep_conv_3x3', 0), ('skip_connect', 1)], reduce_concat=[2])"
    )
    assert "reduce=[[('none', 0)]]" in str(GENOTYPE)  # a flat list would not say that the node has one edge


def test_count() -> None:
    assert CELL.edges == (("sep_conv_3x3", 0), ("skip_connect", 1), ("max_pool_3x3", 2), ("sep_conv_3x3", 0))
    assert CELL.count("sep_conv_3x3") == 2
    assert GENOTYPE.count("normal.sep_conv_3x3") == 2
    assert GENOTYPE.count("reduce.sep_conv_3x3") == 0
    assert CellGenotype(CELL, CELL).count("sep_conv_3x3") == 4


def test_the_spelling_of_tiny_robustbench_is_read() -> None:
    record = GENOTYPE.to_json()
    record["reduce_concate"] = record.pop("reduce_concat")
    assert CellGenotype.from_json(record) == GENOTYPE


def test_a_flat_list_with_all_edges_is_split_as_croze_means_it() -> None:
    edges = [["skip_connect", source] for node in range(3) for source in range(2 + node)]
    value = {"normal": edges, "normal_concat": [4], "reduce": edges, "reduce_concat": [2, 3, 4]}
    genotype = CellGenotype.from_json(value)
    assert [len(node) for node in genotype.normal.nodes] == [2, 3, 4]
    assert genotype.to_json() == value


@pytest.mark.parametrize(
    ("nodes", "concat", "message"),
    [
        ((), (2,), "at least one node, got none"),
        (((),), (2,), "node 2 needs at least one input edge"),
        (((("a", 0),), ()), (2,), "node 3 needs at least one input edge"),
        (((("a", 2),),), (2,), r"edge \('a', 2\) of node 2: expected a predecessor from 0 to 1"),
        (((("a", -1),),), (2,), r"edge \('a', -1\) of node 2"),
        (((("a", 0),),), (), r"concat must name at least one node, got \[\]"),
        (((("a", 0),),), (3,), "concat names node 3, expected one from 0 to 2"),
    ],
)
def test_cells_that_cannot_be(nodes: Any, concat: Any, message: str) -> None:
    with pytest.raises(GenotypeError, match=message):
        Cell(nodes, concat)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"normal": None}, "part 'normal': expected a list of edges, got None"),
        ({"reduce_concat": 5}, "part 'reduce_concat': expected a list of node numbers, got 5"),
        ({"reduce_concat": [True]}, "part 'reduce_concat': expected a list of node numbers"),
        (
            {"normal": [["a", 0], ["b", True]]},
            r"part 'normal': edge \['b', True\], expected \('operation', predecessor\)",
        ),
        ({"normal": [["a", 0], ["b"]]}, r"part 'normal': edge \['b'\]"),
        ({"normal": [["a", 0]]}, r"part 'normal': 1 edges for 2 nodes \(concat reaches node 3\), expected 4"),
        ({"normal": [["a", 0], ["b", 9]], "normal_concat": [2]}, "part 'normal': edge .* of node 2"),
        ({"normal_concatenation": [2]}, "unknown part 'normal_concatenation', expected normal,"),
    ],
)
def test_json_that_cannot_be(change: dict[str, Any], message: str) -> None:
    with pytest.raises(GenotypeError, match=message):
        CellGenotype.from_json({**CellGenotype(CELL, CELL).to_json(), **change})


@pytest.mark.parametrize("part", ["normal", "reduce", "normal_concat", "reduce_concat"])
def test_json_without_a_part(part: str) -> None:
    value = GENOTYPE.to_json()
    del value[part]
    with pytest.raises(GenotypeError, match=f"part '{part}' is missing"):
        CellGenotype.from_json(value)


def test_json_that_is_no_object() -> None:
    with pytest.raises(GenotypeError, match=r"expected an object with normal and reduce, got \[1\]"):
        CellGenotype.from_json([1])  # type: ignore[arg-type]
