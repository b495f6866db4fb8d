from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from experiments.known_values import best_so_far
from experiments.searchers_on_table import comparable, compare, main, mean_with_interval
from nas.errors import UserError
from nas.tabular import load_table, nas_robbench_201
from nas.tabular.base import Table
from search_spaces import get_space
from tests.nas.tabular.synthetic import CODES, accuracies, write_tables

METRIC = "cifar10/autoattack"
BOTH = ("random", "regularized_evolution")


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(nas_robbench_201, "PUBLISHED", {})
    return write_tables(tmp_path_factory.mktemp("table"), accuracies(CODES[::7]))


@pytest.fixture
def table(folder: Path) -> Table:
    return load_table("nas_robbench_201", folder)


def test_curves_rise_to_what_the_table_holds(table: Table) -> None:
    found = compare(table, METRIC, BOTH, budget=100, seeds=3)
    measured = [table.measured(key, METRIC) for key in table.keys]
    for curves in found.curves.values():
        assert curves.shape == (3, 100) and (np.diff(curves) >= 0).all() and curves.max() <= found.optimum
        assert np.isin(curves, measured).all()
    assert (found.curves["random"][:, :50] == found.curves["regularized_evolution"][:, :50]).all()
    assert found.optimum == max(measured)
    again = compare(table, METRIC, BOTH, budget=100, seeds=3)
    assert all((found.curves[name] == again.curves[name]).all() for name in BOTH)


def test_regrets_differences_and_sign_test(table: Table) -> None:
    found = compare(table, METRIC, BOTH, budget=120, seeds=4)
    mean, low, high = found.regret("random")
    assert (low <= mean).all() and (mean <= high).all()
    assert np.allclose(mean, found.optimum - found.curves["random"].mean(axis=0))
    test = found.sign_test("regularized_evolution")
    last = [found.curves[name][:, -1] for name in BOTH]
    assert (test.wins, test.losses) == ((last[1] > last[0]).sum(), (last[1] < last[0]).sum())
    assert found.difference("regularized_evolution")[0] == pytest.approx((last[0] - last[1]).mean())


def test_the_interval_of_a_mean() -> None:
    """Of normal numbers, it is the mean plus and minus 1.96 standard errors."""
    values = np.random.default_rng(0).normal(5, 2, size=(400, 1))
    mean, low, high = mean_with_interval(values)[:, 0]
    error = 1.96 * values.std() / 20
    assert (mean, low, high) == pytest.approx((values.mean(), mean - error, mean + error), abs=0.02)
    assert (mean_with_interval(np.full((5, 2), 3.0)) == 3.0).all()


def test_all_searchers_that_need_accuracies_only_are_compared() -> None:
    assert comparable()[0] == "random" and {"regularized_evolution", "local_search", "bananas"} <= set(comparable())
    assert "successive_halving" not in comparable()


def test_best_so_far_of_a_value() -> None:
    space = get_space("nasbench201")
    curve = best_so_far("random", space, lambda genotype: space.count(genotype, "none"), seed=0, budget=25)
    assert curve.shape == (25,) and curve[-1] == curve.max() <= 6


def test_prints_and_writes_its_figures(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    words = ["--table", "nas_robbench_201", "--metric", METRIC, "--data-dir", str(folder), "--budget", "60"]
    main([*words, "--searchers", *BOTH, "--seeds", "2", "--out", str(tmp_path / "made")])
    printed = capsys.readouterr().out
    assert "regularized_evolution" in printed and "best of the table" in printed and "of 6466 classes" in printed
    figures = json.loads((tmp_path / "made/comparison.json").read_text())
    assert figures["unit"] == "percent" and set(figures["best"]) == set(BOTH)
    with open(tmp_path / "made/curves.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 120
    ends = {row["searcher"]: float(row["mean_regret"]) for row in rows if row["evaluations"] == "60"}
    expected = {name: figures["optimum"] - np.mean(figures["best"][name]) for name in BOTH}
    assert ends == {name: pytest.approx(regret, abs=1e-4) for name, regret in expected.items()}
    assert figures["regret"]["random"][0] == pytest.approx(expected["random"])
    assert (tmp_path / "made/curves.png").read_bytes().startswith(b"\x89PNG")


def test_slips_are_one_line_and_exit_2(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = ["--table", "nas_robbench_201", "--metric", METRIC, "--data-dir", str(folder)]
    for words, message in (
        ([*good, "--searchers", "randm"], "unknown searcher 'randm'; did you mean random?"),
        ([*good, "--metric", "cifar10/aa"], "unknown metric of nas_robbench_201 'cifar10/aa'"),
        ([*good, "--table", "nothing"], "unknown table 'nothing'"),
        ([*good, "--data-dir", "nowhere"], "published at"),
        ([*good, "--budget", "0"], "expected an integer from 1 on"),
    ):
        assert main(words) == 2
        printed = capsys.readouterr()
        assert printed.out == "" and printed.err.count("\n") == 1 and message in printed.err


def test_unknown_metric(table: Table) -> None:
    with pytest.raises(UserError, match="unknown metric"):
        compare(table, "cifar10/x", BOTH, budget=1, seeds=1)
