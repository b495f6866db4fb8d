from __future__ import annotations

import pytest

from search_spaces.cells.genotype import GenotypeError
from search_spaces.cells.notation import SHORT_NAMES
from search_spaces.darts import known_cells as module
from search_spaces.darts.known_cells import SOURCES, known_cell, known_cells


def test_every_cell_has_a_source_and_known_operations() -> None:
    cells = known_cells()
    assert len(cells) == 16
    assert set(SOURCES) == set(cells)
    assert all(SOURCES.values())
    for genotype in cells.values():
        for operation, _ in (*genotype.normal.edges, *genotype.reduce.edges):
            assert operation in SHORT_NAMES


def test_shapes_of_the_unusual_cells() -> None:
    assert [len(node) for node in known_cell("CROZE").normal.nodes] == [2, 3, 4, 5]
    assert known_cell("CROZE").reduce.concat == (3, 2, 5, 5)
    assert len(known_cell("NASNet").normal.nodes) == 5
    assert known_cell("NASNet").reduce.count("sep_conv_7x7") == 2


@pytest.mark.parametrize("name", ["nasnet", "NASNET", "NASNet"])
def test_case_does_not_matter(name: str) -> None:
    assert known_cell(name) == known_cells()["NASNet"]


def test_an_unknown_name_lists_the_nearest() -> None:
    with pytest.raises(GenotypeError, match="unknown cell 'darts_v3'; did you mean DARTS_V"):
        known_cell("darts_v3")


def test_the_caller_cannot_change_what_is_known() -> None:
    known_cells().clear()
    SOURCES.clear()
    assert len(known_cells()) == len(module.SOURCES) == 16


def test_the_module_has_no_other_late_names() -> None:
    with pytest.raises(AttributeError, match="no attribute 'CELLS'"):
        module.CELLS  # type: ignore[attr-defined]  # noqa: B018
