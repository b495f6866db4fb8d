from __future__ import annotations

import contextlib
import json
from collections.abc import Callable

import networkx
import pytest
from hypothesis import event, example, given, settings
from hypothesis import strategies as st

from search_spaces.cells.genotype import Cell, CellGenotype, GenotypeError
from search_spaces.cells.notation import (
    SHORT_NAMES,
    canonical_form,
    format_compact,
    parse,
    parse_compact,
)
from search_spaces.cells.operations import OPERATIONS
from search_spaces.darts.known_cells import known_cells
from tests.search_spaces.strategies import (
    genotypes,
    pairs_of_one_function,
    pairs_of_small_cells,
)


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
        ("Genotype(normal=[('a', 0)", r"not a readable Genotype\(...\)"),
        ("\0(", r"not a readable Genotype\(...\)"),
        ("__import__('os').system('true')", r"expected Genotype\(normal=\[...\], ...\)"),
        ("os.Genotype()", r"expected Genotype\(normal="),
        ("Genotype([('a', 0)])", "an argument without a name"),
        ("Genotype(**normal)", "an argument without a name"),
        ("Genotype()", "part 'normal' is missing"),
        (call(more=", normal=[]"), "part 'normal' is there twice"),
        (call(more=", extra=1"), "unknown part 'extra'"),
        (call(normal="edges"), "part 'normal': expected a list, got 'edges'"),
        (call(normal="{[]: 1}"), "part 'normal': expected a list, got '{"),
        (call(normal="open('x')"), "part 'normal': expected a list, got \"open"),
        (call(normal="7"), "part 'normal': expected a list of edges, got 7"),
        (call(normal="[('a', 0), 'b']"), "part 'normal': edge 'b', expected"),
        (call(normal="[('a', 0), ('b', 5)]"), r"part 'normal': edge \('b', 5\) of node 2: expected a predecessor"),
        (call(normal="[('a', 0)]"), "part 'normal': 1 edges for 1 nodes"),
        (call(normal="[]"), "part 'normal': 0 edges"),
        (call(concat="range(10 ** 9)"), r"part 'normal_concat': expected a list, got '10 \*\* 9'"),
        (call(concat="range(10000)"), "part 'normal_concat': expected a list, got 'range"),
        (call(concat="range(2, 4, 0)"), "part 'normal_concat': expected a list, got 'range"),
        (call(concat="['2']"), "part 'normal_concat': expected a list of node numbers"),
        (call(concat="[]"), "part 'normal': concat must name at least one node"),
        (call(normal="1" + "+1" * 5000), "nested too deeply|not a readable"),
        ("{", "JSON at character 1"),
        ('{"normal": [["a", 0]]', "JSON at character 21"),
        ('{"normal": ' + "1" * 5000 + "}", "JSON: |part 'normal'"),
        ('{"normal": ' + "[" * 200_000, "nested too deeply|JSON at"),
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
        ("/", "concat '' in ''"),
    ],
)  # fmt: skip
def test_malformed_text_says_what_is_wrong(text: str, message: str) -> None:
    with pytest.raises(GenotypeError, match=message):
        parse(text)


PIECES = [*"()=[],0{}:/>|-", '"', "Genotype", "normal", "'s3'", "s3.0"]


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


def test_the_two_cells_of_a_genotype_do_not_mix() -> None:
    a, b = Cell(((("skip_connect", 0),),), (2,)), Cell(((("skip_connect", 1),),), (2,))
    assert len({canonical_form(CellGenotype(*pair)) for pair in ((a, a), (a, b), (b, a), (b, b))}) == 4
