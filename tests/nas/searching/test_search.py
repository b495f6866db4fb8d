"""The Python API from end to end, on digits with tiny networks."""

from __future__ import annotations

import dataclasses
import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from torch import nn

from nas import Search, SearchConfig, SearchResult, SearchStopped, UserError
from nas.runs.directory import read_manifest
from proxies.base import Probe, Proxy
from proxies.robust import Robust
from proxies.snip import Snip
from search_spaces import get_space
from search_spaces.base import NetworkSpec
from searchers.objectives import RankSum
from searchers.regularized_evolution import RegularizedEvolution
from tests.searchers.toy_space import Digits, ToySpace

BUDGET = 12
TINY: dict[str, Any] = {
    "budget": BUDGET, "channels": 4, "layers": 2, "ntk_images": 10, "curvature_images": 2, "seed": 1,
}  # fmt: skip
SPACE = get_space("darts")


class FewParameters(Proxy):
    """The parameters; fewer are better."""

    name = "few"
    direction = "minimize"
    cost = "count"

    def score(self, probe: Probe) -> float:
        return float(probe.params)


class Failing(FewParameters):
    def score(self, probe: Probe) -> float:
        raise RuntimeError("as arranged")


class LinearSpace(ToySpace):
    """Digits that are the widths of a linear network's layers."""

    name = "linear"

    def build(self, genotype: Digits, spec: NetworkSpec) -> nn.Module:
        widths = [spec.image_channels * spec.image_size[0] * spec.image_size[1], *(digit + 1 for digit in genotype)]
        layers = [nn.Linear(a, b) for a, b in zip(widths, [*widths[1:], spec.classes], strict=True)]
        return nn.Sequential(nn.Flatten(), *layers)


def search(path: Path, searcher: str = "random", proxies: Any = ("params",), **options: Any) -> SearchResult:
    space = options.pop("space", "darts")
    return Search(space, searcher, proxies, out=path, **{"report": False, **TINY, **options}).run()


def timeless(path: Path) -> list[dict[str, Any]]:
    """The lines of trials.jsonl in id order, without their seconds."""
    trials = [json.loads(line) for line in (path / "trials.jsonl").read_text().splitlines()]
    return [{**trial, "seconds": 0} for trial in sorted(trials, key=lambda trial: trial["id"])]


@pytest.fixture(scope="module")
def robust(tmp_path_factory: pytest.TempPathFactory) -> SearchResult:
    path = tmp_path_factory.mktemp("search") / "run"
    return search(path, "regularized_evolution", ["robust"], population=4, tournament=2, report=True, threads=1)


def test_a_result_holds_the_history_and_the_best(robust: SearchResult) -> None:
    assert [trial.id for trial in robust.trials] == list(range(BUDGET))
    assert {trial.status for trial in robust.trials} == {"ok"}
    scores = [trial.scores["robust"] for trial in robust.top]
    assert len(scores) == 5 and scores == sorted(scores, reverse=True)
    assert robust.best == robust.top[0] and scores[0] == max(trial.scores["robust"] for trial in robust.trials)
    assert robust.summary["trials"] == robust.summary["ok"] == BUDGET


def test_the_files_of_a_run(robust: SearchResult) -> None:
    names = {each.name for each in robust.path.iterdir()} - {".lock"}
    assert names == {"manifest.json", "trials.jsonl", "best.json", "report.html"}
    assert robust.report == robust.path / "report.html"
    best = json.loads((robust.path / "best.json").read_text())
    stored = {trial["id"]: trial for trial in timeless(robust.path)}[robust.best.id]
    for name in ("id", "key", "genotype", "seed", "scores", "params", "macs"):
        assert best[name] == stored[name]
    assert SPACE.parse(best["genotype"]) == SPACE.parse(json.dumps(best["genotype_json"])) == robust.best.genotype


