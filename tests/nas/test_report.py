"""A run as one HTML page: what it shows, what it survives, and that it needs nothing but itself."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest

from nas.errors import UserError
from nas.report import write_report
from nas.report.__main__ import main
from nas.report.ranking import (
    ranking,
    size_correlation,
)
from nas.report.run_files import read_run
from nas.report.wording import amount, command, score, search_cost
from search_spaces.cells import Cell, CellGenotype
from search_spaces.notation import format_compact

OPERATIONS = ("max_pool_3x3", "skip_connect", "sep_conv_3x3", "sep_conv_5x5", "dil_conv_3x3")

#: Cells as they were published: DARTS (second order), CRoZe (14 edges, a node twice in concat), NASNet-A (5 nodes, one
#: of them with the same edge twice), AmoebaNet-A (nodes that the output leaves out), LRNAS (none on edges).
PUBLISHED = {
    "DARTS_V2": "Genotype(normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('sep_conv_3x3', 1),"
    " ('sep_conv_3x3', 1), ('skip_connect', 0), ('skip_connect', 0), ('dil_conv_3x3', 2)], normal_concat=[2, 3, 4, 5],"
    " reduce=[('max_pool_3x3', 0), ('max_pool_3x3', 1), ('skip_connect', 2), ('max_pool_3x3', 1), ('max_pool_3x3', 0),"
    " ('skip_connect', 2), ('skip_connect', 2), ('max_pool_3x3', 1)], reduce_concat=[2, 3, 4, 5])",
    "CROZE": "Genotype(normal=[('avg_pool_3x3', 0), ('dil_conv_3x3', 1), ('dil_conv_5x5', 0), ('dil_conv_3x3', 1),"
    " ('max_pool_3x3', 2), ('sep_conv_3x3', 0), ('avg_pool_3x3', 1), ('skip_connect', 2), ('dil_conv_3x3', 3),"
    " ('sep_conv_5x5', 0), ('dil_conv_5x5', 1), ('sep_conv_3x3', 2), ('skip_connect', 3), ('sep_conv_7x7', 4)],"
    " normal_concat=[4, 5, 3, 4], reduce=[('avg_pool_3x3', 0), ('sep_conv_5x5', 1), ('conv_7x1_1x7', 0),"
    " ('sep_conv_5x5', 1), ('sep_conv_5x5', 2), ('conv_7x1_1x7', 0), ('sep_conv_7x7', 1), ('dil_conv_3x3', 2),"
    " ('dil_conv_3x3', 3), ('dil_conv_3x3', 0), ('sep_conv_7x7', 1), ('conv_7x1_1x7', 2), ('dil_conv_3x3', 3),"
    " ('sep_conv_3x3', 4)], reduce_concat=[3, 2, 5, 5])",
    "NASNet": "Genotype(normal=[('sep_conv_5x5', 1), ('sep_conv_3x3', 0), ('sep_conv_5x5', 0), ('sep_conv_3x3', 0),"
    " ('avg_pool_3x3', 1), ('skip_connect', 0), ('avg_pool_3x3', 0), ('avg_pool_3x3', 0), ('sep_conv_3x3', 1),"
    " ('skip_connect', 1)], normal_concat=[2, 3, 4, 5, 6], reduce=[('sep_conv_5x5', 1), ('sep_conv_7x7', 0),"
    " ('max_pool_3x3', 1), ('sep_conv_7x7', 0), ('avg_pool_3x3', 1), ('sep_conv_5x5', 0), ('skip_connect', 3),"
    " ('avg_pool_3x3', 2), ('sep_conv_3x3', 2), ('max_pool_3x3', 1)], reduce_concat=[4, 5, 6])",
    "AmoebaNet": "Genotype(normal=[('avg_pool_3x3', 0), ('max_pool_3x3', 1), ('sep_conv_3x3', 0), ('sep_conv_5x5', 2),"
    " ('sep_conv_3x3', 0), ('avg_pool_3x3', 3), ('sep_conv_3x3', 1), ('skip_connect', 1), ('skip_connect', 0),"
    " ('avg_pool_3x3', 1)], normal_concat=[4, 5, 6], reduce=[('avg_pool_3x3', 0), ('sep_conv_3x3', 1),"
    " ('max_pool_3x3', 0), ('sep_conv_7x7', 2), ('sep_conv_7x7', 0), ('avg_pool_3x3', 1), ('max_pool_3x3', 0),"
    " ('max_pool_3x3', 1), ('conv_7x1_1x7', 0), ('sep_conv_3x3', 5)], reduce_concat=[3, 4, 6])",
    "LRNAS": "Genotype(normal=[('max_pool_3x3', 1), ('avg_pool_3x3', 0), ('sep_conv_3x3', 1), ('skip_connect', 0),"
    " ('sep_conv_3x3', 2), ('avg_pool_3x3', 1), ('max_pool_3x3', 3), ('max_pool_3x3', 0)], normal_concat=[2, 3, 4, 5],"
    " reduce=[('none', 0), ('none', 1), ('sep_conv_5x5', 2), ('max_pool_3x3', 0), ('avg_pool_3x3', 2),"
    " ('skip_connect', 1), ('max_pool_3x3', 3), ('skip_connect', 4)], reduce_concat=[2, 3, 4, 5])",
}
TIMES = "\N{MULTIPLICATION SIGN}"
NASBENCH201 = "|nor_conv_3x3~0|+|nor_conv_1x1~0|none~1|+|skip_connect~0|avg_pool_3x3~1|nor_conv_3x3~2|"

MANIFEST: dict[str, Any] = {
    "format": 1,
    "command": "search",
    "status": "finished",
    "configuration": {
        "space": "darts", "searcher": "random", "proxy": ["robust"], "budget": 30, "seed": 7, "dataset": "digits",
        "channels": 16, "ntk_images": 50, "curvature_images": 8, "max_params": None, "download": False,
        "require": ["normal.skip_connect == 2"],
    },
    "proxies": [{"name": "robust", "direction": "maximize"}],
    "versions": {"torch": "2.9"},
    "hardware": {"processor": "a processor", "device": "cpu"},
    "data": {"name": "digits", "fingerprint": "abc", "classes": 10, "image_size": [32, 32], "images": 1797},
    "git_commit": None,
    "started": "2025-01-01T00:00:00+00:00",
    "ended": "2025-01-01T00:20:34+00:00",
    "seconds": 1234.5,
    "summary": {"trials": 30, "ok": 30, "failed": 0, "infeasible": 0, "reused": 0, "rejected": 0},
}  # fmt: skip


def random_cell(rng: np.random.Generator, nodes: int = 4, edges: int = 2) -> Cell:
    built = []
    for number in range(2, 2 + nodes):
        sources = sorted(int(each) for each in rng.integers(number, size=edges))
        built.append(tuple((str(rng.choice(OPERATIONS)), source) for source in sources))
    return Cell(tuple(built), tuple(range(2, 2 + nodes)))


def trials_of(count: int, proxies: Iterable[str] = ("robust",), **changes: Any) -> list[dict[str, Any]]:
    """Trials with random cells; score and size rise with the id, up to noise."""
    rng = np.random.default_rng(0)
    trials = []
    for id in range(count):
        genotype = CellGenotype(random_cell(rng), random_cell(rng))
        params = 100_000 + 1_000 * id + int(rng.integers(20_000))
        scores = {name: id / 10 + float(rng.normal()) for name in proxies}
        trial = {
            "id": id, "key": format_compact(genotype), "genotype": str(genotype), "seed": id, "status": "ok",
            "scores": scores, "params": params, "macs": 100 * params, "seconds": 2.0, "error": None,
        }  # fmt: skip
        trials.append({**trial, **changes})
    return trials


def write_run(path: Path, trials: list[dict[str, Any]], best: dict[str, Any] | None = None, **manifest: Any) -> Path:
    path.mkdir(exist_ok=True)
    (path / "manifest.json").write_text(json.dumps({**MANIFEST, **manifest}))
    (path / "trials.jsonl").write_text("".join(json.dumps(trial) + "\n" for trial in trials))
    if best is not None:
        (path / "best.json").write_text(json.dumps(best))
    return path


def page_of(run: Path) -> str:
    return write_report(run).read_text(encoding="utf-8")


class Page(HTMLParser):
    """Parses strictly: every element that is opened is closed in order. Keeps the tags and the visible text."""

    VOID = frozenset({"meta", "link", "br", "img", "hr", "input"})

    def __init__(self, html: str):
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(html)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-1:]}"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["style"]:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def check_page(html: str) -> Page:
    """The page parses, its ids are unique and its own references meet one, and nothing outside it is needed."""
    page = Page(html)
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(set(ids)) == len(ids)
    for tag, attributes in page.tags:
        assert tag not in ("script", "iframe", "object", "embed", "base", "form")
        assert not any(name.startswith("on") for name in attributes)
        for name in ("src", "href", "xlink:href", "data", "action"):
            value = attributes.get(name) or ""
            if value.startswith("#"):
                assert value[1:] in ids
            elif not value.startswith("data:"):
                assert tag == "a" or not value, f"<{tag} {name}={value}>"
    assert "@import" not in html and not re.search(r"url\((?!#)", html)
    assert all(reference in ids for reference in re.findall(r"url\(#([^)]*)\)", html))
    return page


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    trials = trials_of(30)
    trials[3].update(status="failed", scores={}, error="RuntimeError: no gradient in layer 3")
    trials[4].update(status="failed", scores={}, error="RuntimeError: no gradient in layer 12")
    trials[5].update(status="infeasible", scores={}, error="105,000 parameters, expected at most 100,000")
    trials[20] = {**trials[10], "id": 20, "seconds": 0.0}
    best = max(trials, key=lambda trial: trial["scores"].get("robust", -100.0))
    return write_run(tmp_path_factory.mktemp("runs") / "a-run", trials, {**best, "genotype_json": {}})


def test_page_shows_what_was_found(run: Path) -> None:
    page = check_page(page_of(run))
    record = read_run(run)
    assert record.best is not None
    best = record.best
    assert f"Candidate {best.id}, first of 26 distinct candidates with a score" in page.text
    assert best.genotype in page.text
    assert score(best.scores["robust"]) in page.text
    assert amount(best.params) in " ".join(page.words)
    assert "20 min 34 s" in page.text
    assert "CPU-days" in page.text and "0.00067" in page.text  # 29 times 2 s
    for title in (
        "The best cell", "How the search went", "How much of the score is size?", "The 10 best candidates",
        "What the best have in common", "Candidates without a score", "How sure can one be?", "To repeat it",
    ):  # fmt: skip
        assert title in page.text
    for published in ("+0.334", "+0.233", "+0.174", "+0.171", "+0.414", "+0.388", "+0.411"):
        assert published in page.text
    assert "Counting parameters does better there than every published zero-cost proxy" in page.text
    assert "nas.search --space darts" in page.text and "digits" in page.text and "a processor" in page.text


def test_page_draws_both_cells_and_three_charts(run: Path) -> None:
    page = check_page(page_of(run))
    pictures = [attributes.get("aria-label", "") for tag, attributes in page.tags if tag == "svg"]
    assert [str(label).split(" ")[0] for label in pictures] == [
        "Normal", "Reduction", "Score", "Score", "Histogram", "Operations",
    ]  # fmt: skip


def test_failures_that_differ_in_numbers_are_one(run: Path) -> None:
    page = check_page(page_of(run))
    assert "failed 2 RuntimeError: no gradient in layer 3 3, 4" in page.text
    assert "infeasible 1 105,000 parameters, expected at most 100,000 5" in page.text


def test_equal_runs_give_equal_pages(run: Path) -> None:
    assert page_of(run) == page_of(run)


def test_report_leaves_matplotlib_as_it_was(run: Path) -> None:
    before = dict(matplotlib.rcParams)
    write_report(run)
    assert dict(matplotlib.rcParams) == before


def test_import_needs_neither_matplotlib_nor_jinja2() -> None:
    code = (
        "import sys, nas.report.__main__; heavy = {'matplotlib', 'jinja2', 'torch'} & set(sys.modules);"
        " assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])


def test_minimised_score_is_honoured(tmp_path: Path) -> None:
    trials = trials_of(30)
    run = write_run(tmp_path, trials, proxies=[{"name": "robust", "direction": "minimize"}])
    page = check_page(page_of(run))
    lowest = min(trials, key=lambda trial: trial["scores"]["robust"])
    assert f"Candidate {lowest['id']}, first of 30" in page.text
    assert "lower is better" in page.text and "higher is better" not in page.text
    record = read_run(run)
    tau = size_correlation(ranking(record.trials, record.proxies), record.proxies[0], lambda trial: trial.params)
    assert tau is not None and tau.tau < 0  # larger cells have higher, hence worse scores


def test_several_proxies_rank_by_mean_rank(tmp_path: Path) -> None:
    trials = trials_of(4, ("a", "b"))
    for trial, (a, b) in zip(trials, ((1.0, 1.0), (4.0, 9.0), (3.0, 2.0), (2.0, 3.0)), strict=True):
        trial["scores"] = {"a": a, "b": b}
    proxies = [{"name": "a", "direction": "maximize"}, {"name": "b", "direction": "minimize"}]
    record = read_run(write_run(tmp_path, trials, proxies=proxies))
    # ranks of a: 4 1 2 3; of b (lower is better): 1 4 2 3; means: 2.5 2.5 2 3
    assert [trial.id for trial in ranking(record.trials, record.proxies)] == [2, 0, 1, 3]
    page = check_page(page_of(tmp_path))
    assert "best mean rank" in page.text
    assert sum(tag == "svg" and a.get("class") == "chart" for tag, a in page.tags) == 6


def test_a_key_proposed_twice_counts_once(run: Path) -> None:
    record = read_run(run)
    assert sum(trial.status == "ok" for trial in record.trials) == 27
    assert len(ranking(record.trials, record.proxies)) == 26


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
        "command": evil,
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
        ("manifest.json", '{"format": 1, "configuration": {}, "proxies": ["robust"]}', "proxy 'robust'"),
        (
            "manifest.json",
            '{"format": 1, "configuration": {}, "proxies": [{"name": "a", "direction": "up"}]}',
            "direction 'up', expected maximize or minimize",
        ),
        ("trials.jsonl", "{\n{}\n", "line 1"),
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


def test_command_prints_the_path(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(run)]) == 0
    assert capsys.readouterr().out == f"{run / 'report.html'}\n"


def test_command_to_repeat_is_what_the_search_reads(run: Path) -> None:
    assert command(read_run(run)) == (
        "python -m nas.search --space darts --searcher random --proxy robust --budget 30 --seed 7 --dataset digits"
        " --channels 16 --ntk-images 50 --curvature-images 8 --require 'normal.skip_connect == 2'"
    )


def test_search_cost_names_the_processor(tmp_path: Path) -> None:
    gpu = {"device": "cuda:0", "accelerator": "a card"}
    assert search_cost(read_run(write_run(tmp_path, trials_of(1000, seconds=1.487), hardware=gpu))) == (
        "0.0172", "GPU-days",
    )  # fmt: skip
