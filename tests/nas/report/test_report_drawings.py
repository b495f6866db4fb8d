"""Cells as they are drawn: nothing that carries a word is crossed or covered."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from nas.report.diagrams import diagrams, kind_of, short_lines
from nas.report.drawing import Drawing, draw
from search_spaces.cells.genotype import Cell, CellGenotype
from tests.nas.report.pages import NASBENCH201, PUBLISHED, TIMES, check_page, page_of, random_cell, write_run


def points(drawing: Drawing) -> Iterable[tuple[float, float]]:
    for line in drawing.lines:
        for t in np.linspace(0.0, 1.0, 41)[1:-1]:
            middle = (line.x0 + line.x1) / 2
            weights = (1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3
            x = float(np.dot(weights, (line.x0, middle, middle, line.x1)))
            y = float(np.dot(weights, (line.y0, line.y0, line.y1, line.y1)))
            yield x, y


def check_drawing(drawing: Drawing) -> None:
    boxes = drawing.vertices + drawing.labels
    for a, b in itertools.combinations(boxes, 2):
        apart = a.x + a.width <= b.x or b.x + b.width <= a.x or a.y + a.height <= b.y or b.y + b.height <= a.y
        assert apart, (a, b)
    for box in boxes:
        assert box.x >= 0 and box.y >= 0
        assert box.x + box.width <= drawing.width and box.y + box.height <= drawing.height
    for x, y in points(drawing):
        assert 0 <= y <= drawing.height
        assert not any(
            box.x + 0.5 < x < box.x + box.width - 0.5 and box.y + 0.5 < y < box.y + box.height - 0.5 for box in boxes
        ), (x, y)


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_cells_are_drawn_legibly(name: str, tmp_path: Path) -> None:
    cells = diagrams(PUBLISHED[name])
    assert [cell.title for cell in cells] == ["Normal cell", "Reduction cell"]
    for cell in cells:
        drawing = draw(cell)
        check_drawing(drawing)
        assert sorted(box.label for box in drawing.vertices) == sorted(cell.vertices)
        assert sorted(box.label for box in drawing.labels if TIMES not in box.label) == sorted(cell.operations)
    trials = [{"id": 0, "status": "ok", "genotype": PUBLISHED[name], "scores": {"robust": 1.0}}]
    page = check_page(page_of(write_run(tmp_path, trials)))
    assert (f"{TIMES}2" in " ".join(page.words)) == (name == "CROZE")


@pytest.mark.parametrize("seed", range(40))
def test_any_cell_is_drawn_legibly(seed: int) -> None:
    rng = np.random.default_rng(seed)
    cell = random_cell(rng, nodes=int(rng.integers(1, 8)), edges=int(rng.integers(1, 5)))
    concat = tuple(int(each) for each in rng.integers(2 + len(cell.nodes), size=3))
    genotype = CellGenotype(Cell(cell.nodes, concat), cell)
    for each in diagrams(str(genotype)):
        check_drawing(draw(each))


def test_nasbench201_cell_is_drawn() -> None:
    (cell,) = diagrams(NASBENCH201)
    assert cell.vertices == ("input", "1", "2", "output")
    assert len(cell.operations) == 6
    check_drawing(draw(cell))
    assert diagrams("|nor_conv_3x3~1|+|none~0|none~1|") == ()
    assert diagrams("anything else") == ()


def test_the_stages_of_a_residual_network_are_drawn() -> None:
    (network,) = diagrams("robust.rse.silu.d14-w5.d1-w7.d7-w16")
    assert network.title == "Network of robust blocks, residual squeeze-and-excitation, silu"
    labels = ["14 blocks, width 5", "1 block, width 7", "7 blocks, width 16", ""]
    assert [link.label for link in network.links] == labels
    assert network.operations == ()  # depths and widths are no operations, whose shares the page compares
    drawing = draw(network)
    check_drawing(drawing)
    assert [box.label for box in drawing.vertices] == ["image", "1", "2", "3", "output"]
    assert [each.title for each in diagrams("d4-w10.d4-w10.d4-w10")] == ["Network of basic blocks, relu"]
    assert short_lines("d4-w10.d4-w10.d4-w10") == ("d4-w10.d4-w10.d4-w10",)


def test_equal_cells_are_drawn_once() -> None:
    cell = random_cell(np.random.default_rng(0))
    assert [each.title for each in diagrams(str(CellGenotype(cell, cell)))] == ["Normal and reduction cell"]


@pytest.mark.parametrize(
    ("operation", "kind"),
    [
        ("sep_conv_7x7", "separable"), ("dil_conv_5x5", "dilated"), ("conv_7x1_1x7", "convolution"),
        ("nor_conv_1x1", "convolution"), ("avg_pool_3x3", "pooling"), ("skip_connect", "skip"), ("none", "none"),
        ("sep_conv_3x3\n", "other"), ("", "other"),
    ],
)  # fmt: skip
def test_kind_of(operation: str, kind: str) -> None:
    assert kind_of(operation) == kind


def test_short_lines() -> None:
    assert short_lines(PUBLISHED["DARTS_V2"])[0] == "s3.0+s3.1|s3.0+s3.1|s3.1+sk.0|sk.0+d3.2>2,3,4,5"
    assert short_lines(NASBENCH201) == tuple(NASBENCH201.split("+"))
    assert len(short_lines("x" * 500)[0]) == 64
