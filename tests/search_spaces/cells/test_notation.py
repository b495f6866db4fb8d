from __future__ import annotations

import contextlib
import itertools
import json
import re
import time
from collections.abc import Callable

import networkx
import numpy as np
import pytest
from hypothesis import event, example, given, settings
from hypothesis import strategies as st

from search_spaces.cells.genotype import Cell, CellGenotype, GenotypeError
from search_spaces.cells.notation import (
    SHORT_NAMES,
    canonical_cell,
    canonical_form,
    format_compact,
    parse,
    parse_compact,
)
from search_spaces.cells.operations import OPERATIONS
from search_spaces.darts.known_cells import known_cells
from tests.search_spaces.strategies import cells, genotypes, pairs_of_one_function, pairs_of_small_cells


def compact_json(genotype: CellGenotype) -> str:
    return json.dumps(genotype.to_json())


NOTATIONS = [str, format_compact, compact_json]


@pytest.mark.parametrize("notation", NOTATIONS)
@settings(max_examples=50, deadline=None)
@given(genotype=genotypes())
def test_every_notation_comes_back(notation: Callable[[CellGenotype], str], genotype: CellGenotype) -> None:
    assert parse(f"  {notation(genotype)}\n") == genotype


@pytest.mark.parametrize("notation", NOTATIONS)
@pytest.mark.parametrize("name", known_cells())
def test_every_notation_of_published_cells_comes_back(name: str, notation: Callable[[CellGenotype], str]) -> None:
    genotype = known_cells()[name]
    assert parse(notation(genotype)) == genotype


def test_compact_notation() -> None:
    normal = Cell(((("sep_conv_3x3", 0), ("skip_connect", 1)), (("dil_conv_5x5", 2),)), (2, 3))
    genotype = CellGenotype(normal, Cell(((("none", 1),),), (2, 2)))
    assert format_compact(genotype) == "s3.0+sk.1|d5.2>2,3/no.1>2,2"
    assert parse_compact("s3.0+sk.1|d5.2>2,3/no.1>2,2") == genotype


def test_every_operation_has_a_short_name() -> None:
    assert set(SHORT_NAMES) == set(OPERATIONS)
    assert len(set(SHORT_NAMES.values())) == len(SHORT_NAMES)


@pytest.mark.parametrize("concat", ["[2, 3]", "(2, 3)", "range(2, 4)", "list(range(2, 4))", "list(range(2, 4, 1))"])
def test_ways_of_writing_concat(concat: str) -> None:
    edges = "[('a', 0), ('b', 1), ('c', 0), ('d', 2)]"
    text = f"Genotype(normal={edges}, normal_concat={concat}, reduce={edges}, reduce_concat={concat})"
    assert parse(text).normal.concat == (2, 3)


