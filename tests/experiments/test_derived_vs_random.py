"""The comparison of given cells with random ones: what it says of accuracies, and that it runs."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from experiments.derived_vs_random import PGD, Trained, findings, main, save
from experiments.robustness_over_minutes import Point


def trained(name: str, params: int, robust: int) -> Trained:
    point = Point(
        images=100, method="fast", minutes=1.0, correct={"natural": 90, PGD: robust}, samples=200, interval=(1.0, 50.0)
    )
    return Trained(name, "a cell", params, 1000, point)


def test_a_cell_is_compared_with_the_random_ones_only() -> None:
    cells = [trained("mine", 30, 40), trained("other", 5, 90), trained("random 0", 10, 20), trained("random 1", 20, 30),
             trained("random 2", 40, 60)]  # fmt: skip
    mine, other, size = findings(cells)
    assert mine.startswith("mine is more robust than 2 of 3 random cells (9 to 99 %), and larger than 2 of them")
    assert other.startswith("other is more robust than 3 of 3 random cells") and other.endswith("larger than 0 of them")
    assert size.endswith("+1.00")


def test_the_table_holds_shares(tmp_path: Path) -> None:
    save([trained("mine", 30, 40), trained("random 0", 10, 20)], tmp_path)
    rows = list(csv.DictReader((tmp_path / "cells.csv").read_text().splitlines()))
    assert [(row["cell"], row["natural"], row["pgd-20"]) for row in rows] == [
        ("mine", "0.4500", "0.2000"), ("random 0", "0.4500", "0.1000"),
    ]  # fmt: skip
    assert (tmp_path / "cells.png").stat().st_size > 1000


@pytest.mark.slow
def test_the_command_trains_and_attacks_every_cell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = "--cell ROBUST_ZCP --random 2 --channels 4 --layers 3 --epochs 1 --images 200 --samples 20 --dataset digits"
    assert main([*words.split(), "--out", str(tmp_path)]) == 0
    assert "cell 0 is more robust than" in capsys.readouterr().out
    assert len(list(csv.DictReader((tmp_path / "cells.csv").read_text().splitlines()))) == 3


def test_an_unknown_cell_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--cell", "NO_SUCH_CELL", "--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
