"""A run as one HTML page: what it shows, what it survives, and that it needs nothing but itself."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import matplotlib
import pytest

from nas.report import write_report
from nas.report.__main__ import main
from nas.report.published import OWN
from nas.report.ranking import (
    ranking,
    size_correlation,
)
from nas.report.wording import amount, command, score, search_cost
from nas.runs.reader import read_run
from tests.nas.commands import ROOT
from tests.nas.report.pages import MANIFEST, check_page, page_of, trials_of, write_run


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


@pytest.mark.parametrize(
    ("recorded", "said"), [({"probe_images": 64}, "one batch of 64 images."), ({}, "one batch of images.")]
)
def test_how_many_images_the_scores_are_from(tmp_path: Path, recorded: dict[str, int], said: str) -> None:
    data = {**MANIFEST["data"], **recorded}
    assert said in check_page(page_of(write_run(tmp_path / "run", trials_of(3), data=data))).text


def test_a_proxy_with_options_is_set_beside_its_published_figure(tmp_path: Path) -> None:
    names = ["snip(images=64)", "zen(images=8)"]
    entries = [{"name": name, "direction": "maximize"} for name in names]
    page = check_page(page_of(write_run(tmp_path / "run", trials_of(3, names), proxies=entries)))
    assert "snip this run takes it with other options, for which this is not the figure" in page.text
    assert "For snip(images=64), zen(images=8) there is no published figure" in page.text


def test_the_own_figures_are_those_of_the_results() -> None:
    lines = (ROOT / "docs" / "results" / "correlation-tiny-robustbench.md").read_text().splitlines()
    rows = {line.split("|")[1].strip(" *`"): line.split("|") for line in lines if line.startswith("|")}
    assert rows["robust"][2].split()[0] == OWN["tau"] and rows["params"][2].split()[0] == OWN["params"]
    assert rows["robust"][7].strip() == OWN["cells"]


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
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


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
