"""Searches whose candidates are scored as one network."""

from __future__ import annotations

import dataclasses
import gc
import shlex
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nas import Search
from nas.executors.candidates import Candidate
from nas.executors.local import LocalExecutor
from nas.executors.stacks import stacked
from nas.search import main
from nas.searching import untrained
from nas.searching.scoring import Scorer
from nas.searching.untrained import automatic_stack
from proxies import get_proxy
from proxies.base import Probe, Proxy, ProxyError, Request
from search_spaces.base import NetworkSpec
from search_spaces.cells.stacked import StackedNetwork, bytes_per_image
from search_spaces.darts.space import DartsSpace
from searchers.base import Trial
from tests.nas.commands import timeless

pytestmark = pytest.mark.usefixtures("somewhere_else")
SPACE = DartsSpace()
BUDGET = 12


def search(out: str, **options: Any) -> Search:
    given = {
        "budget": BUDGET, "channels": 4, "layers": 3, "seed": 2, "report": False, "compare": "never", "threads": 1,
        "population": 4, "tournament": 2, "candidates_per_step": 5, "stack": 3,
    }  # fmt: skip
    return Search("darts", "regularized_evolution", ["snip(images=4)"], out=out, **{**given, **options})


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    path = tmp_path_factory.mktemp("whole") / "run"
    search(str(path)).run()
    return timeless(path)


@pytest.mark.parametrize("count", [1, 4, 6])
def test_whole_stacks_are_repeated_when_a_search_is_resumed(count: int, whole: list[dict[str, Any]]) -> None:
    finished: list[int] = []

    def interrupt(trial: Trial[Any]) -> None:
        finished.append(trial.id)
        if len(finished) == count:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        search("run").run(interrupt)
    assert len(timeless(Path("run"))) == count
    search("run", resume=True).run()
    assert timeless(Path("run")) == whole  # to the last digit, in the same order of ids


def test_threads_score_whole_stacks(whole: list[dict[str, Any]]) -> None:
    search("run", threads=2).run()
    assert sorted(timeless(Path("run")), key=lambda trial: trial["id"]) == whole


def test_scores_are_those_without_stacks_but_for_rounding(whole: list[dict[str, Any]]) -> None:
    search("run", stack=1).run()
    single = timeless(Path("run"))
    assert [trial["genotype"] for trial in single] == [trial["genotype"] for trial in whole]
    differences = [one["scores"] != two["scores"] for one, two in zip(single, whole, strict=True)]
    assert any(differences)  # it was another way
    for one, two in zip(single, whole, strict=True):
        assert one["scores"] == pytest.approx(two["scores"], rel=1e-2)


def test_another_size_of_stacks_is_another_history(capsys: pytest.CaptureFixture[str]) -> None:
    search("run", budget=2).run()
    assert main(["--resume", "run", "--stack", "2", "--quiet"]) == 2
    assert "stack" in capsys.readouterr().err


class Broken(Proxy):
    """Fails for the second candidate; announces nothing and is not served by a stack."""

    name = "broken"
    direction = "maximize"
    cost = "count"

    def score(self, probe: Probe) -> float:
        if probe.params == SPACE.cost(candidates()[1].genotype, NetworkSpec(channels=4, layers=3)).params:
            raise RuntimeError(f"{probe.params} parameters")
        return float(probe.params)


def scorer(stack: int, *more: Proxy) -> Scorer[Any]:
    images, labels = torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(0)), torch.arange(6)
    proxies = [get_proxy("grad_norm"), get_proxy("zico", images=4), *more]
    return Scorer(SPACE, NetworkSpec(channels=4, layers=3), proxies, images, labels, seed=3, stack=stack)


def candidates(*names: str, count: int = 4) -> list[Candidate[Any]]:
    rng = np.random.default_rng(1)
    cells = [*map(SPACE.parse, names), *(SPACE.sample(rng) for _ in range(count))]
    return [Candidate(number, SPACE.canonical(cell), cell) for number, cell in enumerate(cells)]


def run(scorer: Scorer[Any], todo: list[Candidate[Any]]) -> list[Trial[Any]]:
    made = LocalExecutor(1).run(scorer, stacked(todo, scorer.stack))
    return [dataclasses.replace(trial, seconds=0.0) for trial in made]


