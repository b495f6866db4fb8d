from __future__ import annotations

import json
import statistics
from pathlib import Path

import pytest

from experiments.evolution_vs_random import Comparison, compare, main
from experiments.known_values import SignTest


def comparison(baseline: tuple[int, ...], challenger: tuple[int, ...]) -> Comparison:
    return Comparison(budget=1, baseline=baseline, challenger=challenger)


def test_sign_test_by_hand() -> None:
    found = comparison((1, 1, 1, 1, 5), (2, 2, 2, 0, 5))
    assert found.sign_test == SignTest(wins=3, losses=1)
    assert found.sign_test.p_value == pytest.approx(5 / 16)  # 3 or 4 heads of 4


def test_ties_alone_decide_nothing() -> None:
    found = comparison((1, 2), (1, 2))
    assert found.sign_test == SignTest(0, 0) and found.sign_test.p_value == 1.0


def test_both_begin_with_the_same_candidates() -> None:
    found = compare(budget=20, seeds=2)
    assert found.baseline == found.challenger
    assert found.baseline == compare(budget=20, seeds=2).baseline


def test_evolution_finds_more_at_300_candidates() -> None:
    found = compare(budget=300, seeds=10)
    assert statistics.median(found.challenger) > statistics.median(found.baseline)
    assert found.sign_test.p_value < 0.05


def test_prints_a_table_and_writes_its_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["--budget", "60", "--seeds", "2", "--out", str(tmp_path / "out.json")])
    figures = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    printed = capsys.readouterr().out
    assert "Most parameters among 60 candidates" in printed
    assert "sign test" in printed
    for name in ("random", "regularized_evolution"):
        assert len(figures["best_params"][name]) == 2
        assert figures["median_best_params"][name] == statistics.median(figures["best_params"][name])
        assert all(f"{params:,}" in printed for params in figures["best_params"][name])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--budget", "0"], "argument --budget: expected an integer from 1 on, got '0'"),
        (["--seeds", "many"], "argument --seeds: expected an integer from 1 on, got 'many'"),
        (["--out", "no/such/folder/out.json"], "expected a file in an existing folder, got 'no/such/folder/out.json'"),
        (["--out", "."], "expected a file in an existing folder, got '.'"),
        (["--channels", "3"], "unrecognized arguments: --channels 3"),
    ],
)
def test_a_wrong_argument_is_one_line_and_exit_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    assert message in printed.err
