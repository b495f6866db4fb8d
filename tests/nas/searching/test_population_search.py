"""Searches by proxies that compare candidates, from end to end."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nas import Search, SearchResult
from nas.report import write_report
from nas.searching.objectives import components
from proxies.az_nas import AzNas
from proxies.baselines import ConvCount, Params
from proxies.population import PopulationProxy
from proxies.r_score import RScore, Snap

BUDGET = 8
TINY: dict[str, Any] = {
    "budget": BUDGET, "channels": 4, "layers": 2, "ntk_images": 4, "curvature_images": 2, "seed": 1, "threads": 1,
    "candidates_per_step": 4, "population": 4, "tournament": 2,
}  # fmt: skip
AZ = ("az_expressivity", "az_progressivity", "az_trainability", "az_complexity")


class Distance(PopulationProxy):
    """How far a network's size lies from the population's mean; not in the registry."""

    name = "distance"
    direction = "minimize"
    components = (Params(), ConvCount())

    def _combined(self, columns: Mapping[str, np.ndarray]) -> np.ndarray:
        return np.abs(columns["params"] - columns["params"].mean())


def search(path: Path, proxies: Any, **options: Any) -> SearchResult:
    return Search("darts", "regularized_evolution", proxies, out=path, **{"report": False, **TINY, **options}).run()


@pytest.fixture(scope="module")
def az_nas(tmp_path_factory: pytest.TempPathFactory) -> SearchResult:
    return search(tmp_path_factory.mktemp("az_nas") / "run", "az_nas", report=True)


def test_candidates_have_the_scores_of_the_components(az_nas: SearchResult) -> None:
    assert all(set(trial.scores) == set(AZ) for trial in az_nas.trials if trial.status == "ok")


def test_the_best_is_best_among_all(az_nas: SearchResult) -> None:
    ok = {trial.key: trial for trial in az_nas.trials if trial.status == "ok"}
    values = AzNas().combine({name: [trial.scores[name] for trial in ok.values()] for name in AZ})
    assert az_nas.best.key == list(ok)[int(values.argmax())]
    assert az_nas.best.scores["az_nas"] == pytest.approx(values.max())
    tops = [trial.scores["az_nas"] for trial in az_nas.top]
    assert tops == sorted(tops, reverse=True)


def test_the_files_of_the_run(az_nas: SearchResult) -> None:
    best = json.loads((az_nas.path / "best.json").read_text())
    assert best["scores"] == az_nas.best.scores and set(best["scores"]) == {"az_nas", *AZ}
    (entry,) = json.loads((az_nas.path / "manifest.json").read_text())["proxies"]
    assert entry["name"] == "az_nas" and [part["name"] for part in entry["components"]] == list(AZ)
    page = (az_nas.path / "report.html").read_text()
    assert "az_nas compares the candidates of this run" in page
    assert "ranks first" not in page  # no note that best.json says otherwise
    assert "no finite score" not in page


def test_a_resumed_search_goes_on_as_it_would_have(az_nas: SearchResult, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    lines = (az_nas.path / "trials.jsonl").read_text().splitlines(keepends=True)
    (run / "trials.jsonl").write_text("".join(lines[:5]))
    (run / "manifest.json").write_text((az_nas.path / "manifest.json").read_text())
    resumed = search(run, "az_nas", resume=True)
    assert [trial.key for trial in resumed.trials] == [trial.key for trial in az_nas.trials]
    assert resumed.best.scores == pytest.approx(az_nas.best.scores)


def test_mixed_with_a_proxy_of_single_networks(tmp_path: Path) -> None:
    result = search(tmp_path / "run", ["r_score", "params"], report=True)
    assert all(set(trial.scores) == {"snap", "con_js", "params"} for trial in result.trials)
    assert set(result.best.scores) == {"r_score", "snap", "con_js", "params"}
    page = (tmp_path / "run" / "report.html").read_text()
    assert "r_score compares the candidates" in page and "ranks first" not in page


def test_a_single_candidate(tmp_path: Path) -> None:
    result = search(tmp_path / "run", "az_nas", budget=1, report=True)
    assert result.best.scores["az_nas"] == 0


def test_a_proxy_that_only_this_search_knows(tmp_path: Path) -> None:
    result = search(tmp_path / "run", [Distance()], report=True)
    distances = [trial.scores["distance"] for trial in result.top]
    assert distances == sorted(distances) and len(distances) > 1
    page = write_report(tmp_path / "run").read_text()
    assert "conv_count" in page and "distance compares" not in page


def test_a_component_asked_for_by_itself_is_scored_once() -> None:
    own = Snap(repeats=2)
    assert [each.name for each in components([RScore(), own])] == ["snap", "con_js"]
    assert components([RScore(), own])[0] is own
