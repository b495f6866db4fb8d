"""Which cells of NAS-Bench-201 are one network, and which the benchmark calls one class."""

from __future__ import annotations

import json
import os
import random
from collections import defaultdict
from collections.abc import Callable
from itertools import permutations, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from search_spaces.nasbench201.equivalence import (
    CONVOLUTIONS,
    network_form,
    published_key,
    representative,
)
from search_spaces.nasbench201.genotype import EDGES, EdgeGenotype
from tests.search_spaces.nasbench201.test_space import CELLS, PUBLISHED, SPACE, cell


def test_representatives_are_the_least_digits_of_their_networks() -> None:
    networks: dict[Any, list[EdgeGenotype]] = defaultdict(list)
    for genotype in CELLS:
        networks[network_form(genotype.operations)].append(genotype)
    assert len(networks) == 5924
    for genotypes in networks.values():
        assert {representative(genotype).digits for genotype in genotypes} == {min(g.digits for g in genotypes)}


def test_one_network_has_one_cost() -> None:
    for genotype in CELLS:
        assert SPACE.cost(genotype, PUBLISHED) == SPACE.cost(representative(genotype), PUBLISHED)


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        ("201011", "220011", False),  # one convolution through two paths; two convolutions
        ("030001", "300010", True),  # through node 2; through node 1
        ("230001", "320010", True),  # a convolution that reaches nothing is the same parameters, wherever it is
        ("230001", "330001", False),  # other parameters
        ("230001", "030001", False),  # none
        ("110411", "114001", False),  # 2 x + pool(x); x + pool(x)
        ("311004", "300440", True),  # pool(x + conv(x)); pool(x) + pool(conv(x))
        ("311003", "300330", False),  # conv(x + conv(x)); conv(x) + conv(conv(x))
        ("140004", "410040", True),
        ("000020", "000002", True),  # a convolution of nothing is its norm's bias
        ("002004", "000020", True),  # and stays so when it is pooled
        ("000020", "000200", False),
        ("000020", "000000", False),
        ("000020", "000030", False),
    ],
)
def test_networks_by_hand(a: str, b: str, same: bool) -> None:
    assert (representative(cell(a)) == representative(cell(b))) == same


def toy_functions(genotype: EdgeGenotype, maps: dict[str, list[Any]]) -> tuple[Any, ...]:
    """All functions that the cell has when its convolutions are given these maps of vectors in every possible way."""
    places = {name: [i for i, each in enumerate(genotype.operations) if each == name] for name in CONVOLUTIONS}
    outputs = set()
    for chosen in product(*(permutations(maps[name][: len(places[name])]) for name in CONVOLUTIONS)):
        of_edge = {
            i: f
            for name, each in zip(CONVOLUTIONS, chosen, strict=True)
            for i, f in zip(places[name], each, strict=True)
        }
        nodes = [maps["input"][0], *(np.zeros(3) for _ in range(3))]
        for i, ((source, target), name) in enumerate(zip(EDGES, genotype.operations, strict=True)):
            if name in CONVOLUTIONS:
                nodes[target] = nodes[target] + of_edge[i](nodes[source])
            elif name != "none":
                state = nodes[source]
                nodes[target] = nodes[target] + (state if name == "skip_connect" else maps["pool"][0] @ state)
        outputs.add(tuple(np.round(nodes[3], 9).tolist()))
    return tuple(sorted(outputs))


def test_the_networks_are_all_the_functions_there_are() -> None:
    """Where convolutions are arbitrary maps of R^3 and pooling a linear one that keeps constants, forms that differ are
    functions or numbers of convolutions that differ, and equal forms are equal functions."""
    rng = np.random.default_rng(3)

    def convolution(scale: float) -> Callable[[Any], Any]:
        matrix, bias = rng.normal(size=(3, 3)) * scale, rng.normal() * np.ones(3)
        return lambda x: matrix @ np.tanh(x) + bias

    pool = rng.random((3, 3))
    maps: dict[str, list[Any]] = {name: [convolution(1 + i) for _ in range(6)] for i, name in enumerate(CONVOLUTIONS)}
    maps |= {"pool": [pool / pool.sum(1, keepdims=True)], "input": [rng.random(3) + 0.5]}
    few = [each for each in CELLS if sum(each.count(name) for name in CONVOLUTIONS) <= 3]
    chosen = random.Random(0).sample(few, 2500)
    forms: dict[Any, set[Any]] = defaultdict(set)
    functions: dict[Any, set[Any]] = defaultdict(set)
    for genotype in chosen:
        counts = tuple(genotype.count(name) for name in CONVOLUTIONS)
        function, form = (counts, toy_functions(genotype, maps)), network_form(genotype.operations)
        forms[form].add(function)
        functions[function].add(form)
    assert max(map(len, forms.values())) == 1
    assert max(map(len, functions.values())) == 1
    assert 1000 < len(forms) < len(chosen)


def test_the_benchmark_counts_6466_classes_that_are_not_networks() -> None:
    classes: dict[str, set[EdgeGenotype]] = defaultdict(set)
    for genotype in CELLS:
        classes[published_key(genotype)].add(representative(genotype))
    assert len(classes) == 6466
    assert sum(len(networks) > 1 for networks in classes.values()) == 578
    twice, two = cell("201011"), cell("220011")
    assert published_key(twice) == published_key(two)
    assert SPACE.cost(twice, PUBLISHED) != SPACE.cost(two, PUBLISHED)


def benchmark_file(name: str) -> Any:
    path = Path(os.environ.get("NAS_DATA", "")) / "nas_robbench_201" / name
    if not os.environ.get("NAS_DATA") or not path.exists():
        pytest.skip(f"needs nas_robbench_201/{name} in the folder that NAS_DATA names")
    return json.loads(path.read_text(encoding="utf-8").partition("=")[2].strip().rstrip(";"))


@pytest.mark.parametrize("name", ["acc.json", "NAS-RobBench-201_html.json"])
def test_the_published_key_gives_the_classes_of_the_tables(name: str) -> None:
    """A table holds numbers for one cell of each class, and the id of that one for the others."""
    digits, table = benchmark_file("ops.json"), benchmark_file(name)
    keys = [published_key(cell(each)) for each in digits]
    ids = [int(each) for each in table if each]
    measured = {keys[id]: id for id in ids if isinstance(table[str(id)], list)}
    assert len(measured) == sum(isinstance(table[str(id)], list) for id in ids)
    for id in ids:
        if not isinstance(table[str(id)], list):
            assert measured[keys[id]] == int(table[str(id)])
    if name == "acc.json":
        assert len(ids) == len(CELLS)
        assert len(measured) == 6466


def test_ids_follow_no_rule() -> None:
    digits = benchmark_file("ops.json")
    assert sorted(digits) == [genotype.digits for genotype in CELLS]
    assert digits[:3] == ["421211", "334131", "433444"]
