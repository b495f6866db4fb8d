"""Cells that are given as a run directory or a file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nas.errors import UserError
from nas.runs.cells import read_cell, start_cells
from nas.runs.directory import RunDirectory
from nas.training.config import TrainConfig
from search_spaces import get_space

EDGES = "|none~0|+|none~0|none~1|+|none~0|none~1|nor_conv_3x3~2|"

pytestmark = pytest.mark.usefixtures("somewhere_else")


@pytest.fixture
def run(somewhere_else: Path) -> Path:
    """What a finished search on another space than the default leaves."""
    with RunDirectory(Path("run"), get_space("nasbench201")) as directory:
        directory.write_manifest({"configuration": {"space": "nasbench201"}})
        key = get_space("nasbench201").canonical(get_space("nasbench201").parse(EDGES))
        best = {"id": 0, "key": key, "genotype": EDGES, "seed": 0, "scores": {}, "params": 1, "macs": 1}
        directory.write_best(best)
    return Path("run")


def test_a_run_and_its_best_json(run: Path) -> None:
    for cell in ("run", "run/", "./run/best.json", str(run.absolute())):
        assert read_cell(cell, None) == (EDGES, "nasbench201")
    for given in (run, run / "best.json"):
        config = TrainConfig(cell=given)  # type: ignore[arg-type]
        assert (config.cell, config.space) == (EDGES, "nasbench201")
    with pytest.raises(UserError, match="--space must be nasbench201, the space of --cell run, got darts"):
        TrainConfig(cell="run", space="darts")


def test_a_best_cell_of_two_minds(run: Path) -> None:
    best = json.loads((run / "best.json").read_text())
    other = "|nor_conv_3x3~0|+|none~0|none~1|+|skip_connect~0|nor_conv_3x3~1|none~2|"
    (run / "best.json").write_text(json.dumps({**best, "genotype": other}))
    with pytest.raises(UserError, match="best.json: key and genotype are of different cells"):
        read_cell("run", None)


def test_a_copy_of_best_json_and_other_files(run: Path) -> None:
    Path("copy.json").write_text((run / "best.json").read_text())
    assert read_cell("copy.json", "nasbench201") == (EDGES, "nasbench201")
    assert read_cell("copy.json", None) == (EDGES, None)
    cell = get_space("darts").parse("DARTS_V2")
    Path("cell.json").write_text("\ufeff" + json.dumps(cell.to_json()))
    Path("cell.log").write_text(f"10:00 genotype = {cell}\n")
    for name in ("cell.json", "cell.log"):
        text, space = read_cell(name, None)
        assert space is None and get_space("darts").parse(text) == cell


def test_a_genotype_is_no_path(run: Path) -> None:
    for cell, space in (("DARTS_V2", None), ("013012", "nasbench201"), ("anything", "own")):
        assert read_cell(cell, space) == (cell, space)
    run.rename("darts_v2")
    assert read_cell("darts_v2", None) == ("darts_v2", None)  # the published cell, not the run
    assert read_cell("./darts_v2", None) == (EDGES, "nasbench201")


@pytest.mark.parametrize("cell", ["missing.json", "runs/missing", "~/missing", "./missing"])
def test_a_missing_file(cell: str) -> None:
    with pytest.raises(UserError, match="there is no such file or directory, and no cell of that name"):
        read_cell(cell, None)


def test_an_unfinished_run(run: Path) -> None:
    (run / "best.json").unlink()
    with pytest.raises(UserError, match="the search in it is not finished"):
        read_cell("run", None)


def test_cells_to_start_with_are_texts_each_once(run: Path) -> None:
    space, skip = get_space("nasbench201"), EDGES.replace("nor_conv_3x3", "skip_connect")
    assert start_cells([skip, "run", EDGES, "run/best.json"], space) == (skip, EDGES)
    front = [{"genotype": skip}, {"genotype": EDGES.replace("none~1", "nor_conv_1x1~1")}]
    (run / "front.json").write_text(json.dumps({"front": front}))
    assert start_cells(["run"], space) == tuple(each["genotype"] for each in front)
    assert start_cells(["run/best.json"], space) == (EDGES,)


@pytest.mark.parametrize(
    ("cell", "space", "message"),
    [
        ("DARTS_V3", "darts", "--start DARTS_V3: .*DARTS_V2"),
        ("nowhere/", "darts", "--start nowhere: there is no such file or directory, and no cell of that name"),
        ("run", "darts", "--space must be nasbench201, the space of --start run, got darts"),
        (".", "darts", "is not a run directory"),
    ],
)
def test_no_cell_to_start_with_is_one_line(cell: str, space: str, message: str, run: Path) -> None:
    with pytest.raises(UserError, match=message) as error:
        start_cells([cell], get_space(space))
    assert "\n" not in str(error.value)


def test_a_damaged_front_is_one_line(run: Path) -> None:
    (run / "front.json").write_text('{"front": [{"key": "a"}]}')
    with pytest.raises(UserError, match=r"front.json is damaged: front\[0\].genotype is missing"):
        start_cells(["run"], get_space("nasbench201"))