def test_other_proxies_are_scored_one_by_one() -> None:
    single, together = run(scorer(1), candidates()), run(scorer(4), candidates())
    for one, two in zip(single, together, strict=True):
        assert one.scores["zico"] == two.scores["zico"]
        assert one.scores["grad_norm"] == pytest.approx(two.scores["grad_norm"], rel=2e-3)


def test_a_failed_candidate_does_not_affect_its_stack() -> None:
    single, together = run(scorer(1, Broken()), candidates()), run(scorer(4, Broken()), candidates())
    assert [(trial.status, trial.error) for trial in together] == [(trial.status, trial.error) for trial in single]
    assert {trial.status for trial in together} == {"ok", "failed"}


class Asking(Proxy):
    """Cannot say what it needs of the second candidate; is served by a stack where there is one."""

    name = "asking"
    direction = "maximize"
    cost = "forward"
    stackable = True

    def requests(self, probe: Probe) -> list[Request]:
        if probe.params == SPACE.cost(candidates()[1].genotype, NetworkSpec(channels=4, layers=3)).params:
            raise ProxyError("nothing to ask for")
        return []

    def score(self, probe: Probe) -> float:
        return float(len(list(self.requests(probe))))


def test_a_proxy_that_cannot_plan_fails_its_candidate_only() -> None:
    single, together = run(scorer(1, Asking()), candidates()), run(scorer(4, Asking()), candidates())
    assert together == single and [trial.status for trial in single] == ["ok", "failed", "ok", "ok"]


class Noisy(Proxy):
    """Uses torch's global generator, and leaves it as it was."""

    name = "noisy"
    direction = "maximize"
    cost = "count"

    def score(self, probe: Probe) -> float:
        for _ in range(300):
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(1)
                found = float(torch.randn(100).sum())
        return found


def test_weights_drawn_meanwhile_do_not_depend_on_the_global_generator() -> None:
    histories = [run(scorer(4, *more), candidates(count=12)) for more in ((), (Noisy(),), (Noisy(),))]
    scores = [[trial.scores["grad_norm"] for trial in trials] for trials in histories]
    assert scores[0] == scores[1] == scores[2]


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ("--space robnet --stack 4", "--stack 4 has no use with the space robnet"),
        ("--space darts_imagenet --stack 2", "--stack 2 has no use with the space darts_imagenet"),
        ("--proxy zico --stack 4", "--stack 4 has no use with these proxies"),
        ("--objective robust --objective latency_ms --stack 4", "--stack 4 has no use with latency_ms"),
        ("--stack 0", "--stack must be"),
    ],
)
def test_a_stack_that_would_have_no_effect_is_refused(
    options: str, part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*shlex.split(options), "--budget", "2", "--out", "run"]) == 2
    assert part in capsys.readouterr().err and not Path("run").exists()


def test_the_size_of_stacks_follows_from_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    small, large = NetworkSpec(channels=16, layers=8), NetworkSpec(channels=36, layers=20)
    assert automatic_stack(large, 50, "cpu") == 1
    assert automatic_stack(NetworkSpec(channels=16, layers=None), 50, "cuda") == 1
    assert bytes_per_image(small) == pytest.approx(13e6, rel=0.02)
    for memory, expected in ((16, (16, 3)), (80, (16, 15)), (140, (16, 16)), (1, (1, 1))):
        monkeypatch.setattr(untrained, "UNKNOWN_MEMORY", memory * 2**30)
        assert (automatic_stack(small, 50, "cuda"), automatic_stack(large, 50, "cuda")) == expected


def test_cells_that_cannot_be_stacked_are_scored_one_by_one() -> None:
    todo = candidates("CROZE", count=3)
    assert run(scorer(4), todo) == run(scorer(1), todo)


@pytest.mark.parametrize("most", [1, 2, 3])
def test_where_memory_does_not_suffice_stacks_are_halved(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    forward, sizes, held = StackedNetwork.forward, [], []

    def limited(self: StackedNetwork, images: torch.Tensor) -> torch.Tensor:
        gc.collect()
        assert not any(each() is not None for each in held)  # what did not suffice is free again
        sizes.append(self.width)
        if self.width > most:
            held.append(weakref.ref(images))
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(self, images)

    monkeypatch.setattr(StackedNetwork, "forward", limited)
    one, todo = scorer(4), candidates(count=8)
    first, second = run(one, todo[:4]), run(one, todo[4:])
    assert [trial.status for trial in first + second] == ["ok"] * 8 and max(sizes) == 4
    assert run(scorer(4), todo[4:]) == second  # as when a search is resumed
