"""Genotypes with a cell of its own for each layer: what a new space of them gets without touching the network."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from nas.report.diagrams import diagrams, short_lines
from nas.report.drawing import draw
from search_spaces.base import Cost, NetworkSpec
from search_spaces.cells.cost import network_cost
from search_spaces.cells.genotype import Cell, GenotypeError, LayeredCells
from search_spaces.cells.network import CellModule, CellNetwork
from search_spaces.cells.notation import canonical_cell, format_compact, parse, parse_stack
from search_spaces.robnet.space import RobNetSpace

SPEC = NetworkSpec(channels=4, layers=3, classes=5, image_size=(13, 10))


def robnet_free(count: int) -> LayeredCells:
    """The first cells of RobNet-free (Guo et al., CVPR 2020): four nodes that read all before them, 14 edges."""
    return LayeredCells(RobNetSpace().published()["ROBNET_FREE"].cells[:count])


STACK = robnet_free(3)


def test_each_layer_has_its_own_cell() -> None:
    assert len({*STACK.cells}) == 3
    network = CellNetwork(STACK, SPEC)
    for module, cell in zip(network.cells, STACK.cells, strict=True):
        assert isinstance(module, CellModule) and len(module.operations) == len(cell.edges)
    images = torch.rand(2, 3, *SPEC.image_size)
    assert network(images).shape == (2, 5)
    other = CellNetwork(replace(STACK, cells=STACK.cells[::-1]), SPEC)
    assert {*network.state_dict()} != {*other.state_dict()}


@pytest.mark.parametrize("cells", [STACK.cells, STACK.cells[::-1], (STACK.cells[2], *STACK.cells)])
def test_cost_is_that_of_the_built_network(cells: tuple[Cell, ...]) -> None:
    genotype, spec = LayeredCells(cells), replace(SPEC, layers=len(cells))
    with torch.device("meta"):
        network = CellNetwork(genotype, spec).eval()
        images = torch.empty(1, 3, *spec.image_size)
    with FlopCounterMode(display=False) as counter:
        network(images)
    params = sum(parameter.numel() for parameter in network.parameters())
    assert network_cost(genotype, spec) == Cost(params, counter.get_total_flops() // 2)


@pytest.mark.parametrize(
    ("layers", "expected"), [(1, [0]), (2, [0, 1]), (3, [0, 1, 2]), (4, [0, 0, 1, 2]), (8, [0, 0, 0, 1, 1, 1, 2, 2])]
)
def test_in_another_number_of_layers_neighbours_share_cells_or_cells_are_left_out(
    layers: int, expected: list[int]
) -> None:
    assert [STACK.cell(layer, layers) for layer in range(layers)] == [STACK.cells[i] for i in expected]
    spec = replace(SPEC, layers=layers)
    spelled_out = LayeredCells(tuple(STACK.cells[i] for i in expected))
    assert network_cost(STACK, spec) == network_cost(spelled_out, spec)
    shapes = [[each.shape for each in CellNetwork(g, spec).parameters()] for g in (STACK, spelled_out)]
    assert shapes[0] == shapes[1]


def test_a_genotype_has_a_cell() -> None:
    with pytest.raises(GenotypeError, match="needs at least one cell, got none"):
        LayeredCells(())


def test_paths_name_the_layers() -> None:
    skips = [STACK.count(f"cells.{layer}.skip_connect") for layer in range(3)]
    assert skips == [cell.count("skip_connect") for cell in STACK.cells] == [10, 7, 8]
    assert STACK.count("skip_connect") == 25
    with pytest.raises(GenotypeError, match=r"path 'cells.3.none': unknown cell 'cells.3'; did you mean cells"):
        STACK.count("cells.3.none")
    with pytest.raises(GenotypeError, match=r"unknown cell 'normal'.*expected one of cells.0, cells.1, cells.2"):
        STACK.count("normal.none")


def test_the_compact_notation_comes_back() -> None:
    text = format_compact(STACK)
    assert text.startswith("layers:s3.0+sk.0+sk.1|") and text.count("/") == 2
    assert parse_stack(text) == STACK
    assert parse_stack(format_compact(robnet_free(2))) == robnet_free(2)  # two layers are no normal and reduction cell
    with pytest.raises(GenotypeError):
        parse(text)
    with pytest.raises(GenotypeError, match="expected operation.predecessor"):
        parse_stack("layers:s3-0>2")
    pair = "s3.0>2/sk.1>2"
    assert parse_stack(pair) == parse(pair) and format_compact(parse(pair)) == pair
    canonical = LayeredCells(tuple(canonical_cell(cell) for cell in STACK.cells))
    assert LayeredCells(tuple(canonical_cell(cell) for cell in canonical.cells)) == canonical


def test_each_different_cell_is_drawn_once() -> None:
    drawn = diagrams(format_compact(STACK))
    assert [each.title for each in drawn] == ["Cell of layer 0", "Cell of layer 1", "Cell of layer 2"]
    for diagram, cell in zip(drawn, STACK.cells, strict=True):
        assert diagram.operations == tuple(operation for operation, _ in cell.edges)
        assert len(draw(diagram).labels) == len(cell.edges)
    first, second, _ = STACK.cells
    again = diagrams(format_compact(LayeredCells((first, second, first))))
    assert [each.title for each in again] == ["Cell of layers 0, 2", "Cell of layer 1"]
    assert len(short_lines(format_compact(STACK))) == 3
    deep = diagrams(format_compact(LayeredCells((first, second, first))), layers=8)
    assert [each.title for each in deep] == ["Cell of layers 0 to 2, 6, 7", "Cell of layers 3 to 5"]
    assert [each.title for each in diagrams(format_compact(STACK), layers=1)] == ["Cell of layer 0"]
