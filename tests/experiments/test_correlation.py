from __future__ import annotations

import csv
import json
import multiprocessing
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import kendalltau

import proxies
from experiments.correlation import experiment, scoring
from experiments.correlation.__main__ import main
from experiments.correlation.picture import wrapped
from experiments.correlation.score_log import ScoreLog
from experiments.correlation.scoring import Record
from nas.tabular.base import Entry, Table
from proxies.base import Probe, Proxy, ProxyError
from proxies.baselines import Params
from search_spaces import get_space
from search_spaces.base import NetworkSpec

METRIC = "cifar10/pgd"
NAMES = ("params", "macs", "conv_count")
SPEC = NetworkSpec(channels=4, layers=3)
CHEAP = ["--dataset", "digits", "--images", "4", "--bootstrap", "60", "--workers", "1"]


def synthetic_table(*_: Any) -> Table:
    """Twelve cells whose accuracy is their size, up to noise."""
    space, rng = get_space("nasbench201"), np.random.default_rng(5)
    entries: dict[str, Entry] = {}
    while len(entries) < 12:
        cell = space.sample(rng)
        worth = space.cost(cell, SPEC).params / 1000
        accuracies = (30 + worth + rng.normal(0, 0.5), 60 + worth + rng.normal(0, 2))
        entries[space.canonical(cell)] = Entry(str(len(entries)), str(cell), space.canonical(cell), accuracies)
    return Table(
        name="nas_bench_201_r", title="Twelve", space="nasbench201", spec=SPEC, metrics=(METRIC, "cifar10/clean"),
        entries=tuple(entries.values()), whole=12, kind="cells", training="made up", source="nowhere", files={"a": "b"},
    )  # fmt: skip


class FailsOnLarge(Proxy):
    """Minus the parameter count, of small networks only; lower is better."""

    name = "fails_on_large"
    direction = "minimize"
    cost = "forward"

    def score(self, probe: Probe) -> float:
        if probe.params > 12_000:
            raise ProxyError("the network is too large")
        return float("inf") if probe.params < 4_000 else -float(probe.params)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., int]:
    """The command on the synthetic table, its output in ``tmp_path / "out"``."""
    monkeypatch.setattr(experiment, "load_table", synthetic_table)
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.chdir(tmp_path)
    return lambda *words: main([*CHEAP, "--table", "nas_bench_201_r", "--out", "out", *words])


def results() -> dict[str, dict[str, Any]]:
    found = json.loads(Path("out/correlation.json").read_text())
    return {each["name"]: each for each in found["results"]}


