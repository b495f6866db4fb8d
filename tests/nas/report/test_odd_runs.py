"""Reports on runs that are damaged, unfinished, tiny or strange."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nas.errors import UserError
from nas.report import write_report
from nas.report.__main__ import main
from nas.runs.reader import read_run
from search_spaces.cells.genotype import Cell, CellGenotype
from tests.nas.report.pages import NASBENCH201, PUBLISHED, check_page, page_of, random_cell, trials_of, write_run


def test_hostile_text_is_escaped(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>"
    trials = trials_of(30, (evil,))
    cell = random_cell(np.random.default_rng(1))
    hostile = Cell((((evil, 0), ("skip_connect", 1)), *cell.nodes[1:]), cell.concat)
    for trial in trials:
        trial["genotype"] = json.dumps(CellGenotype(hostile, cell).to_json())
    trials[1].update(status="failed", error=evil, scores={})
    manifest = {
        "configuration": {"space": evil, "searcher": evil, evil: evil, "proxy": [evil]},
        "proxies": [{"name": evil, "direction": "maximize"}],
        "versions": {evil: evil},
        "git_commit": evil,
    }
    html = page_of(write_run(tmp_path, trials, {**trials[2], "genotype": evil, "key": evil}, **manifest))
    check_page(html)
    assert "<script" not in html and "<img" not in html
    (tmp_path / "best.json").unlink()
    html = page_of(tmp_path)
    check_page(html)
    assert "<script" not in html and "<img" not in html


@pytest.mark.parametrize("name", ["a$b_{c", "naïve 鲁棒\ud800", "", "x" * 300])
def test_odd_proxy_names(tmp_path: Path, name: str) -> None:
    run = write_run(tmp_path, trials_of(5, (name,)), proxies=[{"name": name, "direction": "maximize"}])
    check_page(page_of(run))


@pytest.mark.parametrize(
    ("trials", "expected"),
    [
        ([], "No candidate has a score"),
        (trials_of(3, status="failed", scores={}), "No candidate has a score"),
        (trials_of(1), "the only one with a score"),
        (trials_of(2), "Not defined: too few candidates"),
        (trials_of(25, scores={"robust": 1.5}), "All candidates have the same score"),
        (trials_of(25, params=0, macs=0), "not recorded"),
        (trials_of(25, params=5), "all of equal score or equal parameters"),
        (trials_of(4, scores={}), "no finite score from every proxy"),
        (trials_of(4, scores={"robust": None}), "no finite score from every proxy"),
        (trials_of(4, scores={"robust": float("inf")}), "no finite score from every proxy"),
        (trials_of(4, scores={"robust": 1e300}), "1.000e300"),
        (trials_of(4, genotype="wide_resnet(depth=28)"), "no notation that can be drawn"),
        (trials_of(4, genotype=NASBENCH201), "reads the output of the cell before it"),
    ],
)
def test_edge_cases(tmp_path: Path, trials: list[dict[str, Any]], expected: str) -> None:
    if "genotype" in (trials[0] if trials else {}) and not trials[0]["genotype"].startswith("Genotype"):
        trials = [{**trial, "key": trial["genotype"]} for trial in trials]
    assert expected in check_page(page_of(write_run(tmp_path, trials))).text


def test_trials_of_few_keys(tmp_path: Path) -> None:
    trials = [{"id": 0, "status": "ok", "genotype": PUBLISHED["DARTS_V2"], "scores": {"robust": 1.0}}]
    assert "first of" not in check_page(page_of(write_run(tmp_path, trials))).text


def test_manifest_of_few_keys(tmp_path: Path) -> None:
    write_run(tmp_path, trials_of(5))
    (tmp_path / "manifest.json").write_text('{"format": 1, "configuration": {}}')
    page = check_page(page_of(tmp_path))
    assert "does not record which direction of robust is better; higher is assumed" in page.text


def test_run_without_trials_file(tmp_path: Path) -> None:
    run = write_run(tmp_path, [], status="running", ended=None)
    (run / "trials.jsonl").unlink()
    assert "had not ended" in check_page(page_of(run)).text


@pytest.mark.parametrize("status", ["running", "interrupted", "failed"])
def test_unfinished_runs_say_so(tmp_path: Path, status: str) -> None:
    page = check_page(page_of(write_run(tmp_path, trials_of(3), status=status)))
    assert "of the candidates" in page.text


def test_torn_last_line_is_dropped(tmp_path: Path) -> None:
    run = write_run(tmp_path, trials_of(3))
    with open(run / "trials.jsonl", "a") as file:
        file.write('{"id": 3, "key": "s3')
    assert len(read_run(run).trials) == 3
    assert "cut off" in check_page(page_of(run)).text


def test_best_that_the_trials_contradict_is_noted(tmp_path: Path) -> None:
    trials = trials_of(10)
    worst = min(trials, key=lambda trial: trial["scores"]["robust"])
    page = check_page(page_of(write_run(tmp_path, trials, worst)))
    assert f"best.json names candidate {worst['id']}" in page.text
    assert f"Candidate {worst['id']}." in page.text


def test_far_worse_candidates_do_not_press_the_others(tmp_path: Path) -> None:
    trials = trials_of(30)
    trials[7]["scores"] = {"robust": -1e9}
    assert "1 far worse candidate lies outside the charts" in check_page(page_of(write_run(tmp_path, trials))).text


def test_long_run_is_drawn_as_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nas.report.charts.MANY_POINTS", 20)
    html = page_of(write_run(tmp_path, trials_of(30)))
    check_page(html)
    assert html.count("data:image/png;base64,") == 2


@pytest.mark.parametrize(
    ("file", "content", "part"),
    [
        ("manifest.json", "{", "manifest.json"),
        ("manifest.json", "[]", "manifest.json"),
        ("manifest.json", '{"format": 99, "configuration": {}}', "99"),
        ("manifest.json", '{"format": 1, "configuration": {}, "proxies": ["robust"]}', "proxies[0] 'robust', expected"),
        (
            "manifest.json",
            '{"format": 1, "configuration": {}, "proxies": [{"name": "a", "direction": "up"}]}',
            "proxies[0].direction 'up', expected one of maximize, minimize",
        ),
        ("manifest.json", '{"format": 1, "configuration": {}, "seconds": NaN}', "seconds nan, expected a number"),
        ("manifest.json", '{"format": 1, "configuration": {}, "resumed": 3}', "resumed 3, expected a list"),
        ("manifest.json", '{"format": 1, "configuration": {"dataset": null}}', "configuration.dataset None, expected"),
        ("manifest.json", '{"format": 1, "configuration": {"layers": "8"}}', "configuration.layers '8', expected"),
        ("manifest.json", '{"format": 1, "configuration": {}, "command": "correlation"}', "holds no search, but"),
        ("manifest.json", '{"format": 1, "configuration": {"a": %s}}' % ("[" * 200 + "]" * 200), "inside each other"),
        ("trials.jsonl", "{\n{}\n", "line 1"),
        ("trials.jsonl", '{"id": 0, "status": "ok", "params": 1%s}\n' % ("0" * 400), "params 1000"),
        ("trials.jsonl", "[" * 50_000, "line 1 is not a trial: it has no line end"),
        ("trials.jsonl", "[]\n", "line 1"),
        ("trials.jsonl", '{"status": "ok"}\n', "id is missing"),
        ("trials.jsonl", '{"id": -1, "status": "ok"}\n', "id -1"),
        ("trials.jsonl", '{"id": 0, "status": "well"}\n', "status 'well', expected one of ok, failed, infeasible"),
        ("trials.jsonl", '{"id": 0, "status": "ok", "scores": [1]}\n', "scores [1]"),
        ("trials.jsonl", '{"id": 0, "status": "ok", "scores": {"robust": "high"}}\n', "score 'robust' is 'high'"),
        ("trials.jsonl", '{"id": 0, "status": "ok", "seconds": -1}\n', "seconds -1"),
        ("best.json", "nothing", "best.json"),
    ],
)
def test_corrupt_run_is_one_line_and_exit_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], file: str, content: str, part: str
) -> None:
    run = write_run(tmp_path, trials_of(2))
    (run / file).write_text(content)
    assert main([str(run)]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.count("\n") == 1 and part in output.err
    assert not (run / "report.html").exists()


def test_missing_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "nowhere")]) == 2
    assert "nowhere" in capsys.readouterr().err
    with pytest.raises(UserError):
        write_report(tmp_path)