def test_the_manifest_says_what_was_run(robust: SearchResult) -> None:
    manifest = json.loads((robust.path / "manifest.json").read_text())
    config = SearchConfig.of(**manifest["configuration"])
    assert (config.budget, config.channels, config.proxy) == (BUDGET, 4, ("robust",))
    assert config.searcher_options == RegularizedEvolution.Options(population=4, tournament=2)
    assert manifest["status"] == "finished" and manifest["summary"] == robust.summary
    assert manifest["seconds"] > 0 and manifest["started"] <= manifest["ended"]
    assert manifest["data"]["name"] == "digits" and len(manifest["data"]["fingerprint"]) == 16
    assert {"torch", "python"} <= set(manifest["versions"]) and manifest["hardware"]["device"]
    assert manifest["proxies"] == [{"name": "robust", "direction": "maximize"}]


@pytest.mark.parametrize("threads", [1, 2])
def test_the_same_search_gives_the_same_bytes(threads: int, robust: SearchResult, tmp_path: Path) -> None:
    again = search(
        tmp_path / "run", "regularized_evolution", ["robust"], population=4, tournament=2, threads=threads
    )  # fmt: skip
    assert timeless(again.path) == timeless(robust.path)
    assert (again.path / "best.json").read_bytes() == (robust.path / "best.json").read_bytes()


@pytest.mark.parametrize(("space", "layers"), [("darts", 8), ("nasbench201", 15)])
def test_the_space_decides_on_the_layers_unless_told(space: str, layers: int, tmp_path: Path) -> None:
    result = search(tmp_path / "run", space=space, layers=None, budget=3)
    manifest = json.loads((result.path / "manifest.json").read_text())
    assert manifest["configuration"]["layers"] == layers
    known = get_space(space)
    spec = NetworkSpec(channels=4, layers=layers, image_channels=3)
    assert result.best.params == known.cost(known.parse(result.best.key), spec).params
    for given in (None, layers):
        again = search(result.path, space=space, layers=given, budget=3, resume=True)
        assert [trial.key for trial in again.trials] == [trial.key for trial in result.trials]
    with pytest.raises(UserError, match=rf"--layers 3 \(was {layers}\)"):
        search(result.path, space=space, layers=3, budget=3, resume=True)


def test_layers_that_the_space_cannot_build_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="layers must be a multiple of 3 in the space 'nasbench201'.*, got 8"):
        search(tmp_path / "run", space="nasbench201", layers=8)
    assert not (tmp_path / "run").exists()


def test_another_seed_gives_another_history(tmp_path: Path) -> None:
    first, second = search(tmp_path / "1"), search(tmp_path / "2", seed=2)
    assert not {trial.key for trial in first.trials} & {trial.key for trial in second.trials}


def test_a_finished_run_resumes_to_itself(robust: SearchResult) -> None:
    watched: list[int] = []
    before = read_manifest(robust.path)
    again = Search(
        "darts", "regularized_evolution", ["robust"], out=robust.path, resume=True, report=False,
        **TINY, population=4, tournament=2,
    ).run(lambda trial: watched.append(trial.id))  # fmt: skip
    assert again.trials == [dataclasses.replace(t, seconds=round(t.seconds, 6)) for t in robust.trials]
    assert watched == list(range(BUDGET))
    after = read_manifest(robust.path)
    assert after["resumed"] == []
    for name in before.keys() - {"configuration", "seconds"}:  # the number of threads may change
        assert after[name] == before[name]


def test_who_scored_what_stays_on_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options: dict[str, Any] = {"budget": 4, "report": False, **TINY}
    monkeypatch.setattr("nas.runs.environment.git_commit", lambda: "before")
    Search("darts", "random", ["params"], out=tmp_path / "run", **options).run()
    trials = tmp_path / "run" / "trials.jsonl"
    trials.write_text("".join(trials.read_text().splitlines(keepends=True)[:2]))
    monkeypatch.setattr("nas.runs.environment.git_commit", lambda: "after")
    Search("darts", "random", ["params"], out=tmp_path / "run", resume=True, **options).run()
    manifest = read_manifest(tmp_path / "run")
    assert manifest["git_commit"] == "before"
    assert [each["git_commit"] for each in manifest["resumed"]] == ["after"]