def call(normal: str = "[('a', 0), ('b', 1)]", concat: str = "[2]", more: str = "") -> str:
    return f"Genotype(normal={normal}, normal_concat={concat}, reduce=[('a', 0), ('b', 1)], reduce_concat=[2]{more})"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"got '', expected Genotype\(normal="),
        ("DARTS_V2", "got 'DARTS_V2', expected Genotype"),
        ("Genotype(normal=[('a', 0)", r"character 26: the text ends, expected ',' or '\]'"),
        ("\0(", "got .*, expected Genotype"),
        ("__import__('os').system('true')", r"expected Genotype\(normal=\[...\], ...\)"),
        ("os.Genotype()", "part 'normal' is missing"),
        ("Genotype([('a', 0)])", "an argument without a name"),
        ("Genotype(**normal)", r"character 10: found '\*\*normal\)', expected a list"),
        ("Genotype()", "part 'normal' is missing"),
        (call(more=", normal=[]"), "part 'normal' is there twice"),
        (call(more=", extra=1"), "unknown part 'extra'"),
        (call(normal="edges"), "character 17: found .edges, normal.*, expected a list"),
        (call(normal="{[]: 1}"), "character 18: found .*, expected a name in quotation marks"),
        (call(normal="open('x')"), "character 17: found \"open.*, expected a list"),
        (call(normal="7"), "part 'normal': expected a list of edges, got 7"),
        (call(normal="[('a', 0), 'b']"), "part 'normal': edge 'b', expected"),
        (call(normal="[('a', 0), ('b', 5)]"), r"part 'normal': edge \('b', 5\) of node 2: expected a predecessor"),
        (call(normal="[('a', 0)]"), "part 'normal': 1 edges for 1 nodes"),
        (call(normal="[]"), "part 'normal': 0 edges"),
        (call(concat="range(10 ** 9)"), r"character 62: found .\*\* 9\).*, expected ',' or '\)'"),
        (call(concat="range(10000)"), r"character 53: range\(\[10000\]\), expected one such as range\(2, 6\)"),
        (call(concat="range(2, 4, 0)"), r"character 53: range\(\[2, 4, 0\]\), expected one such"),
        (call(concat="['2']"), "part 'normal_concat': expected a list of node numbers"),
        (call(concat="[]"), "part 'normal': concat must name at least one node"),
        (call(normal="1" + "+1" * 5000), r"character 18: found .\+1"),
        (call(normal="[" * 5000), "character 36: found .*, expected at most 20 levels of brackets"),
        (call(normal="np.array(" * 5000), "expected at most 20 levels of brackets"),
        (call(normal="[('a', 0, 2)]"), r"part 'normal': edge \['a', 0, 2\], expected .*a weight such as 0.5"),
        (call(normal="[('a', True)]"), r"part 'normal': edge \['a', True\]"),
        (call(normal="[('a', np.int64(0, 1))]"), "character 24: int64 of 2 values, expected one"),
        (call(normal="[('a', np.int64)]"), "character 24: found .np.int64"),
        (call() + " x", "character .*: found ' x' after the genotype"),
        (f"{call()}\n{call()}", r"genotypes at the characters 1 and \d+, expected one"),
        (call(normal=" " * 100_000), "a text of 100,.* characters, expected at most 100,000"),
        (call(normal=f"[{'(0, 1), ' * 5000}]"), "edge"),
        (call(normal=f"[{'[' + 40 * '(1, 1), ' + '],'}]"), "edge"),
        ("{", "character 2: the text ends, expected a name in quotation marks"),
        ('{"normal": [["a", 0]]', "character 22: the text ends, expected ',' or '}'"),
        ('{"normal": [], "normal": []}', "character 16: part 'normal' is there twice"),
        ('{"normal": ' + "1" * 5000 + "}", "character 12: found .*, expected a number of at most 20 digits"),
        ('{"normal": ' + "[" * 50_000, "at most 20 levels of brackets"),
        ("{}", "part 'normal' is missing"),
        ("s3.0>2", "expected Genotype"),
        ("s3.0>2/s3.0>2/s3.0>2", "3 cells in .*, expected 2"),
        ("s3.0>2/s9.0>2", "edge 's9.0', expected operation.predecessor such as s3.0"),
        ("s3.0>2/s3>2", "edge 's3', expected"),
        ("s3.0>2/s3.-1>2", "edge 's3.-1', expected"),
        ("s3.0>2/s3." + "9" * 5000 + ">2", "edge 's3.999"),
        ("s3.0>2/s3.0", "concat '' in 's3.0', expected node numbers after '>'"),
        ("s3.0>2/s3.0>x", "concat 'x' in"),
        ("s3.0>2/s3.2>2", "edge .* of node 2"),
        ("s3.0>2/s3.0>3", "concat names node 3"),
        ("/", "got '/', expected Genotype"),
        ("s3.0>2/" + "|".join(["s3.0"] * 101) + ">2", "a cell has at most 100 nodes, got 101"),
        ("s3.0>2/" + "+".join(["s3.0"] * 1001) + ">2", "a cell has at most 1000 edges, got 1001"),
    ],
)  # fmt: skip
def test_malformed_text_says_what_is_wrong(text: str, message: str) -> None:
    with pytest.raises(GenotypeError, match=message):
        parse(text)


PASTED = (
    "Genotype(normal=[('skip_connect', 0), ('sep_conv_3x3', 1)], normal_concat=range(2, 3),"
    " reduce=[('max_pool_3x3', 1), ('none', 0)], reduce_concat=range(2, 3))"
)


@pytest.mark.parametrize(
    "text",
    [
        f"11/26 10:00:00 AM genotype = {PASTED}",
        f"[2026-11-26 10:00:00,123] (INFO) best \x1b[1m{PASTED}\x1b[0m\n",
        f"genotypes.{PASTED}",
        f"DARTS = {PASTED};  # 97 %",
        f"print({PASTED})",
        f"\ufeff{PASTED}\u200b",
        PASTED.replace(", ('", ",\n    ('"),
        re.sub(r"(\d)([,)])", r"np.int64(\1)\2", PASTED),
        re.sub(r"', (\d)\)", r"', tensor(\1, device='cuda:0'), 0.25)", PASTED),
        re.sub(r"', (\d)\)", r"', \1, np.float32(-1.5e-3))", PASTED),
        PASTED.replace("range(2, 3)", "np.array([2], dtype=int64)"),
        str(parse(PASTED).to_json()),
        f"genotype: {parse(PASTED).to_json()}",
        json.dumps(parse(PASTED).to_json(), indent=2),
        json.dumps({"id": 3, "key": "x", "genotype": PASTED, "scores": {"robust": -1.5e3}, "front": None}),
    ],
)
def test_genotypes_are_read_as_people_paste_them(text: str) -> None:
    normal, reduce = ("skip_connect", 0), ("max_pool_3x3", 1)
    assert parse(text) == CellGenotype(
        Cell(((normal, ("sep_conv_3x3", 1)),), (2,)), Cell(((reduce, ("none", 0)),), (2,))
    )


