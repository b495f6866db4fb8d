"""Searches with objectives: what is weighed, the front that is kept, and what is printed."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from nas import Search, UserError
from nas.runs.front import read_front
from nas.search import main
from nas.searching import forward_pass
from searchers.fronts import front_of
from tests.nas.commands import slip, timeless

pytestmark = pytest.mark.usefixtures("somewhere_else")

SMALL: dict[str, Any] = {"channels": 2, "layers": 2, "report": False}
WORDS = shlex.split("--channels 2 --layers 2 --no-report --quiet --out run")


def entry(path: str, name: str) -> Any:
    return json.loads((Path(path) / name).read_text())


@pytest.mark.parametrize("name", ["synflow", "snip(images=4)", "az_nas"])
def test_a_single_objective_is_what_a_proxy_was(name: str) -> None:
    options = {"population": 3, "tournament": 2, "budget": 8, **SMALL}
    found = Search("darts", proxies=name, out="proxy", **options).run()
    again = Search("darts", objective=name, out="objective", **options).run()
    assert timeless(Path("proxy")) == timeless(Path("objective"))
    assert [trial.id for trial in found.top] == [trial.id for trial in again.top]
    assert found.best.scores == again.best.scores
    assert again.front == [again.best] and found.front == [found.best]
    assert not Path("objective/front.json").exists()
    stored = entry("objective", "manifest.json")
    assert (stored["configuration"]["proxy"], stored["configuration"]["latency_batch"]) == ([], None)
    assert "objectives" not in entry("proxy", "manifest.json")
    assert [each["direction"] for each in stored["objectives"]] == ["maximize"]


def test_sizes_are_minimized_and_other_proxies_only_shown() -> None:
    result = Search("darts", "random", "params", objective="macs", budget=6, out="run", **SMALL).run()
    assert result.best.macs == min(trial.macs for trial in result.trials)
    assert result.best.scores == {"macs": result.best.macs, "params": result.best.params}


@pytest.mark.parametrize("searcher", ["random", "regularized_evolution", "nsga2"])
def test_several_objectives_give_a_front_and_its_knee(searcher: str) -> None:
    own = {"random": {}, "regularized_evolution": {"population": 5, "tournament": 2}, "nsga2": {"population": 5}}
    objective = ("synflow", "params", "memory_mib")
    result = Search("darts", searcher, objective=objective, budget=15, out="run", **own[searcher], **SMALL).run()
    values = {t.id: (t.scores["synflow"], -t.scores["params"], -t.scores["memory_mib"]) for t in result.trials}
    expected = {
        number for number, own in values.items()
        if not any(all(a >= b for a, b in zip(other, own, strict=True)) and other != own for other in values.values())
    }  # fmt: skip
    assert {trial.id for trial in result.front} == expected and 1 < len(expected) < 15
    scores = [trial.scores["synflow"] for trial in result.front]
    assert scores == sorted(scores, reverse=True)
    stored = entry("run", "front.json")
    assert [each["id"] for each in stored["front"]] == [trial.id for trial in result.front]
    assert stored["knee"] == result.best.id == entry("run", "best.json")["id"] and 0 < stored["hypervolume"] < 1
    assert stored["front"][0].keys() == entry("run", "best.json").keys()
    assert stored["objectives"] == [
        {"name": "synflow", "direction": "maximize"},
        {"name": "params", "direction": "minimize"},
        {"name": "memory_mib", "direction": "minimize"},
    ]
    kept = read_front(Path("run"))
    assert front_of(kept.trials, kept.directions).knee.id == kept.knee
    assert result.top[0].id in expected and len(result.top) == 5


def test_a_killed_search_has_the_same_front_in_the_end() -> None:
    words = ["--searcher", "nsga2", "--population", "4", "--budget", "13", "--candidates-per-step", "5"]
    words += ["--objective", "synflow", "--objective", "memory_mib", *WORDS[:-1]]
    assert main([*words, "whole"]) == 0 and main([*words, "run"]) == 0
    lines = Path("run/trials.jsonl").read_bytes().splitlines(keepends=True)
    Path("run/trials.jsonl").write_bytes(b"".join(lines[:7]) + lines[7][:50])  # as kill -9 leaves it
    for name in ("best.json", "front.json"):
        Path("run", name).unlink()
    assert main(["--resume", "run", "--quiet", "--no-report"]) == 0
    assert timeless(Path("run")) == timeless(Path("whole"))
    for name in ("best.json", "front.json"):
        assert Path("run", name).read_bytes() == Path("whole", name).read_bytes()


def test_a_stored_latency_is_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    words = [*WORDS, "--searcher", "random", "--budget", "4", "--objective", "latency_ms", "--objective", "params"]
    assert main(words) == 0
    trials = [json.loads(line) for line in Path("run/trials.jsonl").read_text().splitlines()]
    for trial in trials:
        trial["scores"]["latency_ms"] = 100.0 + trial["id"]
    Path("run/trials.jsonl").write_text("".join(json.dumps(trial) + "\n" for trial in trials))
    monkeypatch.setattr(forward_pass, "latency_ms", lambda network, images: pytest.fail("measured again"))
    assert main(["--resume", "run", "--quiet", "--no-report"]) == 0
    assert entry("run", "front.json")["best"]["latency_ms"] == 100.0


def test_a_limit_on_the_latency(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Cells of more parameters stand for slower ones: nsga2 gets below the limit although no trial begins there."""
    monkeypatch.setattr(
        forward_pass, "latency_ms", lambda network, images: (sum(p.numel() for p in network.parameters()) / 1000, 0.0)
    )
    words = [*WORDS, *shlex.split("--searcher nsga2 --population 5 --budget 40 --objective params --max-latency-ms 2")]
    assert main(words) == 0
    trials = timeless(Path("run"))
    above = [trial for trial in trials if trial["params"] > 2000]
    assert above and all(trial["status"] == "infeasible" and trial["violation"] > 0 for trial in above)
    assert above[0]["scores"] == {"latency_ms": above[0]["params"] / 1000, "latency_ms_spread": 0.0}
    assert all(trial["status"] == "ok" for trial in trials if trial["params"] <= 2000)
    assert entry("run", "best.json")["scores"].keys() == {"params", "latency_ms", "latency_ms_spread"}
    assert main([*WORDS[:-1], "none", "--proxy", "params", "--budget", "3", "--max-latency-ms", "0.001"]) == 1
    assert "the last reason: latency_ms must be at most 0.001, got " in capsys.readouterr().err