def test_no_report_is_written_where_none_is_wanted(tmp_path: Path) -> None:
    result = search(tmp_path / "run")
    assert result.report is None and not (tmp_path / "run" / "report.html").exists()


def test_several_proxies_are_combined_by_rank(tmp_path: Path) -> None:
    result = search(tmp_path / "run", proxies=["params", FewParameters(), "macs"])
    ranks = RankSum({"params": "maximize", "few": "minimize", "macs": "maximize"})(result.trials)[:, 0]
    assert result.best.id == int(ranks.argmax())
    assert result.best.macs == max(trial.macs for trial in result.trials)  # the other two cancel each other
    assert set(result.best.scores) == {"params", "few", "macs"}


@pytest.mark.parametrize("searcher", ["random", "regularized_evolution"])
def test_a_proxy_s_direction_decides(searcher: str, tmp_path: Path) -> None:
    small = search(tmp_path / "small", searcher, FewParameters())
    large = search(tmp_path / "large", searcher, "params")
    assert small.best.params == min(trial.params for trial in small.trials)
    assert large.best.params == max(trial.params for trial in large.trials)


@pytest.mark.parametrize("report", [False, True])
def test_a_space_of_one_s_own(report: bool, tmp_path: Path) -> None:
    result = search(tmp_path / "run", proxies=["params", "grad_norm"], space=LinearSpace(), report=report)
    assert {trial.status for trial in result.trials} == {"ok"}
    best = json.loads((tmp_path / "run" / "best.json").read_text())
    assert best["genotype"] == LinearSpace().format(result.best.genotype) and best["genotype_json"] is None
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert manifest["configuration"]["space"] == "linear"
    assert (result.report is not None) == report


