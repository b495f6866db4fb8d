"""Scores at a reduced fidelity: what is smaller, that the search keeps them apart, and what is said of them."""

from __future__ import annotations

import dataclasses
import json
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch

from nas import Search
from nas.executors.candidates import Candidate
from nas.executors.local import LocalExecutor
from nas.executors.supervised import failed_trial
from nas.runs.reader import read_run
from nas.search import main
from nas.searching.fidelity import reduced, reduced_spec
from nas.searching.loop import Loop
from nas.searching.scoring import Scorer
from proxies import get_proxy
from search_spaces import get_space
from search_spaces.base import NetworkSpec
from searchers.base import Searcher, Trial
from searchers.objectives import SingleScore, rank
from tests.nas.commands import slip, timeless
from tests.nas.report.pages import check_page, page_of
from tests.nas.searching.runs import copy_of
from tests.searchers.toy_space import Digits, ToySpace

WORDS = shlex.split(
    "--searcher successive_halving --eta 2 --rungs 2 --channels 2 --layers 2 --ntk-images 6 --curvature-images 2"
    " --proxy robust --proxy naswot --candidates-per-step 4 --budget 18 --threads 1 --seed 3"
)


def test_the_fourth_root_of_the_fidelity_scales_each_number() -> None:
    assert [reduced(number, 1 / 9) for number in (16, 8, 50, 1)] == [9, 5, 29, 1]
    assert reduced(50, 1 / 3) == 38


@pytest.mark.parametrize(
    ("space", "full", "size"),
    [
        ("darts", (16, 8), (9, 5)),
        ("darts", (1, 1), (1, 1)),
        ("nasbench201", (16, 15), (9, 9)),  # 9 layers rather than 8.66, and 3 cells for each stage
        ("nasbench201", (4, 3), (2, 3)),
    ],
)
def test_sizes_at_a_ninth(space: str, full: tuple[int, int], size: tuple[int, int]) -> None:
    spec = NetworkSpec(channels=full[0], layers=full[1], classes=7)
    found = reduced_spec(spec, get_space(space), 1 / 9)
    assert found == dataclasses.replace(spec, channels=size[0], layers=size[1])
    residual = NetworkSpec(channels=16, layers=None)
    assert reduced_spec(residual, get_space("wide_resnet"), 1 / 9) == dataclasses.replace(residual, channels=9)


def test_a_number_that_networks_do_not_have_stays_none() -> None:
    spec = NetworkSpec(channels=None, layers=None)
    assert reduced_spec(spec, ToySpace(), 1 / 9) == spec


