"""The winner of a search beside random cells of its size and published cells."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nas import Search
from nas.runs.comparison import Comparison, read_comparison
from nas.search import main
from nas.searching import comparison
from nas.searching.comparison import random_cells
from nas.tabular import nas_robbench_201
from searchers.objectives import Joint, SingleScore
from tests.nas.commands import timeless
from tests.nas.tabular.synthetic import CODES, accuracies, write_tables

pytestmark = pytest.mark.usefixtures("somewhere_else")

SMALL: dict[str, Any] = {"channels": 2, "layers": 2, "budget": 6, "report": False, "executor": "local", "threads": 1}


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparison, "RANDOM", 12)


def search(out: str, **options: Any) -> Search:
    given = {**SMALL, "compare": "always", "require": ["normal.skip_connect == 1"], **options}
    return Search("darts", "random", given.pop("proxies", "params"), out=out, **given)


def lines(run: str) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in Path(run, "comparison.jsonl").read_text().splitlines()]
    return sorted(({**line, "seconds": 0} for line in found), key=lambda line: line["id"])


def test_counts_are_those_of_the_trials() -> None:
    one = search("run", proxies="snip")
    result = one.run()
    found = result.comparison
    assert found is not None and found == read_comparison(Path("run"))
    written, best, space = lines("run"), result.best, one.space
    random = [line for line in written if line["kind"] == "random"]
    published = {line["name"]: line for line in written if line["kind"] == "published"}
    assert len(random) == len({line["key"] for line in random} - {best.key}) == len(found.random) == 12
    assert all(abs(line["params"] - best.params) <= 0.05 * best.params for line in random)
    assert all(space.count(space.parse(line["genotype"]), "normal.skip_connect") == 1 for line in random)
    assert {name: space.parse(line["genotype"]) for name, line in published.items()} == space.published()
    score = best.scores["snip"]
    assert found.beaten == sum(line["scores"]["snip"] < score for line in random)
    assert set(found.better) == {name for name, line in published.items() if line["scores"]["snip"] > score}
    again = Search(
        "darts", "regularized_evolution", "snip", start="CROZE", **{**SMALL, "budget": 1}, out="again"
    ).run()
    assert again.best.scores == published["CROZE"]["scores"] and again.best.seed == published["CROZE"]["seed"]


@pytest.mark.parametrize("after", [0, 20])
def test_interrupted_it_loses_nothing_and_goes_on(after: int) -> None:
    expected = search("whole").run()
    seen: list[int] = []

    def interrupt(trial: Any, total: int) -> None:
        seen.append(total)
        if len(seen) > after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt, match="go on with its comparison: python -m nas.search --resume run"):
        search("run").run(compared=interrupt)
    assert json.loads(Path("run/manifest.json").read_text())["status"] == "finished"
    assert json.loads(Path("run/best.json").read_text())["key"] == expected.best.key
    kept = Path("run/comparison.jsonl").read_bytes()
    assert kept.count(b"\n") == after + 1 and read_comparison(Path("run")) is None
    Path("run/comparison.jsonl").write_bytes(kept + b'{"id": 27, "ke')  # as a killed process leaves it
    assert search("run", resume=True).run().comparison == expected.comparison
    assert Path("run/comparison.jsonl").read_bytes().startswith(kept)
    assert lines("run") == lines("whole") and timeless(Path("run")) == timeless(Path("whole"))


def test_by_default_only_if_it_adds_at_most_a_fifth(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparison, "RANDOM", 4)  # and 16 published cells
    for budget, compared in ((99, False), (100, True)):
        run = search(f"run{budget}", budget=budget, proxies="params", compare="auto").run()
        assert (run.comparison is not None) == Path(f"run{budget}/comparison.json").exists() == compared
    plain = search("plain", budget=100, proxies="params", compare="never").run()
    assert plain.comparison is None and timeless(Path("plain")) == timeless(Path("run100"))


def test_a_table_is_compared_among_its_own_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nas_robbench_201, "PUBLISHED", {})
    write_tables(Path("data/nas_robbench_201"), accuracies(CODES[::6]))
    one = Search(
        None, "random", table="nas_robbench_201", metric="cifar10/autoattack", data_dir="data", budget=40, out="run"
    )
    result = one.run()
    found, held = result.comparison, one.source.held()
    assert found is not None and held is not None and 0 < len(found.random) <= 12 and found.published == {}
    assert {line["key"] for line in lines("run")} < set(held)
    assert "Would a random cell of this size have done?" in Path("run/report.html").read_text()
    assert found.sentences[0].split(";")[0] in Path("run/report.html").read_text()


def test_of_several_objectives_the_first_counts() -> None:
    one = search("run", proxies=["params", "snip"], compare="never")
    result = one.run()
    one.source.objectives = Joint((SingleScore("snip", "minimize"), SingleScore("params", "maximize")))
    fields = comparison._standing(one.source, result.best, result.trials, [None] * 5 + ["Known"])
    scores = [trial.scores["snip"] for trial in result.trials]
    assert fields["first_of_several"] and fields["objective"] == "snip" and list(fields["random"]) == scores[:5]
    assert fields["beaten"] == sum(score > fields["winner"] for score in scores[:5])
    assert fields["better"] == (("Known",) if scores[5] < fields["winner"] else ())


def test_proxies_combined_by_rank_are_compared_by_their_mean_rank() -> None:
    found = search("run", proxies=["params", "macs"]).run().comparison
    assert found is not None and found.objective == "mean rank"
    assert found.beaten == sum(np.array(found.random) < found.winner)


def test_draws_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    one = search("run", compare="never")
    best = one.run().best
    monkeypatch.setattr(comparison, "DRAWS", 50)
    assert random_cells(one.source, lambda genotype: "refused", best, 0) == ([], 50)
    few, draws = random_cells(one.source, lambda genotype: None, best, 0)
    assert draws <= 50 and few == random_cells(one.source, lambda genotype: None, best, 0)[0]
    assert few != random_cells(one.source, lambda genotype: None, best, 1)[0]


WORDS = Comparison(
    objective="robust", first_of_several=False, winner=1.0, random=(0.0,) * 97 + (2.0,) * 3, beaten=97, draws=400,
    published={"A": 0.5, "B": 1.5}, better=("B",),
)  # fmt: skip


def test_words_and_the_exact_interval() -> None:
    assert WORDS.interval == pytest.approx((91.48, 99.38), abs=0.005)  # Clopper and Pearson's, of 97 out of 100
    assert WORDS.sentences == [
        "better than 97 of 100 random cells of its size by robust (95 %: 91..99)",
        "place 2 of 3 with the published cells, which are of other sizes, after B",
    ]
    none = Comparison(**{**vars(WORDS), "random": (), "beaten": 0, "published": {}, "better": (), "draws": 20_000})
    assert none.sentences == ["no random cell of its size has a score; 20,000 were drawn"]


def test_it_is_printed_and_what_is_damaged_is_a_warning(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--searcher", "random", "--proxy", "params", "--channels", "4", "--layers", "3", "--budget", "4"]
    assert main([*words, "--no-report", "--compare", "always", "--out", "run"]) == 0
    said = capsys.readouterr().out
    assert " of 12 random cells of its size by params (95 %: " in said and " of 17 with the published cells" in said
    Path("run/comparison.jsonl").write_text('{"id": "a"}\n')
    assert main(["--resume", "run", "--no-report"]) == 0
    out, err = capsys.readouterr()
    assert "warning: the winner is not compared with other cells: " in err and "comparison.jsonl line 1" in err
    assert "best:" in out and "random cells" not in out


def test_a_damaged_result_is_one_line() -> None:
    Path("comparison.json").write_text('{"format": 1, "objective": "snip"}')
    with pytest.raises(ValueError, match="comparison.json is damaged: first_of_several is missing"):
        read_comparison(Path())