def test_the_table_shows_the_front(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    words = [*WORDS, "--searcher", "random", "--budget", "12", "--objective", "synflow", "--objective", "params"]
    words.remove("--quiet")
    assert main(words) == 0
    out = capsys.readouterr().out
    front, best = entry("run", "front.json")["front"], entry("run", "best.json")
    rows = [line.split()[1] for line in out.splitlines() if line.startswith("│")]
    expected = ["knee" if each["id"] == best["id"] else str(place) for place, each in enumerate(front, start=1)]
    assert rows == expected and f"front of {len(front)} cells among 12 darts" in out
    assert f"knee:   {best['genotype']}\n" in out
    assert "rows:   maximize synflow and minimize params: no candidate is better by all" in out
    assert main(["--resume", "run", "--json", "--no-report"]) == 0
    assert [each["id"] for each in json.loads(capsys.readouterr().out)["front"]] == [each["id"] for each in front]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--objective latency", "unknown objective 'latency'; did you mean latency_ms"),
        ("--objective robst", "unknown objective 'robst'; did you mean robust"),
        ("--objective latency_ms(batch=2)", "unknown objective 'latency_ms(batch=2)'"),
        ("--objective snip(imags=4)", "the proxy snip has no option 'imags'"),
        ("--objective", "--objective needs a value, got nothing"),
        ("--objective params --objective params", "--objective must name each objective once, got params, params"),
        ("--objective a --objective b --objective c --objective d --objective e --objective f", "at most 5 objectives"),
        ("--objective params --latency-batch 2", "--latency-batch needs --objective latency_ms or memory_mib"),
        ("--objective latency_ms --latency-batch 0", "--latency-batch must be at least 1, got 0"),
        ("--objective params --max-latency-ms 0", "--max-latency-ms must be above 0, got 0"),
        ("--objective params --metric cifar10/pgd", "--metric cifar10/pgd needs --table"),
    ],
)
def test_slips_are_one_line(words: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert message in slip(capsys, *WORDS, *words.split())
    assert not Path("run").exists()


def test_a_run_is_resumed_with_its_objectives_only() -> None:
    Search("darts", "random", objective=["params", "macs"], budget=3, out="run", **SMALL).run()
    with pytest.raises(UserError, match=r"another configuration: --objective \['params'\]"):
        Search("darts", "random", objective=["params"], budget=3, out="run", resume=True, **SMALL).run()