def test_a_score_is_that_of_a_search_with_the_reduced_numbers() -> None:
    space = get_space("darts")
    images = torch.rand(20, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    cell = space.parse("DARTS_V2")
    candidate = Candidate(0, space.canonical(cell), cell, 1 / 9)

    def scored(
        spec: NetworkSpec, candidate: Candidate[Any], most: int, ntk: int, curvature: int, snip: int
    ) -> Trial[Any]:
        proxies = [
            get_proxy("robust", ntk_images=ntk, curvature_images=curvature), get_proxy("naswot"), get_proxy("params"),
            get_proxy("snip", images=snip),
        ]  # fmt: skip
        return Scorer(space, spec, proxies, images[:most], torch.arange(most) % 5, seed=3)(candidate)

    full = NetworkSpec(channels=8, layers=5, image_size=(16, 16))
    small = dataclasses.replace(full, channels=5, layers=3)
    low = scored(full, candidate, 20, 14, 2, 7)
    alone = scored(small, dataclasses.replace(candidate, fidelity=1.0), 12, 8, 1, 4)
    assert low.status == "ok" and low.scores == alone.scores
    assert (low.params, low.macs) == dataclasses.astuple(space.cost(cell, full)) != (alone.params, alone.macs)
    assert low.fidelity == 1 / 9 and not low.ranked and alone.ranked and low.seed == alone.seed


def test_a_candidate_that_no_worker_could_finish_keeps_its_fidelity() -> None:
    space = ToySpace()
    scorer = Scorer(space, NetworkSpec(), [get_proxy("params")], torch.zeros(1, 3, 2, 2), torch.zeros(1).long(), seed=0)
    trial = failed_trial(scorer, Candidate(0, "1-1", (1, 1), 0.5), "lost")
    assert (trial.status, trial.fidelity, trial.params) == ("failed", 0.5, 2 * 16)


def test_only_the_full_size_is_ranked() -> None:
    trials = [
        Trial(id=i, key=str(i), genotype=i, seed=0, status="ok", scores={"s": float(i)}, fidelity=share)
        for i, share in enumerate((1.0, 1.0, 0.5))
    ]
    assert [trial.id for trial in rank(trials, SingleScore("s", "maximize"), 3)] == [1, 0]


class Twice(Searcher[Digits]):
    """Proposes one cell again and again, at the full size and at half of the effort in turns."""

    def ask(self, n: int) -> list[Digits]:
        return [(1,) * 8] * n

    def fidelities(self, n: int) -> list[float]:
        return [1.0 if (self.told + i) % 2 else 0.5 for i in range(n)]

    def observe(self, trial: Trial[Digits]) -> None:
        return


def test_a_score_is_reused_at_its_own_fidelity_only() -> None:
    space, recorded = ToySpace(), []
    scorer = Scorer(
        space, NetworkSpec(channels=16), [get_proxy("params")], torch.zeros(1, 3, 2, 2), torch.zeros(1).long(), seed=0
    )
    loop = Loop(
        Twice(space, seed=0, objectives=SingleScore("params", "maximize")), scorer, LocalExecutor(1), budget=6, step=3,
        violation=lambda genotype: None, record=recorded.append, keep=lambda state, trials: None,
    )  # fmt: skip
    trials = loop.run()
    assert [(trial.fidelity, trial.scores["params"]) for trial in trials] == [(0.5, 8 * 13), (1.0, 8 * 16)] * 3
    assert [trial.seconds > 0 for trial in trials] == [True, True, *[False] * 4] and loop.reused == 4


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("whole") / "run"
    assert main([*WORDS, "--quiet", "--out", str(path)]) == 0
    return path


@pytest.mark.parametrize("count", [5, 10])  # within a step
def test_a_run_that_ended_early_is_resumed_to_the_same_end(count: int, whole: Path, tmp_path: Path) -> None:
    path = copy_of(whole, tmp_path / "run")
    stored = (whole / "trials.jsonl").read_text().splitlines(keepends=True)
    (path / "trials.jsonl").write_text("".join(stored[:count]) + stored[count][:20])
    assert main(["--resume", str(path), "--quiet", "--no-report"]) == 0
    assert timeless(path) == timeless(whole)
    assert (path / "best.json").read_bytes() == (whole / "best.json").read_bytes()


def test_another_fidelity_is_another_history(whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = copy_of(whole, tmp_path / "run")
    first, second = (json.loads(line) for line in (whole / "trials.jsonl").read_text().splitlines()[:2])
    del first["fidelity"]
    (path / "trials.jsonl").write_text(f"{json.dumps(first)}\n{json.dumps(second)}\n")
    assert "at fidelity 0.5: it was written by another version" in slip(capsys, "--resume", str(path))


def test_the_page_says_how_many_were_scored_small(whole: Path) -> None:
    page, trials = check_page(page_of(whole)), read_run(whole).trials
    small = sum(trial.fidelity < 1 for trial in trials)
    assert 9 <= small < 18 and {trial.fidelity for trial in trials} == {0.5, 1.0}
    assert f"{18 - small} scored, {18 - small} of them distinct; {small} others at a reduced size, which are not" in (
        page.text
    )
    assert "Candidates without a score" not in page.text
    assert json.loads((whole / "best.json").read_text())["id"] in [trial.id for trial in trials if trial.ranked]


def test_the_table_says_it_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--searcher", "successive_halving", "--proxy", "params", "--budget", "4", "--out", str(tmp_path / "run")]
    assert main([*words, "--channels", "4", "--layers", "3", "--no-report"]) == 0
    assert "3 scored at a reduced size and not ranked" in capsys.readouterr().out


def test_proxies_that_compare_candidates_compare_those_of_the_full_size(tmp_path: Path) -> None:
    result = Search(
        "darts", "successive_halving", ["az_nas"], budget=8, channels=2, layers=2, eta=2, rungs=2,
        candidates_per_step=2, report=False, threads=1, out=tmp_path / "run",
    ).run()  # fmt: skip
    assert result.top and all("az_nas" in trial.scores and trial.fidelity == 1 for trial in result.top)


def test_a_table_has_no_fidelities(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--table", "nas_robbench_201", "--metric", "cifar10/autoattack", "--searcher", "successive_halving"]
    assert "needs networks of several sizes, which --table does not hold" in slip(capsys, *words)