def test_constraints_hold_for_every_candidate(tmp_path: Path) -> None:
    free = search(tmp_path / "free")
    limit = sorted(trial.params for trial in free.trials)[BUDGET // 2]
    result = search(tmp_path / "run", require=["normal.skip_connect == 2", "reduce.none <= 0"], max_params=limit)
    assert all(SPACE.count(trial.genotype, "normal.skip_connect") == 2 for trial in result.trials)
    assert all(trial.params <= limit for trial in result.trials)
    assert result.summary["rejected"] > 0 and result.summary["infeasible"] == 0
    few_macs = search(tmp_path / "macs", max_macs=sorted(trial.macs for trial in free.trials)[3])
    assert all(trial.macs <= sorted(t.macs for t in free.trials)[3] for trial in few_macs.trials)


def test_impossible_constraints_leave_no_run_behind(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no candidate met the constraints in 50 draws"):
        search(tmp_path / "run", max_params=1, max_draws=50)
    assert not (tmp_path / "run").exists()


def test_the_published_sampler_counts_up_from_the_seed(tmp_path: Path) -> None:
    result = search(tmp_path / "run", sampler="published")
    assert [trial.genotype for trial in result.trials] == [SPACE.sample_published(1 + i) for i in range(BUDGET)]
    with pytest.raises(UserError, match="--sampler published needs --searcher random"):
        search(tmp_path / "other", "regularized_evolution", sampler="published")


def test_a_search_whose_candidates_all_fail_stops_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(SearchStopped, match="none of 12 candidates has a score; .*RuntimeError: as arranged"):
        search(tmp_path / "few", proxies=Failing())
    with pytest.raises(SearchStopped, match="20 of 20 candidates in a row failed; .*RuntimeError: as arranged"):
        search(tmp_path / "many", proxies=Failing(), budget=40)
    manifest = json.loads((tmp_path / "many" / "manifest.json").read_text())
    assert manifest["status"] == "failed" and manifest["summary"]["failed"] == 20


def test_an_interrupt_says_how_to_go_on(tmp_path: Path) -> None:
    path = tmp_path / "with space"

    def stop(trial: Any) -> None:
        if trial.id == 3:
            raise KeyboardInterrupt

    options = {**TINY, "threads": 1}
    with pytest.raises(KeyboardInterrupt, match=f"interrupted after 4 of 12 candidates; .* --resume '{path}'"):
        Search("darts", "random", "params", out=path, report=False, **options).run(stop)
    assert json.loads((path / "manifest.json").read_text())["status"] == "interrupted"
    Search("darts", "random", "params", out=path, resume=True, report=False, **options).run()
    assert timeless(path) == timeless(search(tmp_path / "other").path)


def test_a_run_is_not_written_over(robust: SearchResult) -> None:
    before = (robust.path / "trials.jsonl").read_bytes()
    with pytest.raises(UserError, match="already holds a run"):
        search(robust.path)
    assert (robust.path / "trials.jsonl").read_bytes() == before


def test_another_data_set_behind_the_same_name_is_refused(tmp_path: Path) -> None:
    search(tmp_path / "run")
    path = tmp_path / "run" / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["data"]["fingerprint"] = "0" * 16
    path.write_text(json.dumps(manifest))
    with pytest.raises(UserError, match="another data set: got [0-9a-f]{16}, expected 0{16}"):
        search(tmp_path / "run", resume=True)


def test_by_default_a_run_gets_a_name_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    paths = [Search("darts", "random", "params", report=False, **TINY).run().path for _ in range(2)]
    assert paths == [Path("runs/darts-random-seed1"), Path("runs/darts-random-seed1-2")]


def test_resume_needs_a_directory() -> None:
    with pytest.raises(UserError, match="resume needs the run directory"):
        Search(resume=True)


def test_the_batch_holds_what_the_proxies_look_at(tmp_path: Path) -> None:
    """Neither more, for options that none of them has a use for, nor less, for a proxy object with its own."""
    options = {**TINY, "ntk_images": 99_999, "report": False}
    for name, proxies, images in (
        ("snip", ["snip"], 50),
        ("own", ["robust(ntk_images=6)"], 50),
        ("spelled", ["snip(images=64)"], 64),
        ("object", [Snip(images=64)], 64),
        ("two objects", [Snip(images=64), Robust(ntk_images=60)], 64),
    ):
        result = Search("darts", "random", proxies, out=tmp_path / name, **{**options, "budget": 1}).run()
        assert result.summary["ok"] == 1
        assert json.loads((tmp_path / name / "manifest.json").read_text())["data"]["probe_images"] == images
    for asked, said in (
        ("robust", r"--proxy robust needs 99999 images \(--ntk-images\): .*expected a batch of at most 14\d\d"),
        (Snip(images=9999), "--proxy snip needs 9999 images: .*expected a batch of at most 14"),
    ):
        with pytest.raises(UserError, match=said):
            Search("darts", "random", [asked], out=tmp_path / "refused", **options).run()


def test_a_small_folder_is_enough_for_what_takes_few_images(tmp_path: Path) -> None:
    for part, number in itertools.product(("train", "test"), range(8)):
        folder = tmp_path / "images" / part / "ab"[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (30 * number, 10, 200)).save(folder / f"{number}.png")
    options = {**TINY, "dataset": f"folder:{tmp_path / 'images'}", "report": False}
    result = Search("darts", "random", ["synflow", "params"], out=tmp_path / "run", **options).run()
    assert result.summary["ok"] == BUDGET
    with pytest.raises(UserError, match=r"--proxy robust needs 10 images \(--ntk-images\): a balanced probe"):
        Search("darts", "random", ["robust"], out=tmp_path / "refused", **options).run()
