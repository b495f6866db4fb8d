from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from experiments.front_on_table import MeasuredObjectives, bootstrap, compare, main
from nas.tabular import load_table, nas_robbench_201
from searchers.objectives import front_numbers
from tests.nas.tabular.synthetic import CODES, accuracies, write_tables

NAMES = ["cifar10/autoattack", "params"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tables(tmp_path_factory.mktemp("table"), accuracies(CODES[::11]))


@pytest.fixture(autouse=True)
def _own_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nas_robbench_201, "PUBLISHED", {})


def test_hypervolume_of_the_front_so_far(folder: Path) -> None:
    objectives = MeasuredObjectives(load_table("nas_robbench_201", folder), NAMES)
    assert objectives.hypervolume(objectives.signed) == pytest.approx(1) == objectives.hypervolume(objectives.front)
    assert len(objectives.front) > 3 and objectives.directions["params"] == "minimize"
    found = compare(objectives, ["random", "nsga2"], budget=60, seeds=2)
    for name, curves in found.curves.items():
        assert curves.shape == (2, 60) and (np.diff(curves) >= -1e-12).all() and 0 < curves.max() <= 1 + 1e-12
        for seed, front in enumerate(found.found[name]):
            assert (front_numbers(front) == 0).all()
            assert objectives.hypervolume(front) == pytest.approx(curves[seed, -1])
        low, high = found.interval(name)
        assert (low <= curves.mean(axis=0) + 1e-12).all() and (curves.mean(axis=0) <= high + 1e-12).all()
        assert 0 <= found.recovered(name) <= 1
    assert (found.curves["random"][:, :20] == found.curves["nsga2"][:, :20]).all()  # the first population
    mean, least, most = found.advantage("nsga2")
    assert mean == pytest.approx((found.curves["nsga2"] - found.curves["random"])[:, -1].mean())
    assert least <= mean <= most


def test_the_bootstrap_interval_of_a_mean() -> None:
    samples = np.random.default_rng(0).normal(size=(400, 1))
    low, high = bootstrap(samples)[:, 0]
    assert high - low == pytest.approx(2 * 1.96 / 20, rel=0.15) and low < samples.mean() < high


def test_prints_and_writes_its_figures(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--data-dir", str(folder), "--objectives", *NAMES, "--budget", "30", "--seeds", "2"]
    assert main([*words, "--searchers", "random", "nsga2", "--out", str(tmp_path / "made")]) == 0
    printed = capsys.readouterr().out
    assert "maximize `cifar10/autoattack` and minimize `params`" in printed and "| nsga2 | " in printed
    assert (tmp_path / "made/front.md").read_text() in printed
    figures = json.loads((tmp_path / "made/comparison.json").read_text())
    assert set(figures["hypervolume"]) == {"random", "nsga2"} and figures["seeds"] == 2
    with open(tmp_path / "made/curves.csv", newline="") as file:
        assert len(list(csv.DictReader(file))) == 60
    assert (tmp_path / "made/front.png").read_bytes().startswith(b"\x89PNG")


def test_slips_are_one_line_and_exit_2(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = ["--data-dir", str(folder), "--objectives"]
    for words, message in (
        ([*good, "params"], "--objectives must be two or more, at least one of the table, got params"),
        ([*good, "params", "macs"], "at least one of the table, got params, macs"),
        ([*good, "params", "cifar10/aa"], "unknown objective on nas_robbench_201 'cifar10/aa'"),
        ([*good, *NAMES, "--searchers", "nsga"], "unknown searcher 'nsga'; did you mean nsga2?"),
    ):
        assert main(words) == 2
        printed = capsys.readouterr()
        assert printed.out == "" and printed.err.count("\n") == 1 and message in printed.err
