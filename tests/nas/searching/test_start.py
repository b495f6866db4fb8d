"""``--start``: cells that a search proposes first."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nas import Search
from nas.search import main
from search_spaces.darts.known_cells import known_cell
from tests.nas.commands import slip, timeless

pytestmark = pytest.mark.usefixtures("somewhere_else")

SMALL = ("--proxy", "params", "--channels", "4", "--layers", "3", "--no-report", "--quiet")
EVOLUTION = (*SMALL, "--budget", "8", "--population", "4", "--tournament", "2", "--candidates-per-step", "3")


def test_published_cells_and_those_of_a_run_come_first_and_a_resumed_run_needs_no_other() -> None:
    assert main([*SMALL, "--searcher", "random", "--budget", "2", "--out", "random"]) == 0
    start = ("--start", "DARTS_V2", "--start", "random", "--start", "PDARTS")
    assert main([*EVOLUTION, *start, "--out", "run"]) == 0
    best, trials = json.loads(Path("random/best.json").read_text()), timeless(Path("run"))
    texts = [str(known_cell("DARTS_V2")), best["genotype"], str(known_cell("PDARTS"))]
    assert [trial["genotype"] for trial in trials[:3]] == texts
    assert json.loads(Path("run/manifest.json").read_text())["configuration"]["start"] == texts
    assert main([*EVOLUTION, "--out", "plain"]) == 0
    assert [each["key"] for each in timeless(Path("plain"))[3:4]] == [trials[3]["key"]]
    Path("random").rename("elsewhere")
    lines = Path("run/trials.jsonl").read_bytes().splitlines(keepends=True)
    Path("run/trials.jsonl").write_bytes(b"".join(lines[:2]))
    assert main(["--resume", "run", "--quiet"]) == 0
    assert timeless(Path("run")) == trials


def test_from_python_a_single_text_is_enough() -> None:
    options = {"budget": 1, "channels": 4, "layers": 3, "report": False}
    assert Search("darts", proxies="params", start="DARTS_V2", **options).run().best.genotype == known_cell("DARTS_V2")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--searcher", "random"), "--start needs --searcher regularized_evolution"),
        (("--max-params", "2000"), "--start, cell 1 of 1, violates a constraint"),
        (("--max-params", "2000"), "params must be at most 2,000, got"),
        (("--require", "normal.skip_connect == 0"), "normal.skip_connect must be == 0, got"),
        (("--start", "nonsense"), "--start nonsense"),
        (("--space", "nasbench201"), "--start DARTS_V2"),
    ],
)
def test_slips_are_one_line(words: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    size = SMALL[:2] if "--space" in words else SMALL
    assert message in slip(capsys, *size, "--start", "DARTS_V2", *words)
    assert list(Path().iterdir()) == []