def test_numbers_of_numpy_in_json_values() -> None:
    edges = [("a", np.int64(0), np.float32(0.5)), ("b", np.int64(1), 0.5)]
    parts = {"normal": edges, "normal_concat": [np.int64(2)], "reduce": edges, "reduce_concat": [2]}
    genotype = CellGenotype.from_json(parts)
    assert genotype.normal == Cell(((("a", 0), ("b", 1)),), (2,)) and json.dumps(genotype.to_json())


PIECES = [*"()=[],0{}:/>|-#", '"', "Genotype", "normal", "'s3'", "s3.0", "np.int64", "range", "\ufeff", "1e999"]


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.text(), st.lists(st.sampled_from(PIECES), max_size=12).map("".join)))
@example("\ud800(")
def test_any_text_is_a_genotype_or_a_genotype_error(text: str) -> None:
    with contextlib.suppress(GenotypeError):
        assert isinstance(parse(text), CellGenotype)


@settings(max_examples=100, deadline=None)
@given(genotypes())
def test_the_canonical_form_is_its_own(genotype: CellGenotype) -> None:
    form = canonical_form(genotype)
    assert canonical_form(form) == form


@settings(max_examples=100, deadline=None)
@given(pairs_of_one_function())
def test_relabelled_genotypes_have_one_canonical_form(pair: tuple[CellGenotype, CellGenotype]) -> None:
    assert canonical_form(pair[0]) == canonical_form(pair[1])


def isomorphic(a: Cell, b: Cell) -> bool:
    """networkx' word: as graphs with named ends and with operations on their edges."""
    graphs = [a.to_networkx(), b.to_networkx()]
    for graph in graphs:
        for node in graph:
            graph.nodes[node]["end"] = node if node in (0, 1, "output") else None
    same: bool = networkx.is_isomorphic(*graphs, node_match=dict.__eq__, edge_match=dict.__eq__)
    return same


@settings(max_examples=200, deadline=None)
@given(pairs_of_small_cells())
def test_canonical_forms_are_equal_if_and_only_if_the_graphs_are_isomorphic(pair: tuple[Cell, Cell]) -> None:
    a, b = (canonical_form(CellGenotype(cell, cell)) for cell in pair)
    event(f"isomorphic: {a == b}")
    assert (a == b) == isomorphic(*pair)


def least_of_all_orders(cell: Cell) -> Cell:
    """The definition: of all orders of the nodes that respect the edges, the one with the least nodes and concat."""
    found = []
    for order in itertools.permutations(range(2, 2 + len(cell.nodes))):
        numbers = {0: 0, 1: 1} | {old: new for new, old in enumerate(order, start=2)}
        nodes = tuple(
            tuple(sorted((operation, numbers[source]) for operation, source in cell.nodes[old - 2])) for old in order
        )
        if all(source < new for new, node in enumerate(nodes, start=2) for _, source in node):
            found.append(Cell(nodes, tuple(sorted(numbers[entry] for entry in cell.concat))))
    return min(found, key=lambda each: (each.nodes, each.concat))


@settings(max_examples=200, deadline=None)
@given(cells(operations=("skip_connect", "sep_conv_3x3"), max_nodes=5, max_edges=2))
def test_the_canonical_form_is_the_least_of_all_orders(cell: Cell) -> None:
    assert canonical_cell(cell) == least_of_all_orders(cell)


def test_equal_nodes_have_their_key_at_once() -> None:
    node = (("sep_conv_3x3", 0), ("skip_connect", 1))
    equal = Cell((node,) * 12, tuple(range(2, 14)))
    named = Cell((node,) * 12, (13, *range(2, 14)))
    pairs = Cell((node,) * 6 + tuple((("skip_connect", 2 + i),) for i in range(6)), tuple(range(13, 7, -1)))
    started = time.perf_counter()
    assert canonical_cell(equal) == Cell((node,) * 12, tuple(range(2, 14)))
    assert canonical_cell(named) == Cell((node,) * 12, (2, *range(2, 14)))
    assert canonical_cell(pairs) == Cell(pairs.nodes, tuple(range(8, 14)))
    assert time.perf_counter() - started < 5  # seconds, on a busy machine; one order after the other would take hours


def test_too_many_equal_orders_are_refused() -> None:
    node = (("sep_conv_3x3", 0),)
    cell = Cell((node,) * 20 + tuple((("skip_connect", 2 + i),) for i in range(20)), (2,))
    with pytest.raises(GenotypeError, match="a cell with more than 2,000 orders of equal nodes"):
        canonical_cell(cell)


def test_the_two_cells_of_a_genotype_do_not_mix() -> None:
    a, b = Cell(((("skip_connect", 0),),), (2,)), Cell(((("skip_connect", 1),),), (2,))
    assert len({canonical_form(CellGenotype(*pair)) for pair in ((a, a), (a, b), (b, a), (b, b))}) == 4
