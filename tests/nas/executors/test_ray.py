"""Workers as Ray actors: the same history as in one process, whatever happens to them."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nas import Search
from nas.errors import UserError
from nas.executors.ray import RayCrew
from nas.executors.supervised import SupervisedExecutor
from nas.runs.directory import holds_run
from searchers import SEARCHERS, get_searcher
from searchers.base import Trial
from tests.nas.commands import slip, small_options
from tests.nas.executors.conftest import ray_processes
from tests.nas.executors.faulty import COUNT, FaultyScorer, candidates

SMALL: dict[str, Any] = {
    "channels": 2, "layers": 2, "ntk_images": 10, "curvature_images": 2, "budget": 24, "candidates_per_step": 8,
    "seed": 5, "report": False,
}  # fmt: skip


def executor(workers: int = 2, **options: Any) -> SupervisedExecutor:
    return SupervisedExecutor(RayCrew(None, workers, 1.0, 0.0), **{"chunk_seconds": 0.05, **options})


def timeless(trials: Any) -> list[Trial[Any]]:
    return sorted((dataclasses.replace(trial, seconds=0.0) for trial in trials), key=lambda trial: trial.id)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> list[Trial[Any]]:
    return timeless(map(FaultyScorer(tmp_path_factory.mktemp("undisturbed")), candidates()))


class Kept(SupervisedExecutor):
    """Its actors, with the scorer of the first search, also score the candidates of later ones: theirs is equal."""

    def open(self, scorer: Any) -> None:
        if self._scorer is None:
            super().open(scorer)

    def close(self) -> None:
        return


def test_the_history_is_that_of_one_process(ray: Any, tmp_path: Path) -> None:
    local = Search("darts", "random", ["robust"], out=tmp_path / "local", threads=1, **SMALL).run()
    for workers in (1, 3):
        path = tmp_path / f"{workers}"
        search = Search("darts", "random", ["robust"], out=path, executor="ray", workers=workers, **SMALL)
        assert timeless(search.run().trials) == timeless(local.trials)


def test_the_history_of_every_searcher_is_that_of_one_process(ray: Any, tmp_path: Path) -> None:
    kept = Kept(RayCrew(None, 2, 1.0, 0.0), chunk_seconds=0.05)
    try:
        for searcher in SEARCHERS:
            own = small_options(searcher, population=4, tournament=2)
            budget, step = (2, 1) if get_searcher(searcher).needs_material else (6, 3)
            options = {**SMALL, "channels": 4, "layers": 3, "budget": budget, "candidates_per_step": step, **own}
            local = Search("darts", searcher, ["robust"], out=tmp_path / searcher, threads=1, **options).run()
            ray_run = Search("darts", searcher, ["robust"], out=tmp_path / f"{searcher} ray", executor=kept, **options)
            assert timeless(ray_run.run().trials) == timeless(local.trials), searcher
    finally:
        SupervisedExecutor.close(kept)


def test_a_killed_worker_costs_nothing(ray: Any, tmp_path: Path, undisturbed: list[Trial[Any]]) -> None:
    scorer = FaultyScorer(tmp_path, {3: "kill once", 11: "kill once"}, seconds=0.01)
    with executor() as crew:
        assert timeless(crew.run(scorer, candidates())) == undisturbed
        facts = crew.facts()
    assert facts["workers_lost"] == 2 and facts["retries"] >= 2
    assert scorer.attempts(3) == scorer.attempts(11) == 2


@pytest.mark.parametrize(
    ("fault", "reason", "options"),
    [("kill", "worker died", {}), ("hang", "took longer than 2 s", {"candidate_timeout": 2.0}),
     ("raise", "outside of what the scorer catches", {})],
)  # fmt: skip
def test_the_candidate_at_fault_fails_and_no_other(
    fault: str, reason: str, options: Any, ray: Any, tmp_path: Path, undisturbed: list[Trial[Any]]
) -> None:
    scorer = FaultyScorer(tmp_path, {6: fault}, seconds=0.01)
    with executor(**options) as crew:
        trials = timeless(crew.run(scorer, candidates()))
    assert [trial for trial in trials if trial.id != 6] == [trial for trial in undisturbed if trial.id != 6]
    assert trials[6].status == "failed" and reason in str(trials[6].error)
    assert trials[6].params == undisturbed[6].params and trials[6].seed == undisturbed[6].seed
    assert 2 <= scorer.attempts(6) <= 3


def test_a_worker_killed_from_outside(ray: Any, tmp_path: Path, undisturbed: list[Trial[Any]]) -> None:
    scorer, trials = FaultyScorer(tmp_path, seconds=0.05), []
    with executor() as crew:
        for trial in crew.run(scorer, candidates()):
            trials.append(trial)
            if len(trials) == 4:
                last = max(tmp_path.glob("*.attempts"), key=lambda path: path.stat().st_mtime)
                os.kill(int(last.read_text().split()[-1]), 9)
    assert timeless(trials) == undisturbed


def test_progress_is_told(ray: Any, tmp_path: Path) -> None:
    with executor(workers=1) as crew:
        assert crew.status() == ""
        running = crew.run(FaultyScorer(tmp_path, {0: "kill once"}, seconds=0.01), candidates())
        said = [crew.status() for _ in running]
    assert all(each.startswith("1 worker, ") and each.endswith(" in flight, 1 lost, 1 retried") for each in said), said


def test_the_callers_cluster_is_left_running(ray: Any, tmp_path: Path) -> None:
    with executor(workers=1) as crew:
        list(crew.run(FaultyScorer(tmp_path), candidates(2)))
        facts = crew.facts()
    assert ray.is_initialized() and facts["workers_lost"] == 0
    assert [node["cpus"] for node in facts["nodes"]] == [4.0]


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        ("--workers 2", ["--workers has no use without --executor ray"]),
        ("--executor ray --workers 0", ["--workers must be at least 1, got 0"]),
        ("--executor ray --threads 2", ["--threads has no use with --executor ray"]),
        ("--executor ray --gpus-per-worker 1.5", ["fraction up to 1 or a whole number, got 1.5"]),
        ("--executor ray --gpus-per-worker -1", ["fraction up to 1 or a whole number, got -1"]),
        ("--executor ray --gpus-per-worker 1 --device cpu", ["has no use with --device cpu"]),
        ("--executor ray --gpus-per-worker 0 --device cuda", ["needs --gpus-per-worker above 0"]),
        ("--executor ray --device cuda:1", ["--device must be cpu, cuda or auto with --executor ray"]),
        ("--executor ray --cpus-per-worker 0", ["--cpus-per-worker must be above 0, got 0"]),
        ("--executor ray --chunk-seconds nan", ["--chunk-seconds must be a number, got nan"]),
        ("--executor ray --candidate-timeout 0", ["--candidate-timeout must be above 0"]),
        ("--executor rya", ["--executor", "rya"]),
        ("--executor ray --table nas_robbench_201 --metric cifar10/autoattack", ["--executor has no use with --table"]),
    ],
)
def test_bad_options_are_one_line(words: str, parts: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    said = slip(capsys, *words.split())
    assert all(part in said for part in parts), said


class TestPrivateCluster:
    """Starts and ends clusters of its own, so it must not share the module's."""

    @pytest.fixture(autouse=True)
    def _none_joined(self, ray: Any) -> Iterator[None]:
        ray.shutdown()
        yield
        assert not ray.is_initialized()

    def test_it_ends_with_the_search_and_leaves_no_process(self, tmp_path: Path, undisturbed: list[Trial[Any]]) -> None:
        before = ray_processes()
        with executor(workers=1) as crew:
            assert timeless(crew.run(FaultyScorer(tmp_path), candidates(COUNT))) == undisturbed
            assert ray_processes() - before
            (node,) = crew.facts()["nodes"]
            assert node["cpus"] >= 1
        deadline = time.monotonic() + 20
        while ray_processes() - before and time.monotonic() < deadline:
            time.sleep(0.1)
        assert not ray_processes() - before

    def test_a_machine_too_small_is_one_line(self) -> None:
        crew = SupervisedExecutor(RayCrew(None, None, 1.0, 4.0))
        with pytest.raises(UserError, match="this machine cannot hold a worker of 1 CPUs and 4 GPUs: it has"):
            list(crew.run(FaultyScorer(Path()), candidates(1)))

    def test_an_address_where_nobody_is(self, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
        words = f"--executor ray --address 127.0.0.1:1 --budget 2 --proxy params --out {tmp_path / 'run'}"
        assert "no Ray cluster can be joined at 127.0.0.1:1 (--address or RAY_ADDRESS)" in slip(capsys, *words.split())
        assert not holds_run(tmp_path / "run")