def test_the_whole_command(run: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--proxy", "naswot", "--proxy", "az_nas", "--seeds", "2") == 0
    printed, said = capsys.readouterr()
    assert said.startswith("warning: The proxies see images of digits, ")
    assert "Only 12 cells: the intervals themselves are rough" in printed.replace("\n", " ")
    assert "naswot" in printed and "measured clean accuracy" in printed and "Twelve: holds 12 of 12 cells" in printed
    found, table = results(), synthetic_table()
    assert set(found) == {"naswot", "az_nas", *NAMES, "measured clean accuracy"}
    accuracy = table.values(METRIC)
    params = [get_space("nasbench201").cost(get_space("nasbench201").parse(e.key), SPEC).params for e in table.entries]
    assert found["params"]["tau"]["value"] == pytest.approx(kendalltau(params, accuracy).statistic)
    assert found["params"]["gain"]["value"] is None and len(found["params"]["tau_by_seed"]) == 2
    records = [json.loads(line) for line in Path("out/scores.jsonl").read_text().splitlines()]
    assert len(records) == 24 and {record["seed"] for record in records} == {0, 1}
    naswot = [np.mean([r["scores"]["naswot"] for r in records if r["key"] == e.key]) for e in table.entries]
    assert found["naswot"]["tau"]["value"] == pytest.approx(kendalltau(naswot, accuracy).statistic)
    gain = found["naswot"]["tau"]["value"] - found["params"]["tau"]["value"]
    assert found["naswot"]["gain"]["value"] == pytest.approx(gain)
    assert found["naswot"]["tau"]["low"] <= found["naswot"]["tau"]["value"] <= found["naswot"]["tau"]["high"]
    assert found["naswot"]["seconds"] > 0 and found["az_nas"]["missing"] == 0
    with open("out/correlation.csv", newline="") as file:
        rows = {row["name"]: row for row in csv.DictReader(file)}
    assert float(rows["naswot"]["tau"]) == pytest.approx(found["naswot"]["tau"]["value"], abs=1e-5)
    assert Path("out/correlation.png").read_bytes().startswith(b"\x89PNG")
    page = Path("out/table.md").read_text()
    assert "| **params** |" in page and "python -m experiments.correlation --table nas_bench_201_r" in page
    assert "--proxy naswot --proxy az_nas" in page and "torch" in page


def test_a_proxy_that_fails_on_some_cells_loses_no_others(
    run: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = {"fails_on_large": FailsOnLarge, "params": Params}
    original = proxies.get_proxy
    monkeypatch.setattr(scoring, "get_proxy", lambda name, **o: made[name]() if name in made else original(name, **o))
    assert run("--proxy", "fails_on_large", "--proxy", "grad_norm") == 0
    found, table = results(), synthetic_table()
    space = get_space("nasbench201")
    params = np.array([space.cost(space.parse(e.key), SPEC).params for e in table.entries])
    kept = (params <= 12_000) & (params >= 4_000)
    failing = found["fails_on_large"]
    assert 2 < failing["cells"] == kept.sum() < 12 and failing["missing"] == 12 - kept.sum()
    tau = kendalltau(params[kept], table.values(METRIC)[kept]).statistic
    assert failing["tau"]["value"] == pytest.approx(tau) and failing["gain"]["value"] == pytest.approx(0)
    assert any("too large" in reason for reason in failing["reasons"])
    assert found["grad_norm"]["cells"] == found["params"]["cells"] == 12
    assert "cells left out" in Path("out/table.md").read_text()


def test_long_names_break_at_their_options(
    run: Callable[..., int], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert run("--proxy", "az_expressivity(images=4)", "--proxy", "robust(ntk_images=4, curvature_images=4)") == 0
    printed, bar = capsys.readouterr()
    lines = [line.strip().split("  ")[0] for line in printed.splitlines()]
    for part in ("robust", "(curvature_images=4,", "ntk_images=4)", "az_expressivity", "(images=4)"):
        assert part in lines
    assert bar.rstrip().splitlines()[-1].startswith("bootstrap ") and "measured" not in bar.rstrip().splitlines()[-1]
    assert wrapped("robust(curvature_images=4, ntk_images=6)", 24) == "robust\n(curvature_images=4,\nntk_images=6)"
    assert wrapped("snip(images=4)", 24) == "snip(images=4)"


def test_every_seed_draws_anew(run: Callable[..., int]) -> None:
    assert run("--proxy", "grad_norm", "--proxy", "zen", "--seeds", "2", "--cells", "4") == 0
    records = [json.loads(line) for line in Path("out/scores.jsonl").read_text().splitlines()]
    for name in ("grad_norm", "zen"):
        assert len({record["scores"][name] for record in records if name in record["scores"]}) > 4


def test_counting_needs_no_images_and_takes_all_cells(run: Callable[..., int]) -> None:
    assert run("--proxy", "params", "--dataset", "folder:nowhere") == 0
    assert results()["params"]["cells"] == 12
    assert json.loads(Path("out/correlation.json").read_text())["data"] is None


def test_cells_are_spread_over_the_metric(run: Callable[..., int]) -> None:
    assert run("--proxy", "params", "--cells", "4", "--seed", "3") == 0
    chosen = json.loads(Path("out/correlation.json").read_text())["cells"]
    ranks = np.argsort(np.argsort(synthetic_table().values(METRIC)))
    assert sorted(ranks[int(id)] // 3 for id in chosen["ids"]) == [0, 1, 2, 3]
    assert chosen["rule"] == f"4 of 12, one from each of 4 equal slices by {METRIC}, drawn with seed 3"


def test_resumes_after_any_line(run: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--proxy", "grad_norm", "--seeds", "2"]
    assert run(*words) == 0
    whole, log = results(), Path("out/scores.jsonl")
    lines = log.read_text().splitlines(keepends=True)
    log.write_text("".join(lines[:7]) + lines[7][:30])
    assert main(["--resume", "out", "--workers", "1"]) == 0
    again = log.read_text().splitlines(keepends=True)
    assert len(again) == 24 and again[:7] == lines[:7]
    assert {n: each["tau"] for n, each in results().items()} == {n: each["tau"] for n, each in whole.items()}
    capsys.readouterr()
    assert run("--resume", "--seeds", "3", "--images", "7") == 2
    assert "--images 7 (was 4), --seeds 3 (was 2)" in capsys.readouterr().err
    assert run(*words) == 2
    assert "already holds a run; pass --resume" in capsys.readouterr().err
    log.write_text("".join(lines[:3]) + "{}\n" + lines[4])
    assert run("--resume") == 2
    assert "line 4 is no record of scores" in capsys.readouterr().err


def test_interrupted(
    run: Callable[..., int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    original = scoring.score

    def interrupted_later(*arguments: Any) -> Any:
        if Path("out/scores.jsonl").exists() and len(Path("out/scores.jsonl").read_text().splitlines()) == 5:
            raise KeyboardInterrupt
        return original(*arguments)

    monkeypatch.setattr(scoring, "score", interrupted_later)
    assert run("--proxy", "params") == 130
    said = capsys.readouterr().err
    assert "interrupted; 5 networks scored are kept; to go on: python -m experiments.correlation --resume out" in said
    monkeypatch.setattr(scoring, "score", original)
    assert run("--resume") == 0 and results()["params"]["cells"] == 12


def test_want_of_memory_is_no_record(
    run: Callable[..., int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    original, log = Params.score, Path("out/scores.jsonl")

    def scarce(proxy: Params, probe: Probe) -> float:
        if log.exists() and len(log.read_text().splitlines()) == 5:
            raise MemoryError("no room")
        return original(proxy, probe)

    monkeypatch.setattr(Params, "score", scarce)
    assert run("--proxy", "params") == 1
    said = capsys.readouterr().err
    assert "error: MemoryError: no room; 5 networks scored are kept; to go on: python -m experiments" in said
    monkeypatch.setattr(Params, "score", original)
    *lines, last = log.read_text().splitlines(keepends=True)
    failed = {**json.loads(last), "scores": {}, "errors": {"params": "MemoryError: no room"}}  # as stored before
    log.write_text("".join(lines) + json.dumps(failed) + "\n")
    assert run("--resume") == 0 and results()["params"]["cells"] == 12


def test_a_killed_worker_is_told_and_loses_nothing_finished(
    run: Callable[..., int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def append_and_kill(log: ScoreLog, record: Record) -> None:
        original(log, record)
        if len(log.read()) == 3:
            os.kill(multiprocessing.active_children()[0].pid or 0, signal.SIGKILL)

    original = ScoreLog.append
    monkeypatch.setattr(ScoreLog, "append", append_and_kill)
    assert run("--proxy", "grad_norm", "--workers", "2") == 1
    said = capsys.readouterr().err
    assert "error: a worker process was killed by SIGKILL (out of memory?" in said
    assert "to go on: python -m experiments.correlation --resume out" in said and not multiprocessing.active_children()
    kept = Path("out/scores.jsonl").read_text()
    assert len(kept.splitlines()) >= 3
    monkeypatch.setattr(ScoreLog, "append", original)
    assert run("--resume") == 0
    again = Path("out/scores.jsonl").read_text()
    assert again.startswith(kept) and len(again.splitlines()) == 12


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--table", "nothing"], "unknown table 'nothing'"),
        (["--metric", "cifar10/pdg"], "unknown metric of nas_bench_201_r 'cifar10/pdg'; did you mean cifar10/pgd"),
        (["--proxy", "naswto"], "unknown proxy 'naswto'; did you mean naswot"),
        (["--proxy", "macs", "--proxy", "macs"], "--proxy must name each proxy once"),
        (["--proxy", "naswot", "--dataset", "digitz"], "unknown data set 'digitz'"),
        (["--images", "0"], "--images must be at least 1, got 0"),
        (["--images", "100000", "--proxy", "naswot"], "--images: a balanced probe batch"),
        (["--proxy", "snip(images=64)"], "--proxy snip(images=64) needs 64 images, --images is 4"),
        (["--seeds", "two"], "--seeds must be a whole number, got two"),
        (["--cells", "3"], "--cells must be at least 4, got 3"),
        (["--celsl", "3"], "unknown option '--celsl'; did you mean --cells"),
        (["--resume"], "out is not a run directory"),
    ],
)
def test_slips_are_one_line_and_exit_2(
    run: Callable[..., int], capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    assert run(*words) == 2
    printed = capsys.readouterr()
    said = [line for line in printed.err.splitlines() if line.strip()]
    assert printed.out == "" and len(said) == 1 and said[0].startswith("error: ") and message in said[0]
    assert not Path("out").exists()


def test_print_config(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["--seeds", "3", "--print_config"])
    assert exit_.value.code == 0 and "seeds: 3" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize(
    ("table", "tau", "within"), [("tiny_robustbench", 0.414, 0.03), ("nas_robbench_201", 0.643, 0.01)]
)
def test_parameters_predict_as_published(
    table: str, tau: float, within: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = os.environ.get("NAS_DATA")
    if not folder or not (Path(folder) / table).is_dir():
        pytest.skip(f"needs the published tables: set NAS_DATA to the folder that holds {table}")
    monkeypatch.chdir(tmp_path)
    assert (
        main(["--table", table, "--data-dir", folder, "--proxy", "params", "--bootstrap", "100", "--out", "out"]) == 0
    )
    found = results()["params"]["tau"]
    assert found["value"] == pytest.approx(tau, abs=within) and found["low"] < tau < found["high"]
