from __future__ import annotations

import json
from collections import Counter
from itertools import product

import numpy as np
import pytest

from search_spaces.base import NetworkSpec
from search_spaces.cells.genotype import GenotypeError
from search_spaces.nasbench201.genotype import EDGES, OPERATIONS, EdgeGenotype
from search_spaces.nasbench201.space import NasBench201Space

SPACE = NasBench201Space()
PUBLISHED = NetworkSpec(channels=16, layers=15)
SMALL = NetworkSpec(channels=2, layers=3, classes=3)
CELLS = [EdgeGenotype(operations) for operations in product(OPERATIONS, repeat=len(EDGES))]

#: A usual cell; one whose node 1 is zero and read by every operation; convolutions that reach nothing; zero itself.
LITERAL = ["321403", "341023", "012234", "030214", "022113", "000200", "300000", "300020", "444444", "111111", "333333"]


def cell(digits: str) -> EdgeGenotype:
    return SPACE.parse(digits)


# Notations


def test_the_text_of_the_benchmark() -> None:
    """The first architecture of NAS-Bench-201 and of NAS-RobBench-201's list."""
    text = "|avg_pool_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+|nor_conv_1x1~0|skip_connect~1|skip_connect~2|"
    assert SPACE.parse(text) == cell("421211")
    assert SPACE.format(cell("421211")) == text
    assert cell("421211").digits == "421211"


def test_all_notations_come_back() -> None:
    for genotype in CELLS[::97]:
        assert SPACE.parse(genotype.digits) == SPACE.parse(str(genotype)) == genotype
        assert SPACE.parse(json.dumps(genotype.to_json())) == genotype
        assert EdgeGenotype.from_networkx(genotype.to_networkx()) == genotype


@pytest.mark.parametrize(
    "text",
    [
        "Structure(4 nodes with |avg_pool_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+|none~0|none~1|nor_conv_3x3~2|)",
        "\ufeff10:00 the best: |avg_pool_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+|none~0|none~1|nor_conv_3x3~2| 93.5 %",
        str(cell("421003").to_json()),
        json.dumps({"id": 3, "genotype": str(cell("421003")), "genotype_json": cell("421003").to_json()}),
        "\ufeff421003",
    ],
)
def test_genotypes_are_read_as_people_paste_them(text: str) -> None:
    assert SPACE.parse(text) == cell("421003")


def test_json_and_graph_by_hand() -> None:
    genotype = cell("103040")
    assert genotype.to_json() == {
        "cell": [
            [["skip_connect", 0]],
            [["none", 0], ["nor_conv_3x3", 1]],
            [["none", 0], ["avg_pool_3x3", 1], ["none", 2]],
        ]
    }
    graph = genotype.to_networkx()
    assert list(graph) == [0, 1, 2, 3]
    edges = {(0, 1): "skip_connect", (1, 2): "nor_conv_3x3", (1, 3): "avg_pool_3x3"}
    assert {edge: graph.edges[edge]["operation"] for edge in graph.edges} == edges


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("12345", "got '12345', expected .* six digits"),
        ("123455", "got '123455'"),
        ("|none~0|", r"1 operations, expected 6"),
        ("|none~0|+|none~0|none~1|+|none~0|none~1|nor_conv_5x5~2|", "edge 2-3: unknown operation 'nor_conv_5x5'; did"),
        ("|none~0|+|none~1|none~0|+|none~0|none~1|none~2|", "edge 1-2, expected 0-2 in its place"),
        ("|none~0|+|none~0|+|none~0|none~1|none~2|", "edge 0-3, expected 1-2 in its place"),
        ("|none~0|+|none~0|none|+|none~0|none~1|none~2|", r"node 2 is '\|none~0\|none\|', expected"),
        ("|none~0|+|none~0|none~1|+|none~0|none~1|none~2|+|none~0|", "7 operations, expected 6"),
        ('{"cell": 3}', r'got .*"cell": 3.*, expected .*"cell"'),
        ('{"cell": [[["none", 0]]]}', "1 operations, expected 6"),
        ('{"cell": [[["none", "0"]]]}', "node 1: edge .*'0'.*, expected .operation, source"),
        ('{"normal": []}', "got .*normal"),
        ("{", "character 2: the text ends, expected a name in quotation marks"),
        ('{"cell": ' + "9" * 5000 + "}", "character 10: found .*, expected a number of at most 20 digits"),
        ('{"cell": ' + "[" * 5000, "at most 20 levels of brackets"),
        ("found " + 2 * "|none~0|+|none~0|none~1|+|none~0|none~1|none~2| ", "genotypes at the characters 7 and 55"),
    ],
)
def test_what_cannot_be_parsed(text: str, message: str) -> None:
    with pytest.raises(GenotypeError, match=message):
        SPACE.parse(text)


def test_count() -> None:
    assert SPACE.count(cell("321133"), "cell.nor_conv_3x3") == SPACE.count(cell("321133"), "nor_conv_3x3") == 3
    for path, message in (("normal.none", "unknown cell 'normal'"), ("cell.skip", "unknown operation 'skip'")):
        with pytest.raises(ValueError, match=message):
            SPACE.count(cell("000000"), path)


# Search


def test_samples_are_uniform() -> None:
    generator = np.random.default_rng(0)
    samples = [SPACE.sample(generator) for _ in range(2000)]
    for edge in range(6):
        counts = Counter(sample.operations[edge] for sample in samples)
        assert set(counts) == set(OPERATIONS)
        assert all(abs(count - 400) < 90 for count in counts.values())  # 5 standard deviations


def test_a_cell_has_24_neighbours_and_is_one_of_each() -> None:
    genotype = cell("304121")
    neighbours = list(SPACE.neighbours(genotype))
    assert len(set(neighbours)) == 24
    for neighbour in neighbours:
        assert sum(a != b for a, b in zip(genotype.operations, neighbour.operations, strict=True)) == 1
        assert genotype in SPACE.neighbours(neighbour)
    generator = np.random.default_rng(1)
    assert {SPACE.mutate(genotype, generator) for _ in range(500)} == set(neighbours)


def test_crossover_takes_each_edge_from_either_parent() -> None:
    generator = np.random.default_rng(2)
    a, b = cell("000000"), cell("341211")
    children = {SPACE.crossover(a, b, generator).digits for _ in range(1000)}
    assert children == {"".join(digits) for digits in product(*(("0", digit) for digit in "341211"))}
